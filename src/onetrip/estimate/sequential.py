"""Comparing two arms at any time: a confidence sequence for the difference of two means.

A dashboard is looked at, and a decision is taken, after every request. An ordinary 95 % interval
is wrong far more than 5 % of the time when it is read like that. A confidence sequence holds at
all times at once, so the loop may stop at any of them.

Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), "Time-uniform central limit theory
and asymptotic confidence sequences", Annals of Statistics 52(6): the normal-mixture boundary
(equation 7 of the arXiv version 2103.06476).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from onetrip.model.placement import Saving

CONFIDENCE = 0.95
"""Coverage shown to users and used to revert: a move that does no harm is undone in at most 5 % of
cases, however long it is watched."""

MIN_ARM = 5
"""Requests an arm needs before its variance means anything."""

_TIGHTEST_AT = 50
"""Requests at which the boundary is tightest: about where a first verdict is wanted."""


@dataclass(slots=True)
class RunningMoments:
    """Count, mean and variance of a stream (Welford, 1962), in O(1) memory."""

    count: int = 0
    mean: float = 0.0
    sum_of_squares: float = 0.0

    def add(self, value: float) -> None:
        """Add one value."""
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.sum_of_squares += delta * (value - self.mean)

    @property
    def variance(self) -> float:
        """Unbiased sample variance; infinite below two values."""
        return self.sum_of_squares / (self.count - 1) if self.count > 1 else math.inf


def radius(moments: RunningMoments, error_rate: float) -> float:
    """Return the half width of the confidence sequence for one mean; infinite while too few."""
    n = moments.count
    if n < MIN_ARM:
        return math.inf
    rho = _mixture(error_rate)
    nr = n * rho * rho
    bound = 2 * (nr + 1) / (n * nr) * math.log(math.sqrt(nr + 1) / error_rate)
    # The boundary is asymptotic; the t-like factor widens it while the variance is a guess.
    return math.sqrt(moments.variance * bound) * (1 + 1 / (n - 1))


def compare(control: RunningMoments, placed: RunningMoments) -> Saving:
    """Return the saving control − placed, s, valid however often it is looked at."""
    share = (1 - CONFIDENCE) / 2
    width = radius(control, share) + radius(placed, share)
    mean = control.mean - placed.mean
    known = math.isfinite(width)
    return Saving(
        mean=mean if control.count and placed.count else math.nan,
        low=mean - width if known else math.nan,
        high=mean + width if known else math.nan,
        confidence=CONFIDENCE,
        placed_requests=placed.count,
        control_requests=control.count,
    )


def combine(savings: Iterable[Saving]) -> Saving | None:
    """Return the mean saving over all placed requests of several edges, or None without any.

    The edges are independent, so their half widths add as errors do: each of them is wider than an
    ordinary interval's, and so is their sum. It is NaN while an edge has no bounds.
    """
    told = [s for s in savings if s.placed_requests and math.isfinite(s.mean)]
    if not told:
        return None
    total = sum(s.placed_requests for s in told)
    mean = sum(s.mean * s.placed_requests for s in told) / total
    width = math.hypot(*((s.high - s.low) / 2 * s.placed_requests / total for s in told))
    return Saving(
        mean=mean,
        low=mean - width,
        high=mean + width,
        confidence=CONFIDENCE,
        placed_requests=total,
        control_requests=sum(s.control_requests for s in told),
    )


def _mixture(error_rate: float) -> float:
    # Minimises the boundary at n = _TIGHTEST_AT (same paper, appendix B.2).
    log = -2 * math.log(error_rate)
    return math.sqrt((log + math.log(log + 1)) / _TIGHTEST_AT)
