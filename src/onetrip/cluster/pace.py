"""When a node writes to a store that all others read, and what all of it may cost. Pure.

A report goes to every other node, so n nodes that each write s bytes cost n² s. What a node reads
is bounded instead: `BEATS` signs of life a second, and `READ_RATE` bytes a second of reports, from
all others together. A large cluster is told less often, a small one every interval.
"""

from __future__ import annotations

import math

BEATS = 60.0
"""Signs of life that a node reads a second, at most: about 250 bytes each."""

READ_RATE = 256 * 1024
"""Bytes of reports that a node reads a second on average."""

CREDIT = 10.0
"""Seconds by which what is urgent may run ahead of `READ_RATE`."""

BASE_INTERVAL = 240.0
"""Seconds after which a whole report is written whatever it costs: `jetstream.TTL` forgets it."""

MISSED_BEATS = 3
"""Signs of life missing before a node counts as gone."""


def beat_interval(interval: float, regions: int) -> float:
    """Return the time between two signs of life of each of `regions` nodes, s."""
    return max(interval, regions / BEATS)


class Pace:
    """Decides when one node writes what is new."""

    def __init__(self) -> None:
        self._based_at = -math.inf
        self._paid_at = -math.inf

    def is_base_due(self, now: float) -> bool:
        """Tell whether a whole report is to be written, at monotonic time `now`."""
        return now - self._based_at >= BASE_INTERVAL

    def is_due(self, now: float, *, is_news: bool, is_urgent: bool) -> bool:
        """Tell whether what is new is to be written now."""
        owed = self._paid_at - now
        return (is_news and owed <= 0) or (is_urgent and owed <= CREDIT)

    def wrote(self, size: int, regions: int, now: float, *, is_base: bool = False) -> None:
        """Note what was written, of `size` bytes, for `regions` nodes to read."""
        if is_base:
            self._based_at = now
        self._paid_at = max(now, self._paid_at) + size * regions / READ_RATE
