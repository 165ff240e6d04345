"""Windows over times taken from traffic: a robust location of the recent ones, and its error.

A route's times are skewed to the right (a garbage collection, a cold cache), so the location is a
trimmed mean and its standard error comes from the winsorised variance. The median would be more
robust, but a route whose requests make 0 trips half of the time has a median that flips; a mean is
also what adds up to the latency that users see.

Source: Yuen (1974), "The two-sample trimmed t for unequal population variances", for the standard
error of a trimmed mean.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

TRIM = 0.1
"""Share cut from each end: with 10 % the estimate keeps 95 % of a mean's efficiency on normal data
and withstands one wild value in ten."""

MAX_SAMPLES = 200
"""Times kept a window; the standard error falls with its root, so more buys little."""

MAX_AGE = 900.0
"""Seconds a time counts; older traffic says little about the code that runs now."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the times of a window lie, s.

    Attributes:
        error: standard error of `mean`; infinite below two times.
    """

    count: int
    mean: float
    error: float


def locate(times: np.ndarray) -> Location:
    """Return the trimmed mean of `times` (shape (n,), s) and its standard error."""
    count = int(times.size)
    if count == 0:
        return Location(0, math.nan, math.inf)
    ordered = np.sort(times)
    cut = int(TRIM * count)
    kept = ordered[cut : count - cut]
    mean = float(kept.mean())
    if count < 2:
        return Location(count, mean, math.inf)
    winsorised = np.clip(ordered, kept[0], kept[-1])
    spread = float(winsorised.std(ddof=1))
    return Location(count, mean, spread / ((1 - 2 * cut / count) * math.sqrt(count)))


class ServiceWindow:
    """Recent service times of one route in one region, with the backend RTTs of their moment.

    Keeping the RTTs beside each time makes the regression right while a path changes: an old time
    is explained by the old RTT.

    Args:
        backends: names of the backends whose RTTs are kept, in order.
    """

    __slots__ = ("_rows", "backends", "version")

    def __init__(self, backends: tuple[str, ...]) -> None:
        self.backends = backends
        self.version = 0
        """Grows with every change, so that a summary can be kept while nothing changed."""
        self._rows: deque[tuple[float, float, tuple[float, ...]]] = deque(maxlen=MAX_SAMPLES)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, at: float, service: float, rtts: tuple[float, ...]) -> None:
        """Add one service time, s, taken at monotonic time `at`."""
        self.version += 1
        self._rows.append((at, service, rtts))

    def expire(self, now: float) -> None:
        """Drop what is older than `MAX_AGE`."""
        while self._rows and self._rows[0][0] < now - MAX_AGE:
            self.version += 1
            self._rows.popleft()

    def keep_last(self, count: int) -> None:
        """Drop all but the newest `count` times (after a change of the code or the network)."""
        while len(self._rows) > count:
            self.version += 1
            self._rows.popleft()

    def rows(self) -> list[tuple[float, float, tuple[float, ...]]]:
        """Return (at, service, RTTs) rows, oldest first."""
        return list(self._rows)

    def times(self) -> np.ndarray:
        """Return the service times, oldest first, shape (n,), s."""
        return np.fromiter((row[1] for row in self._rows), dtype=float, count=len(self._rows))

    def rtts(self) -> tuple[float, ...]:
        """Return the mean RTT to each backend over the window, s; NaN where never known."""
        if not self.backends or not self._rows:
            return tuple(math.nan for _ in self.backends)
        table = np.array([row[2] for row in self._rows], dtype=float)
        known = ~np.isnan(table)
        counts = known.sum(axis=0)
        sums = np.where(known, table, 0.0).sum(axis=0)
        return tuple(float(s / c) if c else math.nan for s, c in zip(sums, counts, strict=True))


class LatencyWindow:
    """Recent latencies of one route at one edge in one arm, for percentiles and history."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, at: float, latency: float) -> None:
        """Add one latency, s, taken at monotonic time `at`."""
        self._rows.append((at, latency))

    def since(self, start: float) -> np.ndarray:
        """Return the latencies taken at or after `start`, shape (n,), s."""
        return np.array([latency for at, latency in self._rows if at >= start], dtype=float)

    def rows(self) -> list[tuple[float, float]]:
        """Return (at, latency) pairs, oldest first."""
        return list(self._rows)
