"""The matrix: where each number comes from, and what its masks say about it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from onetrip.estimate.matrix import MAX_ERROR, RttMatrix, build_matrix
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId
from support.traces import topology_matrix

DEN, BOM, FRA = RegionId("den"), RegionId("bom"), RegionId("fra")
REGIONS = [DEN, BOM, FRA]
FRESH, STALE, FAILING = EstimateState.FRESH, EstimateState.STALE, EstimateState.FAILING


def peer(region: str) -> Target:
    return Target(TargetKind.PEER, region)


def backend(name: str) -> Target:
    return Target(TargetKind.BACKEND, name)


def row(
    *cells: tuple[Target, float, EstimateState],
) -> dict[Target, RttEstimate]:
    return {
        target: RttEstimate(target, rtt, rtt, 0.001, 5, 0, 1.0, state)
        for target, rtt, state in cells
    }


def built(rows: dict[RegionId, dict[Target, RttEstimate]], *backends: str) -> RttMatrix:
    return build_matrix(rows, REGIONS, backends)


def test_measured_pairs_keep_their_direction() -> None:
    matrix = built({DEN: row((peer("bom"), 0.229, FRESH)), BOM: row((peer("den"), 0.231, FRESH))})
    assert matrix.between(DEN, BOM) == 0.229
    assert matrix.between(BOM, DEN) == 0.231
    assert not matrix.is_stale.any()


def test_missing_direction_comes_from_the_other_one() -> None:
    matrix = built({DEN: row((peer("bom"), 0.229, STALE))})
    assert matrix.between(BOM, DEN) == 0.229
    assert matrix.is_stale[1, 0]
    assert not matrix.is_predicted.any()


def test_what_only_the_other_end_told_starts_no_move_of_a_node_that_doubts() -> None:
    rows = {
        DEN: row((peer("bom"), 0.229, FRESH)),
        BOM: row((peer("den"), 0.231, FRESH)),
        FRA: row((peer("den"), 0.117, FRESH), (peer("bom"), 0.130, FRESH)),
    }
    matrix = build_matrix(rows, REGIONS, [], doubting=(DEN,))
    assert matrix.between(DEN, FRA) == 0.117
    assert matrix.is_stale.tolist() == [[False, False, True]] + 2 * [[False] * 3]


def test_stale_time_is_replaced_by_a_fresh_one_from_the_other_end() -> None:
    matrix = built({DEN: row((peer("bom"), 0.300, STALE)), BOM: row((peer("den"), 0.231, FRESH))})
    assert matrix.between(DEN, BOM) == 0.231
    assert not matrix.is_stale[0, 1]


def test_failing_direction_keeps_its_mark_and_its_last_time() -> None:
    matrix = built({DEN: row((peer("bom"), 0.229, FAILING)), BOM: row((peer("den"), 0.231, FRESH))})
    assert matrix.is_failing[0, 1]
    assert not matrix.is_failing[1, 0]
    assert matrix.between(DEN, BOM) == 0.229


def test_region_without_a_row_is_failing_where_the_others_say_so() -> None:
    matrix = built({DEN: row((peer("bom"), math.nan, FAILING))})
    assert matrix.is_failing[0, 1]
    assert matrix.is_failing[1, 0]
    assert math.isnan(matrix.between(DEN, BOM))


def test_diagonal_is_zero_unless_measured() -> None:
    matrix = built({DEN: row((peer("den"), 0.0005, FRESH))})
    assert matrix.between(DEN, DEN) == 0.0005
    assert matrix.between(FRA, FRA) == 0.0


def test_pair_that_nobody_measured_is_unknown_when_too_little_is_known() -> None:
    matrix = built({DEN: row((peer("bom"), 0.229, FRESH), (peer("fra"), 0.117, FRESH))})
    assert math.isnan(matrix.between(BOM, FRA))
    assert not matrix.is_predicted.any()


def test_backends_are_columns_with_masks() -> None:
    rows = {
        DEN: row((backend("orders"), 0.229, STALE), (backend("cache"), 0.230, FAILING)),
        BOM: row((backend("orders"), 0.001, FRESH)),
    }
    matrix = built(rows, "orders", "cache")
    assert matrix.backends == ("orders", "cache")
    assert matrix.to_backend(DEN, "orders") == 0.229
    assert math.isnan(matrix.to_backend(FRA, "orders"))
    assert matrix.backend_is_stale.tolist() == [[True, False], [False, False], [False, False]]
    assert matrix.backend_is_failing.tolist() == [[False, True], [False, False], [False, False]]


def test_foreign_regions_backends_and_instances_are_left_out() -> None:
    rows = {
        DEN: row(
            (peer("syd"), 0.1, FRESH),
            (backend("other"), 0.1, FRESH),
            (Target(TargetKind.INSTANCE, "bom"), 0.1, FRESH),
        ),
        RegionId("syd"): row((peer("bom"), 0.1, FRESH)),
    }
    matrix = built(rows, "orders")
    assert np.isnan(matrix.rtt[~np.eye(3, dtype=bool)]).all()
    assert np.isnan(matrix.backend_rtt).all()


def test_unknown_name_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="tuple"):
        built({}).between(DEN, RegionId("syd"))


def test_empty_cluster_gives_empty_arrays() -> None:
    matrix = build_matrix({}, [], [])
    assert matrix.rtt.shape == (0, 0)
    assert matrix.backend_rtt.shape == (0, 0)


def azure_rows(
    gaps: set[tuple[int, int]],
) -> tuple[list[RegionId], dict[RegionId, dict[Target, RttEstimate]]]:
    truth = topology_matrix("12")
    regions = [RegionId(f"r{i}") for i in range(12)]
    rows = {
        regions[i]: row(
            *(
                (peer(regions[j]), truth[i, j], FRESH)
                for j in range(12)
                if i != j and (i, j) not in gaps and (j, i) not in gaps
            )
        )
        for i in range(12)
    }
    return regions, rows


def test_gap_in_a_well_measured_cluster_is_predicted_and_says_so() -> None:
    regions, rows = azure_rows({(0, 1), (5, 9)})
    matrix = build_matrix(rows, regions, [])
    truth = topology_matrix("12")
    for i, j in ((0, 1), (1, 0), (5, 9), (9, 5)):
        assert matrix.is_predicted[i, j]
        assert matrix.is_stale[i, j]
        assert 0 < matrix.error[i, j] < 1
        assert matrix.rtt[i, j] == pytest.approx(truth[i, j], rel=0.6)
    assert matrix.is_predicted.sum() == 4
    assert (matrix.error[~matrix.is_predicted] == 0).all()


def test_equal_rows_give_an_equal_matrix() -> None:
    regions, rows = azure_rows({(0, 1)})
    first, second = (build_matrix(rows, regions, []) for _ in range(2))
    assert np.array_equal(first.rtt, second.rtt)


def test_fit_goes_on_from_the_previous_matrix() -> None:
    regions, rows = azure_rows({(0, 1)})
    first = build_matrix(rows, regions, [])
    second = build_matrix(rows, regions, [], previous=first)
    assert second.rtt[0, 1] == pytest.approx(first.rtt[0, 1], rel=0.15)


def test_previous_matrix_of_other_regions_is_no_start() -> None:
    regions, rows = azure_rows({(0, 1)})
    other = build_matrix(rows, regions[:8], [])
    cold = build_matrix(rows, regions, [])
    assert np.array_equal(build_matrix(rows, regions, [], previous=other).rtt, cold.rtt)


def test_prediction_that_may_be_far_off_is_left_unknown() -> None:
    # One region whose RTTs fit no place: the halves of its peers cannot both be right.
    regions, rows = azure_rows({(0, 1), (5, 9)})
    for number, (target, estimate) in enumerate(list(rows[regions[0]].items())):
        if target in (peer("r5"), peer("r9")):
            continue
        wild = 0.001 if number % 2 else 0.9
        rows[regions[0]][target] = replace(estimate, rtt=wild)
        other = rows[RegionId(target.name)]
        other[peer("r0")] = replace(other[peer("r0")], rtt=wild)
    matrix = build_matrix(rows, regions, [])
    assert matrix.coordinates is not None
    assert matrix.coordinates.relative_error()[0, 1] > MAX_ERROR
    assert math.isnan(matrix.rtt[0, 1])
    assert not matrix.is_predicted[0, 1]
    assert matrix.is_predicted[5, 9], "the others are not worse for it"


def test_coordinates_stay_until_a_region_seems_to_have_moved() -> None:
    regions, rows = azure_rows({(0, 1)})
    first = build_matrix(rows, regions, [])
    for target in list(rows[regions[0]])[:2]:
        longer = rows[regions[0]][target].rtt * 1.5
        rows[regions[0]][target] = replace(rows[regions[0]][target], rtt=longer)
    second = build_matrix(rows, regions, [], previous=first)
    assert second.rtt[0, 1] == first.rtt[0, 1], "two paths of ten shifted"
    assert second.coordinates is first.coordinates
    for target, estimate in rows[regions[0]].items():
        rows[regions[0]][target] = replace(estimate, rtt=estimate.rtt * 1.5)
    third = build_matrix(rows, regions, [], previous=second)
    assert third.rtt[0, 1] > 1.1 * first.rtt[0, 1]
