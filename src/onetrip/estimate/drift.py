"""Drift: a lasting shift of a service time, and whether the code or the network is behind it.

Each window of service times is watched for a run of times that are all far above, or all far
below, the ordinary ones, and longer than chance explains (a sum, as for RTTs, would give in to what
is usual here: a rolling deployment mixes old code with new for a while, and some routes have two
kinds of requests).

A shift alone does not say why: the times since are set apart, and what was measured before goes on
to count. If the RTT to a backend moves within the time that the RTT filter needs to believe a
shift, the network did it: the old times with their old RTTs are still right, and those set apart,
taken on the new path with the old RTT beside them, are not. If no RTT moves, the code did it: the
old times are of other code and are forgotten.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from onetrip.estimate.windows import Row, ServiceWindow
from onetrip.model.measure import DriftKind

FAR, ABSOLUTE_FLOOR, RELATIVE_FLOOR = 3.0, 0.003, 0.08
"""A time is far from the ordinary ones beyond three mean absolute deviations, and never within 3 ms
or 8 %: smaller steps are left to the window. With two kinds of requests in equal shares either kind
lies two such deviations from the other."""

CHANCE = 1e-7
"""A run is a shift when it would come about by chance less often than this, given the share of
times that are far anyway. A busy route makes 10^7 requests in a few weeks."""

LEAST_FAR, MOST_FAR = 0.05, 0.9
"""Bounds of that share: with the least, six times in a row are a shift."""

FAR_WEIGHT = 1 / 64
"""Weight of the newest time in that share."""

ORDINARY = 48
"""Ordinary times that the level is the median of."""

FIRST, REFRESH = 5, 8
"""Ordinary times that the first level needs, and new ones until it is taken anew; while there are
few, it is taken with each."""

SETTLING = 12
"""First times of a window that are not watched: caches warm up and connections open, which is not
a new deployment."""


class Cause(NamedTuple):
    """Why a service time shifted, with its median before and after, s, and when it did."""

    kind: DriftKind
    before: float
    after: float
    since: float


class LevelWatch:
    """Tells when the times of a window have a new level.

    Attributes:
        run: after a shift, how many of the latest times belong to the new level.
    """

    __slots__ = ("_far", "_far_before", "_fresh", "_level", "_margin", "_ordinary", "_side", "run")

    def __init__(self) -> None:
        self._ordinary: deque[float] = deque(maxlen=ORDINARY)
        self._fresh = 0
        self._level = self._margin = 0.0
        self._far = self._far_before = 0.0
        self._side = 0
        self.run = 0

    def update(self, time: float) -> bool:
        """Take one time, s, and say whether the level has shifted with it."""
        side = self._side_of(time)
        if side == 0:
            self.run = 0
            self._take(time)
        elif side == self._side and self.run:
            self.run += 1
        else:
            self.run, self._far_before = 1, self._far
        self._side = side
        self._far += (abs(side) - self._far) * FAR_WEIGHT
        return self.run > 0 and self.run >= _longest_by_chance(self._far_before)

    def _side_of(self, time: float) -> int:
        distance = time - self._level
        if len(self._ordinary) < FIRST or abs(distance) <= self._margin:
            return 0
        return 1 if distance > 0 else -1

    def _take(self, time: float) -> None:
        self._ordinary.append(time)
        self._fresh += 1
        if self._fresh < REFRESH < len(self._ordinary) // 2:
            return
        self._fresh = 0
        level = self._level = _middle(self._ordinary)
        spread = sum(abs(x - level) for x in self._ordinary) / len(self._ordinary)
        self._margin = max(FAR * spread, ABSOLUTE_FLOOR, RELATIVE_FLOOR * level)


def _longest_by_chance(share: float) -> float:
    """Return how many far times in a row are too many for chance, when `share` of all are far."""
    return math.log(CHANCE) / math.log(min(MOST_FAR, max(LEAST_FAR, share)))


def _middle(times: Iterable[float]) -> float:
    ordered = sorted(times)
    return ordered[len(ordered) // 2]


class DriftWatch:
    """Watches one window of service times.

    Args:
        lag: how long the RTT filter takes to believe a shift, s.
    """

    __slots__ = ("_detector", "_lag", "_skipped", "_suspected")

    def __init__(self, lag: float) -> None:
        self._detector = LevelWatch()
        self._lag = lag
        self._skipped = 0
        self._suspected: tuple[float, float, float] | None = None

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
        if self._detector.update(service):
            before = _median(window.rows()[: -self._detector.run])
            window.suspect(self._detector.run)
            since = window.suspected_since
            self._suspected = (before, _median(window.suspects()), at if since is None else since)
            if not len(window):
                # Nothing was known before the shift: there is nothing to set it apart from.
                window.believe_suspects()
                self._suspected = None
        return None

    def _end(self, kind: DriftKind) -> Cause | None:
        suspected, self._suspected = self._suspected, None
        self._detector = LevelWatch()
        return None if suspected is None else Cause(kind, *suspected)


def _median(rows: list[Row]) -> float:
    return float(np.median([row[1] for row in rows])) if rows else 0.0
