"""When RTTs last moved: a route waits for them to settle before it is moved.

A database that moves changes its RTT from every region, but each region's probes believe it at
their own moment, seconds apart. A decision in between would see a database that is far from
everywhere or near in two places, choose wrongly, and then have to wait out the dwell time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from onetrip.place.frame import Frame

HOLD = 8.0
"""Seconds without a further shift before the RTTs count as settled: one probe interval of 5 s plus
the five quick probes that a shift takes to be believed."""

MOST_HOLD = 20.0
"""Seconds after the first of a row of shifts at which decisions go on anyway."""

MOVED, MOVED_ABSOLUTE = 0.1, 0.005
"""Change of an RTT, as a ratio and in s, that can change a decision at all."""

EDGE = ""
"""Name under which the RTTs from the edge to the regions are watched."""


class Shifts:
    """Remembers, per backend and for the edge itself, when its RTTs moved."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._first: dict[str, float] = {}

    def note(self, old: Frame, new: Frame, now: float) -> None:
        """Compare the RTTs of two runs."""
        if old.regions != new.regions or old.backends != new.backends:
            return
        moved = _moved(old.backend_rtt, new.backend_rtt)
        for column, name in enumerate(new.backends):
            if moved[:, column].any():
                self._mark(name, now)
        if _moved(old.edge_rtt, new.edge_rtt).any():
            self._mark(EDGE, now)

    def is_settling(self, backends: Iterable[str], now: float) -> bool:
        """Tell whether an RTT that the route depends on moved just now."""
        return any(self._is_moving(name, now) for name in (*backends, EDGE))

    def _mark(self, name: str, now: float) -> None:
        if now - self._last.get(name, -math.inf) >= HOLD:
            self._first[name] = now
        self._last[name] = now

    def _is_moving(self, name: str, now: float) -> bool:
        last = self._last.get(name)
        return last is not None and now - last < HOLD and now - self._first[name] < MOST_HOLD


def _moved(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    # Unknown times compare false: a first measurement is no shift.
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(new - old) > np.maximum(MOVED * old, MOVED_ABSOLUTE))
