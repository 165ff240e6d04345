"""The nearest endpoint of a backend with replicas, as a column and as one RTT: they agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.estimate.matrix import build_matrix
from onetrip.estimate.nearest import (
    add_nearest,
    nearest_column,
    nearest_endpoint,
    nearest_rtt,
)
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId

ENDPOINTS = ("db", "db/a", "db/b")
REGIONS = tuple(RegionId(name) for name in ("den", "bom", "fra"))

STATES = st.sampled_from([EstimateState.FRESH, EstimateState.STALE, EstimateState.FAILING])
CELL = st.none() | st.tuples(st.floats(0.0001, 1.0), STATES)


def estimate(name: str, rtt: float, state: EstimateState) -> RttEstimate:
    return RttEstimate(Target(TargetKind.BACKEND, name), rtt, rtt, 0.0, 9, 0, 1.0, state)


def row(cells: list[tuple[float, EstimateState] | None]) -> dict[Target, RttEstimate]:
    found = [
        estimate(name, *cell)
        for name, cell in zip(ENDPOINTS, cells, strict=True)
        if cell is not None
    ]
    return {each.target: each for each in found}


@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=3, max_size=3))
def test_column_and_single_rtt_tell_the_same(
    cells: list[list[tuple[float, EstimateState] | None]],
) -> None:
    rows = {region: row(each) for region, each in zip(REGIONS, cells, strict=True)}
    matrix = add_nearest(build_matrix(rows, REGIONS, ENDPOINTS), {nearest_column("db"): ENDPOINTS})
    for index, region in enumerate(REGIONS):
        served_by = matrix.served_by[nearest_column("db")][index]
        told = matrix.to_backend(region, nearest_column("db"))
        assert told == pytest.approx(nearest_rtt(rows[region], ENDPOINTS), nan_ok=True)
        assert told == pytest.approx(matrix.to_backend(region, served_by), nan_ok=True)
        assert nearest_endpoint(rows[region], ENDPOINTS) == served_by
        if not math.isnan(told):
            state = rows[region][Target(TargetKind.BACKEND, served_by)].state
            assert matrix.backend_is_stale[index, -1] == (state is EstimateState.STALE)
            assert matrix.backend_is_failing[index, -1] == (state is EstimateState.FAILING)


def test_a_replica_that_fails_is_passed_over() -> None:
    cells = [(0.2, EstimateState.FRESH), (0.001, EstimateState.FAILING), None]
    found = row(cells)
    assert nearest_rtt(found, ENDPOINTS) == 0.2
    matrix = add_nearest(
        build_matrix({REGIONS[0]: found}, REGIONS, ENDPOINTS), {nearest_column("db"): ENDPOINTS}
    )
    assert matrix.served_by[nearest_column("db")][0] == "db"


def test_without_replicas_the_matrix_is_the_same_object() -> None:
    matrix = build_matrix({}, REGIONS, ENDPOINTS)
    assert add_nearest(matrix, {}) is matrix


def test_other_columns_stay_as_they_were() -> None:
    matrix = build_matrix({REGIONS[0]: row([(0.2, EstimateState.FRESH)] * 3)}, REGIONS, ENDPOINTS)
    wider = add_nearest(matrix, {nearest_column("db"): ENDPOINTS})
    assert wider.backends == (*ENDPOINTS, nearest_column("db"))
    np.testing.assert_array_equal(wider.backend_rtt[:, :3], matrix.backend_rtt)
