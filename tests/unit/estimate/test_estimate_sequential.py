"""The confidence sequence: it covers at all times at once, and it narrows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onetrip.estimate.sequential import MIN_ARM, RunningMoments, compare


def moments(values: np.ndarray) -> RunningMoments:
    out = RunningMoments()
    for value in values:
        out.add(float(value))
    return out


def test_moments_equal_numpy() -> None:
    values = np.random.default_rng(1).lognormal(size=500)
    found = moments(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.variance == pytest.approx(values.var(ddof=1))


def test_no_interval_before_both_arms_have_enough() -> None:
    values = np.random.default_rng(1).normal(1, 0.1, 100)
    found = compare(moments(values[: MIN_ARM - 1]), moments(values))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.control_requests == MIN_ARM - 1


def test_a_large_saving_is_seen_with_little_traffic() -> None:
    rng = np.random.default_rng(2)
    found = compare(moments(rng.normal(2.53, 0.05, 8)), moments(rng.normal(0.24, 0.02, 60)))
    assert found.low > 2.0
    assert found.low < 2.29 < found.high


def test_looking_after_every_request_rarely_misses_the_truth() -> None:
    """400 experiments watched at each of 300 steps: misses stay within the stated 5 %."""
    misses = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        control, placed = RunningMoments(), RunningMoments()
        truth = np.exp(0.5 * 0.3**2)
        for _ in range(300):
            control.add(float(rng.lognormal(0, 0.3)))
            placed.add(float(rng.lognormal(0, 0.3)) - truth)
            found = compare(control, placed)
            if not math.isnan(found.low) and not found.low <= truth <= found.high:
                misses += 1
                break
    assert misses <= 0.05 * 400
