"""The relays of one backend: which seconds they all tell about, and the regression over those.

A second that a relay is silent about is dropped, since its counts are not complete. Relays that
have been silent for long are left out again. `estimate/flips` owns the requests and the clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onetrip.errors import Kind, OnetripError
from onetrip.estimate.tripfit import BACKGROUND, FIRST, OTHER, TripFit
from onetrip.estimate.windows import MAX_AGE
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import RouteKey, TripEvidence
from onetrip.model.relay import FlipReport, RelayStatus

MAX_DURATION = 2.5
"""Longest interval, s, whose trips can be placed in time; a longer one only adds to the totals."""

MAX_SKEW = 30.0
"""Greatest difference between a report's time and ours, s; beyond, it only adds to the totals."""

LEAST_COVERED = 0.95
"""Share of a cell that a relay's reports must cover."""

RELAY_MEMORY = 30.0
"""Seconds a silent relay is waited for; until then cells without it are dropped."""

MAX_ROUTES = 64
"""Routes told apart per backend; further ones share a column. Bounds a solution to about 5 ms."""

LEAST_REQUESTS = 5
"""Requests below which a route's trips are not told."""

MAX_ERROR = 10.0
"""Standard error, trips, above which evidence says nothing."""

SOLVE_EVERY = 5
"""Cells between two looks at the solution, so that what was fitted from it can be cached."""

_GONE = 0.05
"""Decayed requests below which a route's column is given to another one."""

MAX_RELAYS = 256
"""Relays of one backend."""

Cell = Mapping[RouteKey, float]
"""Requests of each route that ran in one second; the route "" stands for failed ones."""


@dataclass(slots=True)
class _Relay:
    """When one relay's counts began, and up to when they are known."""

    first_at: float
    last_at: float


class RelayStream:
    """The relays of one backend, and what they say about the routes that use it.

    Args:
        project: the only project whose requests come through them; "" for every bound one.
    """

    def __init__(self, backend: str, project: str) -> None:
        self.backend = backend
        self.project = project
        self._relays: dict[str, _Relay] = {}
        self._parts: dict[int, dict[str, tuple[float, float]]] = {}
        """Per cell and relay: the share covered, and the trips in it."""
        self._fit = TripFit(FIRST + MAX_ROUTES)
        self._columns: dict[RouteKey, int] = {}
        self._evidence: tuple[tuple[RouteKey, TripEvidence], ...] = ()
        self._kept: dict[RouteKey, TripEvidence] = {}
        """Of an earlier run of the node, for routes that this one knows too little of."""
        self._solved_at = 0
        self._background = 0.0
        self._heard_at, self._delay = -math.inf, 0.0
        self._totals = [0, 0, 0, 0]
        self._requests = self._attributed = 0.0

    def take(self, report: FlipReport, now: float, oldest: int) -> None:
        """Take one report; cells before `oldest` are settled already."""
        relay = self._relays.get(report.relay)
        start = report.at - report.duration
        if relay is None:
            if len(self._relays) >= MAX_RELAYS:
                raise OnetripError(
                    f"more than {MAX_RELAYS} relays of {self.backend}", kind=Kind.OVERLOADED
                )
            relay = self._relays[report.relay] = _Relay(start, start)
        counted = (report.trips, report.setup_trips, report.connections, report.opaque)
        self._totals = [a + b for a, b in zip(self._totals, counted, strict=True)]
        self._heard_at, self._delay = now, now - report.at
        relay.last_at = max(relay.last_at, min(report.at, now))
        if report.duration <= MAX_DURATION and abs(self._delay) <= MAX_SKEW:
            self._spread(report, start, oldest)

    def _spread(self, report: FlipReport, start: float, oldest: int) -> None:
        for index in range(max(oldest, math.floor(start)), math.ceil(report.at)):
            inside = min(report.at, index + 1.0) - max(start, float(index))
            part = self._parts.setdefault(index, {})
            covered, trips = part.get(report.relay, (0.0, 0.0))
            part[report.relay] = (
                covered + inside,
                trips + report.trips * inside / report.duration,
            )

    def settle(self, index: int, cell: Cell, environments: frozenset[EnvironmentId]) -> None:
        """Make an equation of one cell, if every relay has told about it."""
        part = self._parts.pop(index, {})
        for name in [n for n, r in self._relays.items() if r.last_at < index - RELAY_MEMORY]:
            del self._relays[name]
        expected = [name for name, relay in self._relays.items() if relay.first_at < index + 1]
        if not expected or any(part.get(n, (0.0, 0.0))[0] < LEAST_COVERED for n in expected):
            return
        trips = sum(part[name][1] for name in expected)
        requests: dict[int, float] = {}
        for key, count in cell.items():
            if key.environment in environments:
                column = self._column(key)
                requests[column] = requests.get(column, 0.0) + count
        self._fit.add(requests, trips)
        self._requests += sum(requests.values())
        self._attributed += trips
        if self._fit.windows - self._solved_at >= SOLVE_EVERY:
            self._solve()

    def trim(self, oldest: int) -> None:
        """Drop what was told about cells before `oldest`."""
        for index in [i for i in self._parts if i < oldest]:
            del self._parts[index]

    def restart(self) -> None:
        """Drop what lies in time; what was learned stays."""
        self._relays.clear()
        self._parts.clear()

    def forget(self, key: RouteKey) -> None:
        """Drop what is known of a route."""
        column = self._columns.get(key)
        if column is not None:
            self._fit.forget(column)
        self._kept.pop(key, None)
        self._evidence = tuple(row for row in self._evidence if row[0] != key)

    def restore(self, rows: Sequence[tuple[RouteKey, TripEvidence]], heard_at: float) -> None:
        """Take over what an earlier run of the node knew; at most `MAX_ROUTES` routes."""
        self._kept = dict(rows[:MAX_ROUTES])
        self._evidence = tuple(self._kept.items())
        self._heard_at = max(self._heard_at, heard_at)

    @property
    def heard_at(self) -> float:
        """When the newest report arrived, Unix time, s; -inf before the first."""
        return self._heard_at

    def evidence(self, now: float) -> Sequence[tuple[RouteKey, TripEvidence]]:
        """Return what is known; the same value until the next solution."""
        return self._evidence if now - self._heard_at <= MAX_AGE else ()

    def status(self, now: float) -> RelayStatus:
        """Describe the stream."""
        trips, setup_trips, connections, opaque = self._totals
        return RelayStatus(
            backend=self.backend,
            project=self.project,
            relays=sum(now - relay.last_at < RELAY_MEMORY for relay in self._relays.values()),
            age=max(0.0, now - self._heard_at),
            delay=self._delay,
            trips=trips,
            setup_trips=setup_trips,
            connections=connections,
            opaque=opaque,
            windows=self._fit.windows,
            requests=self._requests,
            trips_per_request=self._attributed / self._requests if self._requests else math.nan,
            background=self._background,
            routes=self._evidence,
        )

    def _solve(self) -> None:
        solution = self._fit.solve()
        self._solved_at = self._fit.windows
        self._background = float(solution.trips[BACKGROUND])
        solved = {
            key: TripEvidence(
                self.backend,
                float(solution.trips[column]),
                float(solution.error[column]),
                int(solution.requests[column]),
                "relay",
            )
            for key, column in self._columns.items()
            if solution.requests[column] >= LEAST_REQUESTS and solution.error[column] <= MAX_ERROR
        }
        for key in [k for k in self._kept if k in solved]:
            del self._kept[key]
        self._evidence = (*solved.items(), *self._kept.items())

    def _column(self, key: RouteKey) -> int:
        if not key.route:
            return OTHER
        column = self._columns.get(key)
        if column is None:
            column = self._free_column()
            if column != OTHER:
                self._columns[key] = column
        return column

    def _free_column(self) -> int:
        if len(self._columns) < MAX_ROUTES:
            return FIRST + len(self._columns)
        rarest = min(self._columns, key=lambda key: self._fit.requests(self._columns[key]))
        column = self._columns[rarest]
        if self._fit.requests(column) >= _GONE:
            return OTHER
        del self._columns[rarest]
        self._fit.forget(column)
        return column
