"""Scores: the formula itself, and renewed cells equal to a full run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.place.frame import Costs, Frame, build_frame
from onetrip.place.score import changed_rtts, difference_errors, rescore, score
from support.world import load_topology, matrix_of

REGIONS, RTT = load_topology("12")
BACKENDS = {"db": REGIONS[0], "cache": REGIONS[3], "api": REGIONS[7]}


def random_frame(seed: int, count: int = 40) -> Frame:
    rng = np.random.default_rng(seed)
    matrix = matrix_of(REGIONS, RTT, BACKENDS)
    data = matrix.backend_rtt.copy()
    data[rng.random(data.shape) < 0.1] = np.nan
    matrix = replace(matrix, backend_rtt=data)
    keys = [
        RouteKey(EnvironmentId("p", "production"), f"/{i}", MethodClass.READ) for i in range(count)
    ]
    costs = []
    for _ in keys:
        names = tuple(rng.permutation(list(BACKENDS))[: rng.integers(0, 4)].tolist())
        trips = rng.integers(0, 12, len(names)).astype(float)
        basis = rng.normal(size=(len(names), len(names)))
        costs.append(Costs(names, 0.01, trips, basis @ basis.T, float(rng.random() * 3)))
    default = rng.integers(-1, len(REGIONS), count)
    usable = rng.random((count, len(REGIONS))) < 0.8
    return build_frame(matrix, REGIONS[2], keys, costs, default, usable)


def test_total_is_the_formula() -> None:
    frame = random_frame(1)
    scores = score(frame)
    for k in range(len(frame.keys)):
        for r in range(len(REGIONS)):
            expected = frame.edge_rtt[r] + frame.compute[k]
            for d, b in enumerate(frame.backend_index[k]):
                if frame.trips[k, d]:
                    expected += frame.trips[k, d] * frame.backend_rtt[r, b]
            assert scores.total[k, r] == pytest.approx(expected, nan_ok=True)
            gain = scores.total[k, max(frame.default[k], 0)] - scores.total[k, r]
            assert scores.gain[k, r] == pytest.approx(gain, nan_ok=True)


def test_renewed_cells_equal_a_full_run() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        frame = random_frame(seed)
        before = score(frame)
        backend, edge = frame.backend_rtt.copy(), frame.edge_rtt.copy()
        fresh = frame.backend_fresh.copy()
        for _ in range(rng.integers(1, 4)):
            row = rng.integers(len(REGIONS))
            backend[row, rng.integers(len(BACKENDS))] = rng.random()
            fresh[row, rng.integers(len(BACKENDS))] ^= True
            if rng.random() < 0.5:
                edge[rng.integers(len(REGIONS))] = rng.random()
        new = replace(frame, backend_rtt=backend, edge_rtt=edge, backend_fresh=fresh)
        changed = changed_rtts(frame, new)
        assert changed is not None
        quick, full = before, score(new)
        rescore(new, quick, changed)
        for name in ("total", "gain", "error", "ceiling", "fresh"):
            np.testing.assert_allclose(
                getattr(quick, name), getattr(full, name), rtol=1e-9, atol=1e-12, err_msg=f"{seed}"
            )


def test_changed_costs_ask_for_a_full_run() -> None:
    frame = random_frame(1)
    assert changed_rtts(frame, replace(frame, trips=frame.trips + 1)) is None
    assert not changed_rtts(frame, frame).any()  # type: ignore[union-attr]


def test_gain_never_exceeds_its_ceiling_when_the_bound_holds() -> None:
    frame = random_frame(3)
    time_at_default = (
        frame.trips
        * np.nan_to_num(
            frame.backend_rtt[np.maximum(frame.default, 0)[:, None], frame.backend_index]
        )
    ).sum(axis=1)
    scores = score(replace(frame, bound=time_at_default))
    known = ~np.isnan(scores.gain)
    assert (scores.gain[known] <= scores.ceiling[known] + 1e-9).all()


def test_error_of_a_difference_is_that_of_a_gain_when_one_side_is_the_default() -> None:
    frame = random_frame(5)
    scores = score(frame)
    for k in range(len(frame.keys)):
        default = max(int(frame.default[k]), 0)
        for r in range(len(REGIONS)):
            needed = frame.backend_index[k][frame.trips[k] > 0]
            rtts = frame.backend_rtt[np.ix_([default, r], frame.backend_index[k])]
            if np.isnan(rtts).any() or not needed.size:
                continue
            found = difference_errors(frame, k, default)[r]
            assert found == pytest.approx(scores.error[k, r])


def test_two_regions_beside_each_other_are_told_apart_by_less_than_the_far_default() -> None:
    matrix = matrix_of(REGIONS, RTT, {"db": REGIONS[0]})
    data = np.array([[0.0005 + 0.001 * i] for i in range(len(REGIONS))])
    data[5] = 0.229
    key = RouteKey(EnvironmentId("p", "production"), "/", MethodClass.READ)
    costs = [Costs(("db",), 0.0, np.array([11.0]), np.array([[0.04]]), 3.0)]
    frame = build_frame(
        replace(matrix, backend_rtt=data), REGIONS[5], [key], costs, np.array([5]), np.ones((1, 12))
    )
    assert difference_errors(frame, 0, 0)[1] < 0.5 * score(frame).error[0, 0]
