"""Estimates: what holds for every series of samples and every set of rows."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.estimate.filters import FilterSettings, RttFilter, WindowedMinimum
from onetrip.estimate.matrix import build_matrix
from onetrip.estimate.roundtrips import fit
from onetrip.model.measure import (
    EstimateState,
    RttEstimate,
    ServiceSummary,
    Target,
    TargetKind,
)
from onetrip.model.topology import RegionId

rtts = st.floats(0.0, 60.0, allow_nan=False)
PEER = Target(TargetKind.PEER, "bom")


@settings(deadline=None)
@given(st.lists(rtts, min_size=1, max_size=200))
def test_base_and_srtt_stay_within_their_samples(samples: list[float]) -> None:
    known = RttFilter(PEER)
    for number, rtt in enumerate(samples):
        known.record(rtt, float(number))
    estimate = known.estimate(float(len(samples)))
    slack = 1e-9
    assert min(samples) <= estimate.rtt <= max(samples)
    assert min(samples) - slack <= estimate.srtt <= max(samples) + slack
    assert 0 <= estimate.rttvar <= max(samples) + slack
    assert estimate.samples == len(samples)


@settings(deadline=None)
@given(st.lists(st.one_of(rtts, st.none()), max_size=60), st.integers(1, 10), st.integers(1, 5))
def test_state_depends_on_the_rows_of_failures_and_successes(
    outcomes: list[float | None], failing_after: int, recovered_after: int
) -> None:
    known = RttFilter(
        PEER, FilterSettings(failing_after=failing_after, recovered_after=recovered_after)
    )
    failed = succeeded = 0
    is_down = False
    for number, outcome in enumerate(outcomes):
        if outcome is None:
            known.fail(float(number))
            failed, succeeded = failed + 1, 0
        else:
            known.record(outcome, float(number))
            failed, succeeded = 0, succeeded + 1
        is_down = failed >= failing_after or (is_down and succeeded < recovered_after)
        assert (known.estimate(float(number)).state is EstimateState.FAILING) == is_down


@settings(deadline=None)
@given(
    st.lists(st.tuples(rtts, st.floats(0, 30)), min_size=1, max_size=100),
    st.integers(1, 20),
    st.floats(1, 60),
)
def test_windowed_minimum_is_the_minimum_of_the_window(
    steps: list[tuple[float, float]], most: int, window: float
) -> None:
    minimum, at = WindowedMinimum(window, most), 0.0
    kept: list[tuple[float, float]] = []
    for value, step in steps:
        at += step
        kept.append((value, at))
        minimum.add(value, at)
        assert minimum.value() == min(v for v, t in kept[-most:] if t >= at - window)


REGIONS = [RegionId(name) for name in ("den", "bom", "fra", "sin", "gru")]

cells = st.dictionaries(
    st.tuples(st.sampled_from(REGIONS), st.sampled_from(REGIONS)),
    st.tuples(st.one_of(rtts, st.just(math.nan)), st.sampled_from(EstimateState)),
)


@settings(deadline=None)
@given(cells, st.permutations(REGIONS))
def test_matrix_does_not_depend_on_the_order_of_regions_where_measured(
    known: dict[tuple[RegionId, RegionId], tuple[float, EstimateState]], order: list[RegionId]
) -> None:
    rows: dict[RegionId, dict[Target, RttEstimate]] = {}
    for (source, name), (rtt, state) in known.items():
        target = Target(TargetKind.PEER, name)
        rows.setdefault(source, {})[target] = RttEstimate(target, rtt, rtt, 0.0, 1, 0, 0.0, state)
    first, second = build_matrix(rows, REGIONS, []), build_matrix(rows, order, [])
    places = [order.index(region) for region in REGIONS]
    assert not (first.is_predicted & ~first.is_stale).any()
    measured = ~first.is_predicted
    assert np.array_equal(
        np.where(measured, first.rtt, 0.0),
        np.where(measured, second.rtt[np.ix_(places, places)], 0.0),
        equal_nan=True,
    )
    assert np.array_equal(first.is_failing, second.is_failing[np.ix_(places, places)])


@given(
    trips=st.tuples(st.floats(0, 30), st.floats(0, 30)),
    compute=st.floats(0, 2),
    rtts=st.lists(
        st.tuples(st.floats(0.0005, 0.3), st.floats(0.0005, 0.3)), min_size=1, max_size=5
    ),
)
def test_covariance_of_round_trips_stays_a_covariance(
    trips: tuple[float, float], compute: float, rtts: list[tuple[float, float]]
) -> None:
    rows = [
        ServiceSummary(
            RegionId(f"r{i}"),
            50,
            compute + trips[0] * one + trips[1] * other,
            0.001,
            {"db": one, "cache": other},
        )
        for i, (one, other) in enumerate(rtts)
    ]
    found = fit(("db", "cache"), rows)
    assert (found.mean >= 0).all()
    assert np.allclose(found.covariance, found.covariance.T)
    assert np.linalg.eigvalsh(found.covariance / 2500).min() >= -1e-9
