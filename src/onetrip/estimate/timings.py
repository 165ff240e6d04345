"""Round trips from Server-Timing: what applications say about the time and trips to a backend.

A count is evidence as it stands. A duration is `execution + round_trips · RTT`, so durations from
two or more regions are regressed on RTT, like service times but without the application's own
noise. From one region alone a duration proves nothing: a slow query looks like many quick ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from onetrip.estimate.roundtrips import fit
from onetrip.estimate.windows import (
    MAX_AGE,
    LatencyWindow,
    ServiceWindow,
    locate,
    rtts_of,
    times_of,
)
from onetrip.model.measure import RouteKey, ServiceSummary, Timing, TripEvidence
from onetrip.model.topology import RegionId

MAX_ROUTES = 20_000
"""Route keys remembered, as in the traffic book."""

MIN_COUNTS = 3
"""Counted requests before their mean is used."""


class TimingBook:
    """Server-Timing metrics of one node, per route and backend."""

    def __init__(self) -> None:
        self._durations: dict[RouteKey, dict[tuple[RegionId, str], ServiceWindow]] = {}
        self._counts: dict[RouteKey, dict[str, LatencyWindow]] = {}

    def observe(
        self,
        key: RouteKey,
        region: RegionId,
        at: float,
        timings: Mapping[str, Timing],
        rtts: Mapping[str, float],
    ) -> None:
        """Take in the metrics of one response.

        Args:
            timings: by backend name.
            rtts: RTT from `region` to each backend, s.
        """
        for backend, timing in timings.items():
            if timing.duration is not None and _has_room(self._durations, key):
                rows = self._durations.setdefault(key, {})
                window = rows.setdefault((region, backend), ServiceWindow((backend,)))
                window.add(at, timing.duration, (rtts.get(backend, math.nan),))
            if timing.trips is not None and _has_room(self._counts, key):
                counts = self._counts.setdefault(key, {})
                counts.setdefault(backend, LatencyWindow()).add(at, timing.trips)

    def durations(self, now: float) -> dict[RouteKey, list[ServiceSummary]]:
        """Summarise durations per route; each summary's `rtts` names its one backend."""
        out: dict[RouteKey, list[ServiceSummary]] = {}
        for key, windows in self._durations.items():
            for (region, backend), window in windows.items():
                window.expire(now)
                for rows in window.epochs():
                    place, rtts = locate(times_of(rows)), {backend: rtts_of(rows, 1)[0]}
                    row = ServiceSummary(region, place.count, place.mean, place.error, rtts)
                    out.setdefault(key, []).append(row)
        return out

    def counts(self, now: float) -> dict[RouteKey, list[TripEvidence]]:
        """Return the counted trips per route."""
        out: dict[RouteKey, list[TripEvidence]] = {}
        for key, windows in self._counts.items():
            for backend, window in windows.items():
                place = locate(window.since(now - MAX_AGE))
                if place.count >= MIN_COUNTS:
                    row = TripEvidence(backend, place.mean, place.error, place.count, "count")
                    out.setdefault(key, []).append(row)
        return out

    def forget(self, key: RouteKey, before: float) -> None:
        """Forget what was told about `key` before its code changed."""
        for window in self._durations.get(key, {}).values():
            window.drop_before(before)
        for counts in self._counts.get(key, {}).values():
            counts.drop_before(before)

    def keep(self, keys: Iterable[RouteKey]) -> None:
        """Forget every route that is not among `keys`."""
        kept = set(keys)
        for key in [k for k in self._durations if k not in kept]:
            del self._durations[key]
        for key in [k for k in self._counts if k not in kept]:
            del self._counts[key]


def timing_evidence(summaries: Sequence[ServiceSummary]) -> list[TripEvidence]:
    """Regress durations on RTT, backend by backend; one region alone gives no evidence."""
    by_backend: dict[str, list[ServiceSummary]] = {}
    for row in summaries:
        for backend in row.rtts:
            by_backend.setdefault(backend, []).append(row)
    found: list[TripEvidence] = []
    for backend, rows in by_backend.items():
        fitted = fit((backend,), rows)
        if fitted.regions < 2:
            continue
        error = math.sqrt(float(fitted.covariance[1, 1]))
        trips = float(fitted.mean[1])
        found.append(TripEvidence(backend, trips, error, fitted.requests, "timing"))
    return found


def _has_room(table: Mapping[RouteKey, object], key: RouteKey) -> bool:
    return key in table or len(table) < MAX_ROUTES
