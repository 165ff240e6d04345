"""The trip regression: right without noise, never negative, and blind to the order of columns."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.estimate.tripfit import BACKGROUND, FIRST, TripFit

routes = st.lists(st.integers(0, 50), min_size=1, max_size=6)


def rows(trips: list[int], seed: int, windows: int = 80) -> list[tuple[np.ndarray, float]]:
    """Return (requests, trips) of seconds in which each route ran a few times, or not at all."""
    rng = np.random.default_rng(seed)
    drawn = rng.poisson(4.0, (windows, len(trips))) * rng.integers(0, 2, (windows, 1))
    return [(row, float(row @ trips)) for row in drawn]


def fitted(data: list[tuple[np.ndarray, float]], size: int, order: list[int]) -> TripFit:
    fit = TripFit(FIRST + size)
    for requests, trips in data:
        fit.add({FIRST + order[i]: float(n) for i, n in enumerate(requests) if n}, trips)
    return fit


@given(routes, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_counts_without_noise_are_understood(trips: list[int], seed: int) -> None:
    solution = fitted(rows(trips, seed), len(trips), list(range(len(trips)))).solve()
    assert np.allclose(solution.trips[FIRST:], trips, atol=0.2)
    assert solution.trips[BACKGROUND] < 0.5


@given(routes, st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=40, deadline=None)
def test_columns_may_come_in_any_order(trips: list[int], seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(trips))))
    observed = rows(trips, seed)
    plain = fitted(observed, len(trips), list(range(len(trips)))).solve()
    mixed = fitted(observed, len(trips), order).solve()
    picked = [FIRST + i for i in order]
    assert np.allclose(plain.trips[FIRST:], mixed.trips[picked], atol=1e-6)
    assert np.allclose(plain.error[FIRST:], mixed.error[picked], rtol=1e-6)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(FIRST, FIRST + 3), st.floats(0, 1e4)), st.floats(0, 1e6)
        ),
        max_size=150,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_counts_give_finite_trips_that_are_not_negative(
    data: list[tuple[dict[int, float], float]],
) -> None:
    fit = TripFit(FIRST + 4)
    for requests, trips in data:
        fit.add(requests, trips)
    solution = fit.solve()
    assert np.isfinite(solution.trips).all()
    assert (solution.trips >= 0).all()
    assert (solution.error >= 0).all()


@given(routes.filter(lambda trips: len(trips) > 1), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_column_that_is_forgotten_leaves_the_others(trips: list[int], seed: int) -> None:
    fit = fitted(rows(trips, seed), len(trips), list(range(len(trips))))
    fit.forget(FIRST)
    solution = fit.solve()
    assert solution.trips[FIRST] == 0
    assert np.allclose(solution.trips[FIRST + 1 :], trips[1:], atol=0.3)
    assert solution.trips[BACKGROUND] < 0.6
