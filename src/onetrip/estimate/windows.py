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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TRIM = 0.1
"""Share cut from each end: with 10 % the estimate keeps 95 % of a mean's efficiency on normal data
and withstands one wild value in ten."""

MAX_SAMPLES = 200
"""Times kept a window; the standard error falls with its root, so more buys little."""

MAX_AGE = 900.0
"""Seconds a time counts; older traffic says little about the code that runs now."""

KEPT_SAMPLES = 16
"""Newest times that outlive `MAX_AGE`: enough for a mean. A placed route's default region is seen
by its small control group alone; were that evidence to age out, the route would lose its round
trips, move back to learn them again, and do so every `MAX_AGE` for ever."""

KEPT_AGE = 7 * 86_400.0
"""Seconds after which even those are dropped. New code does not wait for that: `estimate.drift`."""

MIN_EPOCH = 4
"""Times a past epoch needs to be worth an equation of its own."""

RTT_MOVED = 0.05
"""Relative change of an RTT that counts as a shift; below it is ordinary drift."""

RTT_MOVED_ABSOLUTE = 0.001
"""Absolute change, s, likewise."""


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


Row = tuple[float, float, tuple[float, ...]]
"""(at, service, RTT to each backend) of one request; s."""


class ServiceWindow:
    """Recent service times of one route in one region, with the backend RTTs of their moment.

    A path that changes starts a new epoch: times of the old path are explained by the old RTT and
    go on to count, as an equation of their own. The RTT filter needs a few probes to believe a
    shift, though, so times of the moments before it did are of the new path and carry the old RTT;
    they are dropped.

    Args:
        backends: names of the backends whose RTTs are kept, in order.
        lag: how long the RTT filter takes to believe a shift, s.
    """

    __slots__ = (
        "_lag",
        "_past",
        "_rows",
        "_suspected_since",
        "_suspects",
        "backends",
        "version",
    )

    def __init__(self, backends: tuple[str, ...], lag: float = 0.0) -> None:
        self.backends = backends
        self.version = 0
        """Grows with every change, so that a summary can be kept while nothing changed."""
        self._lag = lag
        self._rows: deque[Row] = deque(maxlen=MAX_SAMPLES)
        self._past: deque[Row] = deque(maxlen=MAX_SAMPLES)
        self._suspects: deque[Row] | None = None
        self._suspected_since: float | None = None

    def __len__(self) -> int:
        return len(self._rows) + len(self._past)

    def add(self, at: float, service: float, rtts: tuple[float, ...]) -> bool:
        """Add one service time, s, taken at monotonic time `at`.

        Returns:
            Whether the RTT to a backend has moved since the time before.
        """
        self.version += 1
        row = (at, service, rtts)
        moved = bool(self._rows) and rtts_moved(self._rows[-1][2], rtts)
        if moved:
            self._suspects = self._suspected_since = None
            while self._rows and self._rows[-1][0] > at - self._lag:
                self._rows.pop()
            if len(self._rows) >= MIN_EPOCH:
                self._past = self._rows
            self._rows = deque(maxlen=MAX_SAMPLES)
        if self._suspects is None:
            self._rows.append(row)
        else:
            self._suspects.append(row)
        return moved

    def suspect(self, count: int) -> None:
        """Set the newest `count` times apart: something changed, and it is not known what."""
        self.version += 1
        newest = [self._rows.pop() for _ in range(min(count, len(self._rows)))]
        self._suspects = deque(reversed(newest), maxlen=MAX_SAMPLES)
        # A busy route soon sets apart more than are kept: the first one's time must not be lost.
        self._suspected_since = newest[-1][0] if newest else None

    def believe_suspects(self) -> None:
        """Forget what was measured before the change."""
        if self._suspects is not None:
            self.version += 1
            self._rows, self._suspects = self._suspects, None
            self._suspected_since = None
            self._past.clear()

    @property
    def suspected_since(self) -> float | None:
        """When the first of the times set apart was taken, or None."""
        return self._suspected_since

    def suspects(self) -> list[Row]:
        """Return the times set apart, oldest first."""
        return list(self._suspects or ())

    def expire(self, now: float) -> None:
        """Drop what is older than `MAX_AGE`, but for the newest `KEPT_SAMPLES` times."""
        for rows, kept in ((self._past, 0), (self._rows, KEPT_SAMPLES)):
            while rows and rows[0][0] < now - (MAX_AGE if len(rows) > kept else KEPT_AGE):
                self.version += 1
                rows.popleft()

    def drop_before(self, at: float) -> bool:
        """Drop the times taken before new code ran, and tell whether there were any.

        Times that were set apart since then are believed.
        """
        changed = bool(self._suspects)
        if changed:
            self.believe_suspects()
        for rows in (self._past, self._rows):
            while rows and rows[0][0] < at:
                rows.popleft()
                changed = True
        self.version += changed
        return changed

    def rows(self) -> list[Row]:
        """Return the rows of the current epoch, oldest first."""
        return list(self._rows)

    def epochs(self) -> list[list[Row]]:
        """Return the rows that count, one list an epoch, the current one last; none is empty."""
        return [list(rows) for rows in (self._past, self._rows) if rows]


def times_of(rows: Sequence[Row]) -> np.ndarray:
    """Return the service times of rows, shape (n,), s."""
    return np.fromiter((row[1] for row in rows), dtype=float, count=len(rows))


def rtts_of(rows: Sequence[Row], size: int) -> tuple[float, ...]:
    """Return the mean RTT to each of `size` backends over rows, s; NaN where never known."""
    if not size or not rows:
        return (math.nan,) * size
    table = np.array([row[2] for row in rows], dtype=float)
    known = ~np.isnan(table)
    counts = known.sum(axis=0)
    sums = np.where(known, table, 0.0).sum(axis=0)
    return tuple(float(s / c) if c else math.nan for s, c in zip(sums, counts, strict=True))


def rtts_moved(old: tuple[float, ...], new: tuple[float, ...]) -> bool:
    """Tell whether the RTT to any backend differs by more than noise; unknown ones do not."""
    return any(
        abs(b - a) > max(RTT_MOVED * a, RTT_MOVED_ABSOLUTE) for a, b in zip(old, new, strict=True)
    )


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

    def drop_before(self, at: float) -> None:
        """Drop the latencies taken before `at`."""
        while self._rows and self._rows[0][0] < at:
            self._rows.popleft()

    def since(self, start: float) -> np.ndarray:
        """Return the latencies taken at or after `start`, shape (n,), s."""
        return np.array([latency for at, latency in self._rows if at >= start], dtype=float)

    def rows(self) -> list[tuple[float, float]]:
        """Return (at, latency) pairs, oldest first."""
        return list(self._rows)
