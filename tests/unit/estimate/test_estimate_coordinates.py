"""Coordinates: prediction error on measured matrices, bounds, determinism."""

import numpy as np
import numpy.typing as npt
import pytest

from onetrip.errors import ConfigError
from onetrip.estimate.coordinates import MIN_NEIGHBOURS, Coordinates, fit_coordinates
from support.traces import topology_matrix

Floats = npt.NDArray[np.float64]


def sampled(truth: Floats, neighbours: int, seed: int) -> Floats:
    """Keep `neighbours` random measurements a row."""
    rng = np.random.default_rng(seed)
    size = len(truth)
    partial = np.full_like(truth, np.nan)
    for row in range(size):
        others = np.delete(np.arange(size), row)
        kept = rng.choice(others, min(neighbours, size - 1), replace=False)
        partial[row, kept] = truth[row, kept]
    return partial


def unseen(partial: Floats) -> npt.NDArray[np.bool_]:
    pairs = np.isnan(partial) & np.isnan(partial.T)
    np.fill_diagonal(pairs, False)
    return pairs


# Measured over ten seeds: 0.138 (12 regions, 8 neighbours), 0.084 (Azure), 0.088 (world). With 16
# neighbours the 12-region matrix has nothing left unseen; with 8 it has 10 pairs a seed.
@pytest.mark.parametrize(
    ("name", "neighbours", "bound"),
    [("12", 8, 0.20), ("48_azure", 16, 0.10), ("236_world", 16, 0.10)],
)
def test_median_error_of_unseen_pairs_is_bounded(name: str, neighbours: int, bound: float) -> None:
    truth = topology_matrix(name)
    errors: list[float] = []
    for seed in range(5):
        partial = sampled(truth, neighbours, seed)
        pairs = unseen(partial)
        predicted = fit_coordinates(partial, seed=seed).predict()
        errors.extend(np.abs(predicted - truth)[pairs] / truth[pairs])
    assert len(errors) >= 40
    assert np.median(errors) < bound


def test_error_estimate_is_near_the_real_error() -> None:
    truth = topology_matrix("48_azure")
    partial = sampled(truth, 16, seed=3)
    pairs = unseen(partial)
    fitted = fit_coordinates(partial, seed=3)
    real = np.mean(np.abs(fitted.predict() - truth)[pairs] / truth[pairs])
    expected = np.mean(fitted.relative_error()[pairs])
    assert 0.4 * real < expected < 2 * real


def plane(size: int, seed: int = 7) -> Floats:
    """RTTs that a height vector model can hold exactly."""
    rng = np.random.default_rng(seed)
    points, heights = rng.uniform(0, 0.2, (size, 2)), rng.uniform(0.001, 0.01, size)
    rtt = np.linalg.norm(points[:, None] - points[None, :], axis=2)
    rtt += heights[:, None] + heights[None, :]
    np.fill_diagonal(rtt, 0)
    return np.asarray(rtt, dtype=np.float64)


def test_perfect_space_is_recovered() -> None:
    truth = plane(20)
    partial = sampled(truth, 10, seed=1)
    pairs = unseen(partial)
    predicted = fit_coordinates(partial, seed=1).predict()
    assert np.median(np.abs(predicted - truth)[pairs] / truth[pairs]) < 0.05


def test_equal_input_gives_equal_coordinates() -> None:
    partial = sampled(topology_matrix("12"), 6, seed=4)
    first, second = (fit_coordinates(partial, seed=9) for _ in range(2))
    assert np.array_equal(first.predict(), second.predict(), equal_nan=True)


def test_start_makes_few_rounds_enough() -> None:
    truth = topology_matrix("48_azure")
    partial = sampled(truth, 16, seed=5)
    pairs = unseen(partial)

    def error(fitted: Coordinates) -> float:
        return float(np.median(np.abs(fitted.predict() - truth)[pairs] / truth[pairs]))

    full = fit_coordinates(partial, seed=5)
    warm = fit_coordinates(partial, seed=5, rounds=40, start=full)
    cold = fit_coordinates(partial, seed=5, rounds=40)
    assert error(warm) < error(full) + 0.03 < error(cold)


def test_region_with_too_few_neighbours_is_not_predicted() -> None:
    partial = topology_matrix("12")
    partial[0, MIN_NEIGHBOURS:] = partial[MIN_NEIGHBOURS:, 0] = np.nan  # keeps 1, 2 and 3
    predicted = fit_coordinates(partial, seed=1).predict()
    assert np.isnan(predicted[0, 1:]).all()
    assert np.isnan(predicted[1:, 0]).all()
    assert not np.isnan(predicted[1:, 1:]).any()


def test_prediction_is_symmetric_positive_with_zero_diagonal() -> None:
    predicted = fit_coordinates(sampled(topology_matrix("12"), 8, seed=2), seed=2).predict()
    assert np.allclose(predicted, predicted.T)
    assert (predicted[~np.eye(12, dtype=bool)] > 0).all()
    assert (np.diag(predicted) == 0).all()


@pytest.mark.parametrize("size", [0, 1, 3])
def test_nothing_measured_predicts_nothing(size: int) -> None:
    predicted = fit_coordinates(np.full((size, size), np.nan), seed=1).predict()
    assert predicted.shape == (size, size)
    assert np.isnan(predicted).all()


def test_zero_times_do_not_break_the_fit() -> None:
    predicted = fit_coordinates(np.zeros((6, 6)), seed=1).predict()
    assert np.isfinite(predicted).all()
    assert predicted.max() < 0.001


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 3)), np.full((3, 3), -0.1), np.full((3, 3), np.inf), np.zeros(3)]
)
def test_bad_matrix_is_refused(bad: Floats) -> None:
    with pytest.raises(ConfigError, match="rtt"):
        fit_coordinates(bad, seed=1)


def test_start_of_other_regions_is_refused() -> None:
    start = fit_coordinates(plane(5), seed=1)
    with pytest.raises(ConfigError, match="start of shape"):
        fit_coordinates(plane(6), seed=1, start=start)
