"""What an HTTP/2 client may do that costs the server more than the client."""

from __future__ import annotations

CHEAP_BURST, CHEAP_RATE = 2000.0, 50.0
"""Frames without content at once, and more of them a second."""

RESET_BURST, RESET_RATE = 200.0, 20.0
"""Streams ended early at once, and more of them a second."""


class Allowance:
    """A count that is spent, and refills with time up to a bound (a token bucket)."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._at = now

    def spend(self, count: int, now: float) -> bool:
        """Take `count`; False when there is not enough."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - count
        self._at = now
        return self._left >= 0

    def earn(self, count: int) -> None:
        """Give `count` back."""
        self._left = min(self._burst, self._left + count)


def cheap_frames(now: float) -> Allowance:
    """Return what a new connection may send of frames without content."""
    return Allowance(CHEAP_BURST, CHEAP_RATE, now)


def early_ends(now: float) -> Allowance:
    """Return how many streams of a new connection may end early."""
    return Allowance(RESET_BURST, RESET_RATE, now)
