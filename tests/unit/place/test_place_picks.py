"""Picks among regions when the sum of round trips is known and their split is not.

Every region is as far from both databases at the default, so traffic there tells only the sum:
the region beside one database may be splendid or useless, one between the two is sure to help.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId
from onetrip.place.frame import Costs, build_frame
from onetrip.place.picks import Picks
from onetrip.place.score import score
from support.world import matrix_of

HOME, BESIDE, BETWEEN, CLOSER = range(4)
REGIONS = tuple(RegionId(name) for name in ("home", "beside", "between", "closer"))
KEY = RouteKey(EnvironmentId("shop", "production"), "/checkout", MethodClass.WRITE)
LEAST_GAIN = 0.010


def picks(split_error: float, *, usable: tuple[int, ...] = (HOME, BESIDE, BETWEEN)) -> Picks:
    """18 + 2 round trips whose sum is known and whose split has the given standard deviation."""
    to_orders = [0.200, 0.001, 0.060, 0.045]
    to_users = [0.200, 0.250, 0.060, 0.045]
    far = np.full((4, 4), 0.1)
    np.fill_diagonal(far, 0.0)
    homes = {"orders": REGIONS[HOME], "users": REGIONS[HOME]}
    backends = np.column_stack([to_orders, to_users])
    matrix = replace(matrix_of(REGIONS, far, homes), backend_rtt=backends)
    covariance = np.array([[1.0, -1.0], [-1.0, 1.0]]) * split_error**2
    costs = Costs(("orders", "users"), 0.003, np.array([18.0, 2.0]), covariance)
    mask = np.array([[i in usable for i in range(4)]])
    frame = build_frame(matrix, REGIONS[HOME], [KEY], [costs], np.array([HOME]), mask)
    return Picks(frame, score(frame))


def test_best_region_is_taken_when_it_is_sure() -> None:
    assert picks(0.5).from_default(0, LEAST_GAIN) == BESIDE


def test_sure_region_is_taken_while_the_best_is_not() -> None:
    found = picks(10.0)
    assert (found.best[0], found.safest[0]) == (BESIDE, BETWEEN)
    assert found.from_default(0, LEAST_GAIN) == BETWEEN


def test_best_region_is_named_when_none_is_sure() -> None:
    assert picks(10.0, usable=(HOME, BESIDE)).from_default(0, LEAST_GAIN) == BESIDE
    assert picks(10.0).from_default(0, 5.0) == BESIDE


def test_placed_route_stays_until_the_best_is_sure() -> None:
    found = picks(10.0)
    region, error = found.from_placed(0, BETWEEN, LEAST_GAIN)
    ahead = found.scores.gain[0, BESIDE] - found.scores.gain[0, BETWEEN]
    assert region == BESIDE
    assert ahead - 1.645 * error < LEAST_GAIN


def test_placed_route_moves_on_to_a_region_that_is_surely_better_still() -> None:
    found = picks(10.0, usable=(HOME, BESIDE, BETWEEN, CLOSER))
    region, error = found.from_placed(0, BETWEEN, LEAST_GAIN)
    ahead = found.scores.gain[0, CLOSER] - found.scores.gain[0, BETWEEN]
    assert region == CLOSER
    assert ahead - 1.645 * error > LEAST_GAIN


def test_placed_route_in_the_best_region_has_nowhere_to_go() -> None:
    assert picks(0.5).from_placed(0, BESIDE, LEAST_GAIN) == (BESIDE, 0.0)


@pytest.mark.parametrize("current", [HOME, BETWEEN])
def test_nothing_usable_is_no_pick(current: int) -> None:
    found = picks(10.0, usable=())
    assert found.from_default(0, LEAST_GAIN) == -1
    assert found.from_placed(0, current, LEAST_GAIN) == (-1, 0.0)
