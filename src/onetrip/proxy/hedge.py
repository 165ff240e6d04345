"""When a request is worth a second attempt: by a fixed delay, or by how long its route takes.

The extra load is bounded by a ratio of the project's own requests, and, where the attempt is made
(`proxy/hedged`), by the retry budget of the node: a general slowness must not be answered with
more requests.

Source: J. Dean, L. A. Barroso, "The Tail at Scale", CACM 2013.
"""

from __future__ import annotations

from collections import deque

from onetrip.model.catalog import Catalog, Hedge
from onetrip.model.measure import RouteKey
from onetrip.observe.metrics import Metrics
from onetrip.proxy.downstream import ClientChannel
from onetrip.proxy.retry import RetryBudget
from onetrip.timing import Clock

LEAST_SAMPLES = 32
"""Latencies of a route before a quantile of them is believed: the 95th percentile of fewer is the
largest or the second largest one."""

RECENT = 256
"""Latencies of a route that count."""

MAX_ROUTES = 4096
"""Routes of one project remembered; a route more, and all are learned again."""

_EVERY = 16  # new latencies between two sorts
_RESERVE = 1  # a hedge allowed before the ratio of anything is known


class Latencies:
    """The latest latencies of one route, and a quantile of them."""

    __slots__ = ("_new", "_recent", "value")

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._new = 0
        self.value: float | None = None
        """The quantile, s; None while there are too few."""

    def add(self, latency: float, quantile: float) -> None:
        """Take one latency, s."""
        self._recent.append(latency)
        self._new += 1
        if self._new >= _EVERY and len(self._recent) >= LEAST_SAMPLES:
            self._new = 0
            ordered = sorted(self._recent)
            self.value = ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


class Plan:
    """When requests of one project are hedged, and how many.

    Attributes:
        hedge: what the project asks for.
        budget: hedges left, by its own ratio.
    """

    def __init__(self, hedge: Hedge, clock: Clock) -> None:
        self.hedge = hedge
        self.budget = RetryBudget(hedge.max_ratio, _RESERVE, clock)
        self._routes: dict[RouteKey, Latencies] = {}

    def delay(self, key: RouteKey) -> float | None:
        """Return how long to wait for the first attempt, s; None leaves it alone."""
        if self.hedge.after is not None:
            return self.hedge.after
        known = self._routes.get(key)
        return known.value if known is not None else None

    def note(self, key: RouteKey, latency: float) -> None:
        """Learn how long a request took to its first byte, s."""
        if self.hedge.after is not None:
            return
        known = self._routes.get(key)
        if known is None:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            known = self._routes[key] = Latencies()
        known.add(latency, self.hedge.quantile)


class Nobody(ClientChannel):
    """Stands in for the client of a second attempt: it takes interim responses and never leaves."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Drop it."""


class HedgeBook:
    """The plans of one node's projects."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._plans: dict[str, Plan] = {}

    def update(self, catalog: Catalog) -> None:
        """Hedge for the projects of `catalog` that ask for it; what was learned stays."""
        plans: dict[str, Plan] = {}
        for name, project in catalog.projects.items():
            if project.hedge is not None:
                known = self._plans.get(name)
                if known is None or known.hedge != project.hedge:
                    known = Plan(project.hedge, self._clock)
                plans[name] = known
        self._plans = plans

    def find(self, project: str) -> Plan | None:
        """Return the plan of a project, or None when it wants no hedging."""
        return self._plans.get(project)

    def count(self, outcome: str) -> None:
        """Count one hedge by its outcome: `won`, `lost`, `failed` or `denied`."""
        self._metrics.hedges.labels(outcome).inc()
