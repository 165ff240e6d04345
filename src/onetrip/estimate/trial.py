"""The comparison of a route's arms since it moved last: moments for the interval, and the spread.

Both are taken of the same requests, so that what is drawn is what the saving was computed from.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from onetrip.estimate.sequential import RunningMoments
from onetrip.model.distribution import BOUNDS, Distribution
from onetrip.model.measure import Arm


@dataclass(slots=True)
class _ArmTrial:
    moments: RunningMoments = field(default_factory=RunningMoments)
    counts: dict[int, int] = field(default_factory=dict)
    """Requests by bucket (`model.distribution`); seldom more than a dozen have any."""


class Trial:
    """What each arm has taken, s."""

    __slots__ = ("_arms",)

    def __init__(self) -> None:
        self._arms: dict[Arm, _ArmTrial] = {}

    def __contains__(self, arm: Arm) -> bool:
        return arm in self._arms

    def add(self, arm: Arm, latency: float) -> None:
        """Take one latency, s."""
        taken = self._arms.get(arm)
        if taken is None:
            taken = self._arms[arm] = _ArmTrial()
        taken.moments.add(latency)
        place = bisect_left(BOUNDS, latency)
        taken.counts[place] = taken.counts.get(place, 0) + 1

    def clear(self) -> None:
        """Begin anew."""
        self._arms.clear()

    def moments(self, arm: Arm) -> RunningMoments:
        """Return the moments of `arm`; none are added to what is returned for an unknown one."""
        taken = self._arms.get(arm)
        return taken.moments if taken is not None else RunningMoments()

    def distribution(self, arm: Arm) -> Distribution | None:
        """Return the latencies of `arm`, or None without any."""
        taken = self._arms.get(arm)
        if taken is None:
            return None
        moments = taken.moments
        return Distribution(moments.count, moments.mean, tuple(sorted(taken.counts.items())))
