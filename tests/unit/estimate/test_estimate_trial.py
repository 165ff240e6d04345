"""The arms' comparison: interval and spread are of the same requests."""

from __future__ import annotations

import math

import pytest

from onetrip.estimate.sequential import combine, compare
from onetrip.estimate.trial import Trial
from onetrip.model.distribution import BOUNDS, BUCKETS
from onetrip.model.measure import Arm
from onetrip.model.placement import Saving


def saving(mean: float, half: float, placed: int) -> Saving:
    return Saving(mean, mean - half, mean + half, 0.95, placed, 5)


class TestTrial:
    def test_spread_counts_what_the_moments_count(self) -> None:
        trial = Trial()
        for latency in (0.0, 0.0001, 0.240, 0.241, 2.5, 1e6):
            trial.add(Arm.PLACED, latency)
        found = trial.distribution(Arm.PLACED)
        assert found is not None
        assert found.requests == trial.moments(Arm.PLACED).count == 6
        assert found.mean == pytest.approx(trial.moments(Arm.PLACED).mean)
        assert found.is_sound()
        # A bound belongs to the bucket below it; the last bucket has none.
        assert found.counts[0] == (0, 2)
        assert found.counts[-1] == (BUCKETS - 1, 1)

    def test_bucket_holds_what_is_between_its_bounds(self) -> None:
        trial = Trial()
        trial.add(Arm.CONTROL, 0.230)
        found = trial.distribution(Arm.CONTROL)
        assert found is not None
        ((place, _),) = found.counts
        assert BOUNDS[place - 1] < 0.230 <= BOUNDS[place]
        assert BOUNDS[place] / BOUNDS[place - 1] == pytest.approx(1.122, abs=0.001)

    def test_clear_forgets_every_arm(self) -> None:
        trial = Trial()
        trial.add(Arm.PLACED, 0.1)
        assert Arm.PLACED in trial
        trial.clear()
        assert Arm.PLACED not in trial
        assert trial.distribution(Arm.PLACED) is None
        assert trial.moments(Arm.PLACED).count == 0


class TestCombine:
    def test_one_edge_stays_as_it_is(self) -> None:
        trial = Trial()
        for n in range(40):
            trial.add(Arm.PLACED, 0.24 + n * 1e-4)
            trial.add(Arm.CONTROL, 2.5 + n * 1e-3)
        one = compare(trial.moments(Arm.CONTROL), trial.moments(Arm.PLACED))
        found = combine([one])
        assert found is not None
        assert (found.mean, found.low, found.high) == pytest.approx((one.mean, one.low, one.high))

    def test_weighs_by_placed_requests_and_adds_errors(self) -> None:
        found = combine([saving(2.0, 0.3, 100), saving(1.0, 0.4, 300)])
        assert found is not None
        assert found.mean == pytest.approx(1.25)
        assert (found.high - found.low) / 2 == pytest.approx(math.hypot(0.075, 0.3))
        assert (found.placed_requests, found.control_requests) == (400, 10)

    def test_no_bounds_of_one_edge_are_none_of_the_sum(self) -> None:
        found = combine([saving(2.0, 0.3, 100), saving(1.0, math.nan, 300)])
        assert found is not None
        assert found.mean == pytest.approx(1.25)
        assert math.isnan(found.low)

    def test_nothing_measured_is_none(self) -> None:
        assert combine([]) is None
        assert combine([saving(math.nan, math.nan, 0)]) is None
