"""Which share of the requests an Envoy logs to its node: pure arithmetic on a count.

An Envoy serves more requests than a node can learn from, and learning needs no more than some
hundreds a second. The share halves at once when more come and doubles after a while with far
fewer, so that load in bursts does not start each of them with everything; it is the same for every
request, so that no mean is biased by it.
"""

from __future__ import annotations

MOST = 250.0
"""Entries a second that a node reads: at about 60 µs each, a sixtieth of one processor."""

LEAST_RATIO = 2.0**-14
"""Smallest share, enough for sixteen million requests a second."""

FEW_WINDOWS = 5
"""Windows in a row with few entries after which the share doubles."""

WINDOW = 1.0
"""Least time that entries are counted for before the share may change, s."""


class Sampler:
    """Finds the share to log.

    Attributes:
        ratio: of all requests, 0-1; a power of two, so that it changes seldom.
        looked_at: when it could change last, monotonic s.
    """

    def __init__(self, now: float) -> None:
        self.ratio = 1.0
        self.looked_at = now
        self._count = self._few = 0

    def note(self, count: int) -> None:
        """Count entries that arrived."""
        self._count += count

    def adjust(self, now: float) -> bool:
        """Take what has been counted into account; tell whether the ratio changed."""
        elapsed = now - self.looked_at
        if elapsed < WINDOW:
            return False
        rate, before = self._count / elapsed, self.ratio
        self.looked_at, self._count = now, 0
        while rate > MOST and self.ratio > LEAST_RATIO:
            rate, self.ratio = rate / 2, self.ratio / 2
        # Twice as many must be far from too many, or the share would change with every look.
        self._few = self._few + 1 if rate < MOST / 4 else 0
        if self._few >= FEW_WINDOWS and self.ratio < 1.0:
            self._few, self.ratio = 0, self.ratio * 2
        return self.ratio != before
