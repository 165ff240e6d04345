"""Learned sequential round trips: non-negative regression of service time on RTT.

A route's service time in region X is `compute + Σ round_trips(d) · RTT(X, d)`. Two or more regions
with different RTTs to the backends are equations for the unknowns; each region weighs by the
inverse square of its standard error. A wide Gaussian prior keeps the system solvable when there
are fewer regions than unknowns: the answer then has a wide interval, and the interval (not a rule
about how many regions are enough) says that more must be known.

Neither compute nor round trips are negative, and that says much where the regions do not: along a
direction that the equations leave open, one of the unknowns soon reaches 0. The covariance goes no
further than that.

Non-negativity is kept by an active-set method on the normal equations.
Source: Lawson & Hanson (1974), "Solving Least Squares Problems", ch. 23; Bro & de Jong (1997), "A
fast non-negativity-constrained least squares algorithm", for the form on normal equations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onetrip.estimate.filters import RELATIVE_ERROR
from onetrip.model.measure import ServiceSummary, TripEvidence

PRIOR_TRIPS = 50.0
"""Prior standard deviation of round trips: real routes make 0 to about 50."""

PRIOR_COMPUTE = 5.0
"""Prior standard deviation of compute, s."""

LEAST_ERROR = 0.0005
"""Floor of a region's standard error, s: RTT estimates are no better than that."""

PROBE_ERROR = 0.001
"""Error of the RTT to a backend, s: a probe's round trip includes the server's own time, which
differs from that of a query (PostgreSQL starts a process for each connection, about 1 ms)."""

RELATIVE_SPREAD = 0.05
"""Least relative spread assumed of single service times: with three or four of them the measured
spread can be near 0 by chance."""

LEAST_TRIP_ERROR = 0.05
"""Floor of the error of counted trips: a count is exact, which requests it is of is not."""

INTERVAL = 1.96
"""Half width of a 95 % interval in standard deviations."""


SLACK = 2.0
"""Standard deviations by which the other axes may keep an unknown from going below 0."""

ONE_SIDED = 1.645
"""Standard deviations of a one-sided 95 % bound."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The posterior of (compute, round trips).

    Attributes:
        backends: order of the trip entries.
        mean: shape (1 + D,): compute in s, then round trips; all ≥ 0.
        covariance: about the mean, of what no bound at 0 rules out, shape (1 + D, 1 + D).
        requests, regions: evidence from service times.
        sources: what took part: "traffic" and the sources of other evidence, in a fixed order.
    """

    backends: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray
    requests: int
    regions: int
    sources: tuple[str, ...] = ()

    @property
    def compute(self) -> float:
        """Application time without backends, s."""
        return float(self.mean[0])

    def interval(self, backend: str) -> tuple[float, float]:
        """Return the 95 % interval of the round trips to `backend`, cut at 0."""
        index = 1 + self.backends.index(backend)
        half = INTERVAL * math.sqrt(max(0.0, float(self.covariance[index, index])))
        centre = float(self.mean[index])
        return max(0.0, centre - half), centre + half


def fit(
    backends: tuple[str, ...],
    summaries: Sequence[ServiceSummary],
    evidence: Sequence[TripEvidence] = (),
) -> Fit:
    """Fit compute and round trips to the summaries of several regions and to other evidence.

    Every source is an equation with an error of its own; the solution weighs them all. A summary
    that lacks the RTT to a backend is left out: its equation is not known.
    """
    usable = [
        s
        for s in summaries
        if s.count > 1 and all(math.isfinite(s.rtts.get(b, math.nan)) for b in backends)
    ]
    told = [e for e in evidence if e.backend in backends and math.isfinite(e.error)]
    trips = np.zeros(len(backends))
    # The error of an RTT counts once per round trip, so a second pass needs the first one's trips.
    for _ in range(2):
        gram, target = _equations(backends, usable, told, PROBE_ERROR * float(trips.sum()))
        mean = solve_nonnegative(gram, target)
        trips = mean[1:]
    return Fit(
        backends=backends,
        mean=mean,
        covariance=_bounded(np.linalg.inv(gram), mean),
        requests=sum(s.count for s in usable),
        regions=len({s.region for s in usable}),
        sources=_sources(bool(usable), told),
    )


def _equations(
    backends: tuple[str, ...],
    summaries: Sequence[ServiceSummary],
    told: Sequence[TripEvidence],
    probe_error: float,
) -> tuple[np.ndarray, np.ndarray]:
    prior = _prior(len(backends))
    gram = np.diag(prior**-2.0)
    target = np.zeros(prior.size)
    for summary in summaries:
        row = np.array([1.0, *(summary.rtts[b] for b in backends)])
        weight = math.hypot(_summary_error(summary), probe_error) ** -2
        gram += np.outer(row, row) * weight
        target += row * (summary.mean * weight)
    for item in told:
        index = 1 + backends.index(item.backend)
        weight = max(item.error, LEAST_TRIP_ERROR) ** -2
        gram[index, index] += weight
        target[index] += weight * item.trips
    return gram, target


def _bounded(covariance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the covariance without what lies below 0, axis by axis of its ellipsoid.

    Along an axis an unknown may go below 0 by as much as the other axes can make up for.
    """
    scale = _prior(mean.size - 1)
    variances, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
    variances = np.maximum(variances, 0.0)
    shares = axes**2 * variances
    slack = SLACK * np.sqrt(np.maximum(shares.sum(axis=1, keepdims=True) - shares, 0.0))
    room = (mean / scale)[:, None] + slack
    with np.errstate(divide="ignore"):
        # How far each unknown lets each axis go, forwards and backwards; shape (n, n).
        reach = room / np.abs(axes)
    ahead = np.where(axes < 0, reach, np.inf).min(axis=0)
    behind = np.where(axes > 0, reach, np.inf).min(axis=0)
    # A one-sided bound then takes in the whole way, so that nothing possible is left out.
    limits = (np.maximum(ahead, behind) / ONE_SIDED) ** 2
    return np.asarray((axes * np.minimum(variances, limits)) @ axes.T * np.outer(scale, scale))


def _prior(backends: int) -> np.ndarray:
    return np.concatenate(([PRIOR_COMPUTE], np.full(backends, PRIOR_TRIPS)))


def _summary_error(summary: ServiceSummary) -> float:
    # The standard error of a few values is itself a guess: never believe less than the spread
    # that services are known to have.
    least = RELATIVE_SPREAD * summary.mean / math.sqrt(summary.count)
    return math.hypot(max(summary.error, least), LEAST_ERROR, RELATIVE_ERROR * summary.mean)


def _sources(traffic: bool, told: Sequence[TripEvidence]) -> tuple[str, ...]:
    return (*(("traffic",) if traffic else ()), *sorted({e.source for e in told}))


def solve_nonnegative(gram: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Minimise x'Gx − 2t'x over x ≥ 0.

    Args:
        gram: positive definite, shape (n, n).
        target: shape (n,).

    Returns:
        The minimiser, shape (n,).
    """
    # Mostly nothing is negative, and one solve is the answer.
    x = np.linalg.solve(gram, target)
    if (x >= 0).all():
        return np.asarray(x)
    size = target.size
    x = np.zeros(size)
    free = np.zeros(size, dtype=bool)
    slope = target - gram @ x
    tolerance = 1e-9 * max(1.0, float(np.abs(target).max(initial=0.0)))
    for _ in range(3 * size):
        candidates = np.where(free, -np.inf, slope)
        best = int(np.argmax(candidates))
        if candidates[best] <= tolerance:
            break
        free[best] = True
        x = _step(gram, target, x, free)
        slope = target - gram @ x
    return x


def _step(gram: np.ndarray, target: np.ndarray, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    # Walk towards the unconstrained solution on the free set, pinning what turns negative.
    while True:
        trial = np.zeros_like(x)
        trial[free] = np.linalg.solve(gram[np.ix_(free, free)], target[free])
        blocked = free & (trial <= 0)
        if not blocked.any():
            return trial
        ratios = x[blocked] / np.maximum(x[blocked] - trial[blocked], 1e-300)
        x = x + float(ratios.min()) * (trial - x)
        free &= x > 1e-12
        x[~free] = 0.0
