"""When RTTs last moved: a route waits for them to settle before it is moved.

A database that moves changes its RTT from every region, but each region's probes believe it at
their own moment, seconds apart. A decision in between would see a database that is far from
everywhere or near in two places, choose wrongly, and then have to wait out the dwell time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onetrip.place.frame import Frame
from onetrip.place.picks import Picks

HOLD = 8.0
"""Seconds without a further shift before the RTTs count as settled: one probe interval of 5 s plus
the five quick probes that a shift takes to be believed."""

MOST_HOLD = 20.0
"""Seconds after the first of a row of shifts at which decisions go on anyway."""

MOVED, MOVED_ABSOLUTE = 0.1, 0.005
"""Change of an RTT, as a ratio and in s, that is more than noise."""

MATTERS = 0.5
"""Share of what a decision is about that scores must still be moving by for it to wait."""

EDGE = ""
"""Name under which the RTTs from the edge to the regions are watched."""


@dataclass(slots=True)
class _Row:
    """A row of shifts that followed each other within `HOLD`."""

    first_at: float
    last_at: float
    size: float


class Shifts:
    """Remembers, per backend and for the edge itself, when its RTTs moved and by how much."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def note(self, old: Frame, new: Frame, now: float) -> None:
        """Compare the RTTs of two runs."""
        if old.regions != new.regions or old.backends != new.backends:
            return
        moved = _moved(old.backend_rtt, new.backend_rtt).max(axis=0)
        for name, size in zip(new.backends, moved, strict=False):
            self._mark(name, float(size), now)
        # An estimate that gives way to a measurement is no shift, nor is news of one long ago.
        away = np.where(old.edge_fresh & new.edge_fresh, _moved(old.edge_rtt, new.edge_rtt), 0.0)
        self._mark(EDGE, float(away.max()), now)

    def is_settling(
        self,
        picks: Picks,
        i: int,
        columns: Sequence[str],
        least_gain: float,
        compared: tuple[int | None, int],
        now: float,
    ) -> bool:
        """Tell whether scores move by too much to decide about key `i`.

        Args:
            columns: of its backends, in the frame's order.
            least_gain: saving that justifies a move, s.
            compared: index of the region it was moved to, or None, and of the best one, or -1.
        """
        unsettled = self.unsettled(columns, picks.frame.trips[i, : len(columns)], now)
        if unsettled == 0.0:
            return False
        current, best = compared
        gain = picks.scores.gain[i]
        at_stake = float(gain[best]) if best >= 0 else 0.0
        if current is not None:
            at_stake = float(gain[current]) if best == current else at_stake - float(gain[current])
        at_stake = 0.0 if math.isnan(at_stake) else abs(at_stake)
        return unsettled > MATTERS * max(least_gain, at_stake)

    def unsettled(self, backends: Sequence[str], trips: np.ndarray, now: float) -> float:
        """Return by how much a route's scores may still be moving, s.

        Args:
            trips: round trips to each of `backends`, shape (D,).
        """
        if not self._rows:
            return 0.0
        sizes = (self._size(name, now) * float(n) for name, n in zip(backends, trips, strict=True))
        return self._size(EDGE, now) + sum(sizes)

    def _mark(self, name: str, size: float, now: float) -> None:
        if size <= 0:
            return
        row = self._rows.get(name)
        if row is None or now - row.last_at >= HOLD:
            self._rows[name] = _Row(now, now, size)
        else:
            row.last_at, row.size = now, max(row.size, size)

    def _size(self, name: str, now: float) -> float:
        row = self._rows.get(name)
        if row is None or now - row.last_at >= HOLD or now - row.first_at >= MOST_HOLD:
            return 0.0
        return row.size


def _moved(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return how far RTTs moved, s; 0 where not by more than noise, or not known before."""
    size = np.nan_to_num(np.abs(new - old))
    return np.where(size > np.maximum(MOVED * np.nan_to_num(old), MOVED_ABSOLUTE), size, 0.0)
