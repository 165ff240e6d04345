"""Drift: a lasting shift of a service time, and whether the code or the network is behind it.

The same clipped CUSUM that watches RTTs watches each window of service times, with floors that
suit them. What was measured before a shift says nothing about after it, so the window is cut to
the samples since. When the RTT to a backend moved in the same samples and the same direction, the
network did it; otherwise the code did.
"""

from __future__ import annotations

import math

import numpy as np

from onetrip.estimate.change import Shift, ShiftDetector, ShiftSettings
from onetrip.estimate.windows import ServiceWindow
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

RTT_MOVED = 0.05
"""Relative change of an RTT that can explain a shift; below it is ordinary drift."""

RTT_MOVED_ABSOLUTE = 0.001
"""Absolute change, s, likewise."""


class DriftWatch:
    """Watches one window of service times."""

    __slots__ = ("_detector", "_skipped")

    def __init__(self) -> None:
        self._detector = ShiftDetector(SERVICE_SHIFT)
        self._skipped = 0

    def update(
        self, service: float, window: ServiceWindow
    ) -> tuple[DriftKind, float, float] | None:
        """Take the service time, s, that was just added to `window`.

        Returns:
            None, or the kind of drift with the mean before and after, s; `window` has then been
            cut to the samples after the shift.
        """
        if self._skipped < SETTLING:
            self._skipped += 1
            return None
        if self._detector.update(service) is Shift.NONE:
            return None
        after = max(1, self._detector.run)
        rows = window.rows()
        old, new = rows[:-after], rows[-after:]
        window.keep_last(after)
        if not old:
            return None
        before_mean = float(np.median([row[1] for row in old]))
        after_mean = float(np.median([row[1] for row in new]))
        direction = math.copysign(1.0, after_mean - before_mean)
        moved = any(
            _moved([row[2][i] for row in old], [row[2][i] for row in new], direction)
            for i in range(len(window.backends))
        )
        kind = DriftKind.NETWORK if moved else DriftKind.CODE
        return kind, before_mean, after_mean


def _moved(old: list[float], new: list[float], direction: float) -> bool:
    # The RTT filter needs a few samples to believe a shift: the newest row is the one to look at.
    known = [x for x in old if math.isfinite(x)]
    if not known or not math.isfinite(new[-1]):
        return False
    before = float(np.median(known))
    change = (new[-1] - before) * direction
    return change > max(RTT_MOVED * before, RTT_MOVED_ABSOLUTE)
