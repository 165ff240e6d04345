"""Drift: a lasting shift of a service time, and whether the code or the network is behind it.

The same clipped CUSUM that watches RTTs watches each window of service times, with floors that
suit them. A shift alone does not say why: the times since are set apart, and what was measured
before goes on to count. If the RTT to a backend moves within the time that the RTT filter needs to
believe a shift, the network did it: the old times with their old RTTs are still right, and those
set apart, taken on the new path with the old RTT beside them, are not. If no RTT moves, the code
did it: the old times are of other code and are forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onetrip.estimate.change import Shift, ShiftDetector, ShiftSettings
from onetrip.estimate.windows import Row, ServiceWindow
from onetrip.model.measure import DriftKind

SERVICE_SHIFT = ShiftSettings(
    threshold=24.0, drift=1.0, clip=5.0, absolute_floor=0.003, relative_floor=0.08
)
"""Service times are noisier than RTTs: a shift needs six samples at the clip, and steps below 3 ms
or 8 % are left to the window. Source: lognormal compute with sigma 0.4 raises no alarm in 20,000
samples (tests/unit/estimate/test_estimate_drift.py)."""

SETTLING = 12
"""First times of a window that are not watched: caches warm up and connections open, which is not
a new deployment."""


class Cause(NamedTuple):
    """Why a service time shifted, with its median before and after, s."""

    kind: DriftKind
    before: float
    after: float


class DriftWatch:
    """Watches one window of service times.

    Args:
        lag: how long the RTT filter takes to believe a shift, s.
    """

    __slots__ = ("_detector", "_lag", "_skipped", "_suspected")

    def __init__(self, lag: float) -> None:
        self._detector = ShiftDetector(SERVICE_SHIFT)
        self._lag = lag
        self._skipped = 0
        self._suspected: tuple[float, float] | None = None

    def add(
        self, window: ServiceWindow, at: float, service: float, rtts: tuple[float, ...]
    ) -> Cause | None:
        """Add one service time, s, to `window`, and say what a shift turned out to be."""
        moved = window.add(at, service, rtts)
        if moved:
            return self._end(DriftKind.NETWORK)
        since = window.suspected_since
        if since is not None:
            if at - since < self._lag:
                return None
            window.believe_suspects()
            return self._end(DriftKind.CODE)
        if self._skipped < SETTLING:
            self._skipped += 1
            return None
        if self._detector.update(service) is not Shift.NONE:
            before = _median(window.rows()[: -self._detector.run])
            window.suspect(self._detector.run)
            self._suspected = (before, _median(window.suspects()))
            if not len(window):
                # Nothing was known before the shift: there is nothing to set it apart from.
                window.believe_suspects()
                self._suspected = None
        return None

    def _end(self, kind: DriftKind) -> Cause | None:
        suspected, self._suspected = self._suspected, None
        self._detector = ShiftDetector(SERVICE_SHIFT)
        return None if suspected is None else Cause(kind, *suspected)


def _median(rows: list[Row]) -> float:
    return float(np.median([row[1] for row in rows])) if rows else 0.0
