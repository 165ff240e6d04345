"""How latencies spread: counts over fixed buckets, so that those of any edges can be added up.

The buckets are spaced evenly on a logarithmic scale, because latencies are compared by ratio: one
scale then serves a file from memory and a page with a hundred trips over an ocean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

FIRST_DECADE, LAST_DECADE = -4, 2
"""Bounds go from 0.1 ms to 100 s; what is longer than any timeout falls into one bucket more."""

PER_DECADE = 20
"""Buckets a decade: each is 12 % wide, finer than a saving that anybody would look for."""

BOUNDS = tuple(
    10.0 ** (FIRST_DECADE + step / PER_DECADE)
    for step in range((LAST_DECADE - FIRST_DECADE) * PER_DECADE + 1)
)
"""Upper bounds of the buckets, inclusive, s; one more bucket holds everything above the last."""

BUCKETS = len(BOUNDS) + 1


@dataclass(frozen=True, slots=True)
class Distribution:
    """Latencies of one arm since its trial began.

    Attributes:
        requests: how many there are.
        mean: of them, s.
        counts: (bucket, requests) of every bucket that has any, in order.
    """

    requests: int
    mean: float
    counts: tuple[tuple[int, int], ...]

    def is_sound(self) -> bool:
        """Tell whether it can be one; what a peer sends may be anything."""
        places = [place for place, _ in self.counts]
        return (
            self.requests > 0
            and self.mean >= 0
            and all(n > 0 for _, n in self.counts)
            and sum(n for _, n in self.counts) == self.requests
            and all(a < b for a, b in pairwise([-1, *places, BUCKETS]))
        )


def add_up(parts: Iterable[Distribution]) -> Distribution:
    """Return the distribution of all requests of `parts`; at least one."""
    counts, requests, total = Counter[int](), 0, 0.0
    for part in parts:
        requests += part.requests
        total += part.mean * part.requests
        for place, n in part.counts:
            counts[place] += n
    return Distribution(requests, total / requests, tuple(sorted(counts.items())))
