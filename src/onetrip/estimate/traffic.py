"""What a node learned from its traffic, per route: service times, latencies per arm, history.

Fed once per exchange, read by the scoring loop. Bounded in routes and in samples a route; a route
not seen for long is forgotten before a new one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onetrip.estimate.drift import DriftWatch
from onetrip.estimate.trial import Trial
from onetrip.estimate.windows import (
    MAX_AGE,
    LatencyWindow,
    ServiceWindow,
    locate,
    rtts_of,
    times_of,
)
from onetrip.model.catalog import EnvironmentId
from onetrip.model.distribution import Distribution
from onetrip.model.measure import Arm, Drift, DriftKind, Observation, RouteKey, ServiceSummary
from onetrip.model.status import LatencyPoint, LatencySummary
from onetrip.model.topology import RegionId

MAX_ROUTES = 20_000
"""Route keys remembered by a node; about 20 kB each when full of traffic."""

DEFAULT_LAG = 40.0
"""Seven probes at the default interval and their jitter: nine in ten shifts are believed by then
(`estimate.change.ShiftSettings`)."""

MAX_DRIFTS = 1000
"""Drifts kept until they are read."""

RELEARN_PAUSE = 600.0
"""Least time between two times that one route is learned anew in every region, s: it costs each
edge a few slow requests, and a database that is slow now and then looks like new code."""

SHARED_CHANGE = 120.0
"""How long peers are told of a change of code, s: far longer than a report takes."""

SLICE = 5.0
"""Width of one history slice, s."""

MAX_SLICES = 120
"""Slices kept a route: ten minutes."""

MAX_PER_SLICE = 32
"""Latencies kept a slice and side; a median of 32 is steady enough to draw."""


@dataclass(slots=True)
class _Slice:
    start: float
    requests: int = 0
    placed: list[float] = field(default_factory=list)
    default: list[float] = field(default_factory=list)


@dataclass(slots=True)
class RouteTraffic:
    """Everything kept for one route key on this node."""

    services: dict[RegionId, ServiceWindow] = field(default_factory=dict)
    watches: dict[RegionId, DriftWatch] = field(default_factory=dict)
    summaries: dict[RegionId, tuple[ServiceWindow, int, list[ServiceSummary]]] = field(
        default_factory=dict
    )
    """The last summaries of each window, with the version they were made of."""
    latencies: dict[Arm, LatencyWindow] = field(default_factory=dict)
    trial: Trial = field(default_factory=Trial)
    """The arms since the last move: what the measured saving is made of."""
    slices: list[_Slice] = field(default_factory=list)
    requests: int = 0
    explored: int = 0
    seen_at: float = -math.inf
    first_at: float = math.inf
    relearned_at: float = -math.inf
    """When it was last learned anew in every region."""


class TrafficBook:
    """Traffic statistics of one node.

    Args:
        region: this node's own region.
        lag: how long the RTT filter takes to believe a shift, s.
    """

    def __init__(self, region: RegionId, lag: float = DEFAULT_LAG) -> None:
        self._region = region
        self._lag = lag
        self._routes: dict[RouteKey, RouteTraffic] = {}
        self._drifts: list[Drift] = []
        self._noticed: dict[RouteKey, float] = {}
        self._changed: dict[RouteKey, float] = {}
        self.refused = 0
        """Observations dropped because `MAX_ROUTES` other routes were in use."""

    def __contains__(self, key: object) -> bool:
        return key in self._routes

    def routes(self) -> Iterable[RouteKey]:
        """Return the route keys seen."""
        return self._routes.keys()

    def get(self, key: RouteKey) -> RouteTraffic | None:
        """Return what is known about `key`."""
        return self._routes.get(key)

    def observe(self, seen: Observation, rtts: Mapping[str, float]) -> None:
        """Take in one exchange.

        Args:
            seen: the exchange.
            rtts: RTT from the region that ran it to each bound backend, s, at that moment.
        """
        route = self._route(seen.key, seen.at)
        if route is None:
            return
        route.requests += 1
        route.explored += seen.arm is Arm.EXPLORE
        route.seen_at = seen.at
        route.first_at = min(route.first_at, seen.at)
        if seen.is_error:
            return
        if seen.service is not None and not seen.is_cold:
            self._add_service(seen, route, rtts)
        if seen.latency is not None:
            _add_latency(route, seen.arm, seen.at, seen.latency)

    def restore(
        self,
        key: RouteKey,
        region: RegionId,
        backends: tuple[str, ...],
        rows: Iterable[tuple[float, float, tuple[float, ...]]],
    ) -> None:
        """Take over remembered service times: (at, service, RTTs) rows, oldest first."""
        for at, service, rtts in rows:
            route = self._route(key, at)
            if route is not None:
                route.seen_at = max(route.seen_at, at)
                route.first_at = min(route.first_at, at)
                self._window_of(route, region, backends).add(at, service, rtts)

    def drifts(self) -> list[Drift]:
        """Return the drifts noticed since the last call."""
        found, self._drifts = self._drifts, []
        return found

    def code_changes(self, now: float) -> dict[RouteKey, float]:
        """Return when the code of routes changed that this node noticed lately, for its peers."""
        for key in [k for k, at in self._noticed.items() if now - at > self._lag + SHARED_CHANGE]:
            del self._noticed[key]
        return self._noticed

    def code_changed(self, key: RouteKey, at: float) -> None:
        """Note that new code of `key` runs since `at`, wherever that was noticed."""
        route = self._routes.get(key)
        if route is not None and at > max(route.relearned_at, self._changed.get(key, -math.inf)):
            self._changed[key] = at

    def relearn(self, now: float) -> dict[RouteKey, float]:
        """Forget what older code did in every region; return since when new code runs, by route.

        A placed route's default region is seen by a small control group alone. It would go on to
        tell of the old code for as long as that group needs to notice.
        """
        done: dict[RouteKey, float] = {}
        for key, at in list(self._changed.items()):
            route = self._routes.get(key)
            if route is not None and now - route.relearned_at < RELEARN_PAUSE:
                continue
            del self._changed[key]
            if route is not None:
                done[key] = at
                route.relearned_at = now
                _drop_before(route, at)
        return done

    def begin_trial(self, key: RouteKey) -> None:
        """Forget the arms' comparison of `key`; called when it moves."""
        route = self._routes.get(key)
        if route is not None:
            route.trial.clear()

    def services(self, now: float) -> dict[RouteKey, list[ServiceSummary]]:
        """Summarise the service times of every route, per region that ran it."""
        out: dict[RouteKey, list[ServiceSummary]] = {}
        for key, route in self._routes.items():
            rows = [
                row
                for region, window in route.services.items()
                for row in _summaries(route, region, window, now)
            ]
            if rows:
                out[key] = rows
        return out

    def latencies(self, now: float, keys: Iterable[RouteKey] | None = None) -> list[LatencySummary]:
        """Summarise recent latencies per arm of all routes at this edge, or of those in `keys`."""
        out: list[LatencySummary] = []
        for key in self._routes if keys is None else [k for k in keys if k in self._routes]:
            route = self._routes[key]
            for arm, window in route.latencies.items():
                times, trial = window.since(now - MAX_AGE), route.trial.distribution(arm)
                if times.size or trial is not None:
                    out.append(_summary(key, self._region, arm, times, trial))
        return out

    def history(self, key: RouteKey, wall_offset: float) -> list[LatencyPoint]:
        """Return the latency history of `key`; `wall_offset` turns clock time to Unix time."""
        route = self._routes.get(key)
        return [] if route is None else [_point(each, wall_offset) for each in route.slices]

    def forget(self, environments: Iterable[EnvironmentId]) -> None:
        """Drop every route of environments that no longer exist."""
        gone = set(environments)
        for key in [k for k in self._routes if k.environment in gone]:
            del self._routes[key]

    def _route(self, key: RouteKey, now: float) -> RouteTraffic | None:
        route = self._routes.get(key)
        if route is not None:
            return route
        if len(self._routes) >= MAX_ROUTES and not self._evict(now):
            self.refused += 1
            return None
        route = self._routes[key] = RouteTraffic()
        return route

    def _evict(self, now: float) -> bool:
        old = [k for k, r in self._routes.items() if r.seen_at < now - MAX_AGE]
        for key in old:
            del self._routes[key]
        return bool(old)

    def _add_service(
        self, seen: Observation, route: RouteTraffic, rtts: Mapping[str, float]
    ) -> None:
        assert seen.service is not None
        window = self._window_of(route, seen.region, tuple(rtts))
        watch = route.watches.get(seen.region)
        if watch is None:
            watch = route.watches[seen.region] = DriftWatch(self._lag)
        cause = watch.add(window, seen.at, seen.service, tuple(rtts.values()))
        if cause is None:
            return
        # The arms of before and after must not be compared with each other.
        route.trial.clear()
        if cause.kind is DriftKind.CODE and len(self._noticed) < MAX_DRIFTS:
            self._noticed[seen.key] = cause.since
            self.code_changed(seen.key, cause.since)
        if len(self._drifts) < MAX_DRIFTS:
            drift = Drift(seen.key, seen.region, cause.kind, cause.before, cause.after, seen.at)
            self._drifts.append(drift)

    def _window_of(
        self, route: RouteTraffic, region: RegionId, backends: tuple[str, ...]
    ) -> ServiceWindow:
        window = route.services.get(region)
        if window is None or window.backends != backends:
            # Bindings changed: the old equations are about other unknowns.
            window = route.services[region] = ServiceWindow(backends, self._lag)
            route.watches.pop(region, None)
        return window


def _drop_before(route: RouteTraffic, at: float) -> None:
    for region, window in route.services.items():
        if window.drop_before(at):
            route.watches.pop(region, None)
    route.trial.clear()


def _add_latency(route: RouteTraffic, arm: Arm, at: float, latency: float) -> None:
    window = route.latencies.get(arm)
    if window is None:
        window = route.latencies[arm] = LatencyWindow()
    window.add(at, latency)
    route.trial.add(arm, latency)
    start = at - at % SLICE
    if not route.slices or route.slices[-1].start < start:
        route.slices.append(_Slice(start))
        del route.slices[:-MAX_SLICES]
    current = route.slices[-1]
    current.requests += 1
    side = current.placed if arm in (Arm.PLACED, Arm.HINT) else current.default
    if len(side) < MAX_PER_SLICE:
        side.append(latency)


def _summaries(
    route: RouteTraffic, region: RegionId, window: ServiceWindow, now: float
) -> list[ServiceSummary]:
    window.expire(now)
    kept = route.summaries.get(region)
    if kept is not None and kept[0] is window and kept[1] == window.version:
        return kept[2]
    age, size = now - route.seen_at, len(window.backends)
    made: list[ServiceSummary] = []
    for rows in window.epochs():
        place = locate(times_of(rows))
        rtts = dict(zip(window.backends, rtts_of(rows, size), strict=True))
        made.append(ServiceSummary(region, place.count, place.mean, place.error, rtts, age))
    route.summaries[region] = (window, window.version, made)
    return made


def _summary(
    key: RouteKey, edge: RegionId, arm: Arm, times: np.ndarray, trial: Distribution | None
) -> LatencySummary:
    mean = p50 = p95 = p99 = math.nan
    if times.size:
        mean = float(times.mean())
        p50, p95, p99 = map(float, np.percentile(times, (50, 95, 99)))
    return LatencySummary(key, edge, arm, int(times.size), mean, p50, p99, p95, trial)


def _point(each: _Slice, wall_offset: float) -> LatencyPoint:
    return LatencyPoint(
        at=each.start + wall_offset,
        placed_p50=float(np.median(each.placed)) if each.placed else math.nan,
        default_p50=float(np.median(each.default)) if each.default else math.nan,
        requests=each.requests,
    )
