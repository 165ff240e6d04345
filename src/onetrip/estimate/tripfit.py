"""Trips per request from counts: which mix of requests explains the round trips of each second?

One row a window: `y` trips were counted while `x_k` requests of route k ran. The trips per request
are the non-negative ridge solution of the normal equations, which decay exponentially so that a
new deployment replaces the old one. Two more columns take what no route explains: one for the
window itself (background work), one for requests that are not told apart.

The prior decides what the data cannot: with a fixed number of clients that always wait for the
database, the counts are constant, and "background" would explain them as well as the requests do.
Background work is therefore held to be small, unless seconds without requests show it.

Windows that fit badly (a nightly job, a burst of another program) get less weight. Source: Huber
(1964), "Robust estimation of a location parameter"; Lawson & Hanson (1974), ch. 23, for the
non-negative solution; Bishop (2006), "Pattern Recognition and Machine Learning", section 3.3, for
the posterior.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onetrip.estimate.roundtrips import solve_nonnegative

BACKGROUND, OTHER, FIRST = 0, 1, 2
"""Columns: trips a window, trips of requests that are not told apart, the first route."""

MEMORY = 900.0
"""Windows after which a row counts 1/e; as long as service times are kept (`estimate/windows`)."""

PRIOR_TRIPS = 50.0
"""Prior standard deviation of a route's trips: real routes make 0 to about 50."""

PRIOR_BACKGROUND = 10.0
"""Prior standard deviation of background trips a window."""

RECENT = 120
"""Windows whose residuals tell the noise."""

LEAST_NOISE = 0.25
"""Least residual variance: a trip may end just before or after its window does."""

NORMAL_MEDIAN = 1.4826
"""Standard deviation over median absolute residual, for normal residuals."""

CLIP = 3.0
"""Residuals beyond this many standard deviations get less weight (Huber's psi)."""

REWEIGHTINGS = 3
"""Rounds of finding weights while they are found for all windows together."""

SOLVE_EVERY = 5
"""Windows between two looks at the solution: what residuals, and so weights, are taken from."""

PATIENCE = 3
"""Rounds in which as many columns may have the wrong sign before they change one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class TripSolution:
    """The posterior at one moment.

    Attributes:
        trips, error: per column, mean and standard error; shape (n,).
        requests: per column, decayed number of requests (of windows, for BACKGROUND).
    """

    trips: np.ndarray
    error: np.ndarray
    requests: np.ndarray


class TripFit:
    """Decayed normal equations.

    Args:
        size: number of columns, the two special ones included.
    """

    def __init__(self, size: int) -> None:
        self._gram = np.zeros((size, size))
        self._target = np.zeros(size)
        self._seen = np.zeros(size)
        self._trips = np.zeros(size)
        self._noise = LEAST_NOISE
        self._recent: deque[tuple[np.ndarray, float]] = deque(maxlen=RECENT)
        self._prior = np.full(size, PRIOR_TRIPS**-2.0)
        self._prior[BACKGROUND] = PRIOR_BACKGROUND**-2.0
        self.windows = 0

    def add(self, requests: Mapping[int, float], trips: float) -> None:
        """Take one window: requests per column (BACKGROUND is added), and the trips counted."""
        row = np.zeros(self._target.size)
        row[BACKGROUND] = 1.0
        for column, count in requests.items():
            row[column] += count
        keep = math.exp(-1.0 / MEMORY)
        weight = self._weight(trips - float(row @ self._trips))
        self._gram = keep * self._gram + weight * np.outer(row, row)
        self._target = keep * self._target + weight * trips * row
        self._seen = keep * self._seen + row
        self._recent.append((row, trips))
        self.windows += 1
        if self.windows % SOLVE_EVERY == 0:
            self._learn()

    def solve(self) -> TripSolution:
        """Return what is known now."""
        used = self._columns()
        trips, precision = self._solve(used)
        error = np.full(trips.size, math.inf)
        error[used] = np.sqrt(np.maximum(0.0, np.diag(np.linalg.inv(precision))))
        return TripSolution(trips, error, self._seen.copy())

    def requests(self, column: int) -> float:
        """Return the decayed number of requests of a column."""
        return float(self._seen[column])

    def forget(self, column: int) -> None:
        """Empty a column, so that another route can use it."""
        # What it has explained until now stays explained: others must not take it over.
        self._target -= self._gram[:, column] * self._trips[column]
        self._gram[column, :] = self._gram[:, column] = 0.0
        self._target[column] = self._seen[column] = self._trips[column] = 0.0
        # What is left explains itself by a column that is gone.
        self._recent.clear()

    def _columns(self) -> np.ndarray:
        return np.flatnonzero(self._seen > 0)

    def _solve(self, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        precision = self._gram[np.ix_(used, used)] / self._noise + np.diag(self._prior[used])
        trips = np.zeros(self._target.size)
        trips[used] = _nonnegative(precision, self._target[used] / self._noise)
        return trips, precision

    def _learn(self) -> None:
        # While every window is at hand the weights are found anew: a burst among the first ones
        # would otherwise decide what counts as fitting badly.
        rounds = REWEIGHTINGS if len(self._recent) == self.windows else 0
        for _ in range(rounds):
            self._trips = self._solve(self._columns())[0]
            self._noise = self._residual_variance()
            self._rebuild()
        self._trips = self._solve(self._columns())[0]
        self._noise = self._residual_variance()

    def _rebuild(self) -> None:
        rows = np.array([row for row, _ in self._recent])
        trips = np.array([count for _, count in self._recent])
        limit = CLIP * math.sqrt(self._noise)
        weights = limit / np.maximum(limit, np.abs(trips - rows @ self._trips))
        weights *= np.exp(-np.arange(len(rows))[::-1] / MEMORY)
        self._gram = (rows.T * weights) @ rows
        self._target = rows.T @ (weights * trips)

    def _weight(self, residual: float) -> float:
        limit = CLIP * math.sqrt(self._noise)
        return 1.0 if abs(residual) <= limit else limit / abs(residual)

    def _residual_variance(self) -> float:
        # The median tells the scale whatever the outliers are; beyond `CLIP` of it they are cut.
        rows = np.array([row for row, _ in self._recent])
        sizes = np.abs(np.array([trips for _, trips in self._recent]) - rows @ self._trips)
        # np.median would import numpy.ma, 70 ms on the loop that serves requests.
        median = float(np.sort(sizes)[sizes.size // 2])
        scale = max(math.sqrt(LEAST_NOISE), NORMAL_MEDIAN * median)
        return max(LEAST_NOISE, float(np.mean(np.minimum(sizes, CLIP * scale) ** 2)))


def _nonnegative(gram: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Minimise x'Gx − 2t'x over x ≥ 0; a few solutions instead of one for each column.

    All columns whose sign is wrong change sides at once; while that does not make them fewer, only
    the last of them does, which cannot go round in circles (Murty's rule). Source: Kim & Park
    (2011), "Fast nonnegative matrix factorization: an active-set-like method and comparisons".
    """
    free = np.ones(target.size, dtype=bool)
    tolerance = 1e-9 * max(1.0, float(np.abs(target).max(initial=0.0)))
    fewest, patience = target.size + 1, PATIENCE
    for _ in range(3 * target.size):
        x = np.zeros(target.size)
        x[free] = np.linalg.solve(gram[np.ix_(free, free)], target[free])
        wrong = np.where(free, x < 0, target - gram @ x > tolerance)
        count = int(wrong.sum())
        if not count:
            return x
        patience = PATIENCE if count < fewest else patience - 1
        fewest = min(fewest, count)
        if patience <= 0:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        free ^= wrong
    return solve_nonnegative(gram, target)
