"""How old the data of a replica is, by comparing what it has with what the primary had, and when.

A replica that lacks a change which the primary was seen to have t seconds ago is at least t behind;
one that has everything of t seconds ago is at most t behind. Both hold for any database, whatever
the clocks of the machines say. Between the two the database's own word counts, where it has one:
the age of the last transaction that was replayed is right while the primary writes, and far too
large while it does not, when the replica lacks nothing.
"""

from __future__ import annotations

import math
from collections import deque

from onetrip.model.replication import Position, behind

MOST_SAMPLES = 300
"""Positions of the primary that are remembered: 10 minutes of one every 2 s."""


class LagMeter:
    """What the primary of one backend was seen to have; times are monotonic, s."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Position]] = deque(maxlen=MOST_SAMPLES)

    def primary_has(self, position: Position, at: float) -> None:
        """Note what the primary has; a position that does not cover the last one starts anew."""
        if self._samples and not position.covers(self._samples[-1][1]):
            self._samples.clear()  # another primary, which has lost something
        self._samples.append((at, position))

    def lag(self, position: Position, at: float, told: float) -> float:
        """Return how old data is, s; NaN where nothing is known.

        Args:
            position, at: what the replica had, and when.
            told: its lag by the database's own word, s; NaN where it has none.
        """
        covered, lacking = -math.inf, math.inf
        for seen_at, sample in self._samples:
            if not position.covers(sample):
                lacking = seen_at
                break
            covered = seen_at
        is_abreast = covered > -math.inf and lacking == math.inf
        if is_abreast and _has_no_more(position, self._samples[-1][1]):
            return 0.0
        least, most = max(0.0, at - lacking), max(0.0, at - covered)
        if math.isfinite(told):
            return min(max(told, least), most)
        if math.isfinite(most):
            return most
        return least if least > 0 else math.nan

    def lag_bytes(self, position: Position) -> int | None:
        """Return how much log a replica lacks, bytes; None where a database does not count so."""
        return behind(self._samples[-1][1], position) if self._samples else None


def _has_no_more(position: Position, newest: Position) -> bool:
    """Tell whether a position has nothing beyond the newest sample in what that counts.

    Changes of other sources do not matter: those of a history before a failover, or of a replica's
    own.
    """
    own = dict(position.ranges)
    is_same = all(own.get(source) == ranges for source, ranges in newest.ranges)
    return is_same and bool(own) is bool(newest.ranges)
