"""The filter of one target and the book of all: base RTT, smoothing, states, bad samples."""

import itertools
import math
from random import Random

import pytest

from onetrip.errors import ConfigError, Kind, ProbeError
from onetrip.estimate.filters import (
    RELATIVE_ERROR,
    FilterSettings,
    RttBook,
    RttFilter,
    WindowedMinimum,
)
from onetrip.model.measure import EstimateState, Sample, SampleKind, Target, TargetKind
from support.traces import trace_slices

DB = Target(TargetKind.BACKEND, "orders")
PEER = Target(TargetKind.PEER, "bom")


def fed(rtts: list[float], step: float = 1.0, settings: FilterSettings | None = None) -> RttFilter:
    known = RttFilter(DB, settings)
    for number, rtt in enumerate(rtts):
        known.record(rtt, 100.0 + number * step)
    return known


def base(known: RttFilter) -> float:
    return known.estimate(1000.0).rtt


def test_estimate_is_unknown_before_the_first_sample() -> None:
    estimate = RttFilter(DB).estimate(5.0)
    assert estimate.state is EstimateState.UNKNOWN
    assert math.isnan(estimate.rtt)
    assert math.isnan(estimate.srtt)
    assert (estimate.samples, estimate.failures, estimate.updated_at) == (0, 0, 0.0)


def test_base_is_the_least_of_the_window() -> None:
    assert base(fed([0.120, 0.118, 0.121, 0.119])) == 0.118


def test_least_sample_leaves_with_the_window_by_time() -> None:
    settings = FilterSettings(window=10.0)
    assert base(fed([0.118] + [0.1185] * 9, settings=settings)) == 0.118
    assert base(fed([0.118] + [0.1185] * 11, settings=settings)) == 0.1185


def test_least_sample_leaves_with_the_window_by_count() -> None:
    settings = FilterSettings(window=1000.0, max_samples=8)
    assert base(fed([0.118] + [0.1185] * 7, settings=settings)) == 0.118
    assert base(fed([0.118] + [0.1185] * 8, settings=settings)) == 0.1185


def test_srtt_and_rttvar_follow_rfc_6298() -> None:
    first = fed([0.1]).estimate(100.0)
    assert (first.srtt, first.rttvar) == (0.1, 0.05)
    second = fed([0.1, 0.2]).estimate(101.0)
    assert second.rttvar == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)
    assert second.srtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)


def test_rise_is_believed_within_five_samples_although_the_window_is_long() -> None:
    known = fed([0.1] * 20 + [0.2] * 5)
    assert base(known) == 0.2


def test_spike_changes_nothing() -> None:
    assert base(fed([0.1] * 20 + [5.0, 5.0, 5.0] + [0.1])) == 0.1


def test_false_alarm_is_undone_by_the_next_sample_at_the_old_level() -> None:
    assert base(fed([0.1] * 20 + [0.2] * 6 + [0.1])) == 0.1


def test_fall_is_believed_at_once() -> None:
    assert base(fed([0.2] * 20 + [0.11])) == 0.11


def test_absurdly_low_sample_must_repeat() -> None:
    assert base(fed([0.2] * 20 + [0.05])) == 0.2
    assert base(fed([0.2] * 20 + [0.05, 0.2, 0.2])) == 0.2
    assert base(fed([0.2] * 20 + [0.05, 0.06])) == 0.05


def test_two_absurd_samples_apart_do_not_confirm_each_other() -> None:
    assert base(fed([0.2] * 20 + [0.05, 0.2, 0.05, 0.2])) == 0.2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.001, 60.001])
def test_impossible_sample_is_refused_and_changes_nothing(bad: float) -> None:
    known = fed([0.1, 0.1])
    before = known.estimate(200.0)
    with pytest.raises(ProbeError, match=r"rtt of backend:orders .* not in \[0, 60\]") as caught:
        known.record(bad, 150.0)
    assert caught.value.kind is Kind.INVALID
    assert known.estimate(200.0) == before


def test_three_failures_in_a_row_are_failing_and_keep_the_last_rtt() -> None:
    known = fed([0.1])
    for at in (101.0, 102.0):
        known.fail(at)
        assert known.estimate(at).state is EstimateState.FRESH
    known.fail(103.0)
    estimate = known.estimate(103.0)
    assert estimate.state is EstimateState.FAILING
    assert (estimate.rtt, estimate.failures) == (0.1, 3)


def test_success_ends_a_failure() -> None:
    known = fed([0.1])
    for at in (101.0, 102.0, 103.0):
        known.fail(at)
    known.record(0.1, 104.0)
    estimate = known.estimate(104.0)
    assert estimate.state is EstimateState.FRESH
    assert estimate.failures == 0


def test_target_that_never_answered_is_failing() -> None:
    known = RttFilter(DB)
    for at in (1.0, 2.0, 3.0):
        known.fail(at)
    estimate = known.estimate(3.0)
    assert estimate.state is EstimateState.FAILING
    assert math.isnan(estimate.rtt)


def test_estimate_turns_stale_after_its_maximum_age() -> None:
    known = fed([0.1], settings=FilterSettings(max_age=30.0))
    assert known.estimate(130.0).state is EstimateState.FRESH
    assert known.estimate(130.1).state is EstimateState.STALE


def test_sample_from_the_past_does_not_move_time_back() -> None:
    known = fed([0.1])
    known.record(0.09, 50.0)
    assert known.estimate(100.0).updated_at == 100.0
    assert base(known) == 0.09


def test_measured_rises_are_followed_and_not_before_they_happen() -> None:
    for rise in trace_slices("rise"):
        assert rise.change is not None
        known = RttFilter(DB)
        for number, rtt in enumerate(rise.rtts):
            known.record(rtt, number * 2.0)
            if number == rise.change - 5:
                assert base(known) <= min(rise.rtts[: rise.change - 4][-30:]) * 1.05, rise.trace
            if number == rise.change + 20:
                since = min(rise.rtts[rise.change : number + 1])
                assert base(known) >= since * 0.97, rise.trace


def test_base_rtts_of_measured_paths_drift_by_less_than_the_error_assumed() -> None:
    # Fifteen pings after fifteen pings, of nine paths without a labelled change.
    steps = []
    for trace in trace_slices("quiet"):
        lows = [min(trace.rtts[i : i + 15]) for i in range(0, len(trace.rtts) - 14, 15)]
        steps += [abs(b - a) / a for a, b in itertools.pairwise(lows)]
    assert len(steps) > 300
    assert sum(step > RELATIVE_ERROR for step in steps) < 0.1 * len(steps)


def test_windowed_minimum_equals_the_plain_minimum() -> None:
    rng, samples = Random(5), list[tuple[float, float]]()
    window, at = WindowedMinimum(window=10.0, max_samples=12), 0.0
    assert math.isnan(window.value())
    for _ in range(500):
        at += rng.choice([0.0, 0.5, 3.0])
        samples.append((rng.random(), at))
        window.add(*samples[-1])
        assert window.value() == min(v for v, t in samples[-12:] if t >= at - 10.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 0.5),
        ("window", math.nan),
        ("max_samples", 4),
        ("max_age", 0),
        ("failing_after", 0),
        ("recovered_after", 101),
    ],
)
def test_settings_out_of_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        FilterSettings(**{name: value})  # type: ignore[arg-type]


def sample(target: Target, rtt: float, at: float) -> Sample:
    return Sample(target=target, rtt=rtt, kind=SampleKind.HTTP, taken_at=at)


def test_book_keeps_targets_apart() -> None:
    book = RttBook()
    book.record(sample(DB, 0.2, 1.0))
    book.record(sample(PEER, 0.1, 2.0))
    book.fail(PEER, 3.0)
    estimates = book.estimates(3.0)
    assert {t: (e.rtt, e.failures) for t, e in estimates.items()} == {DB: (0.2, 0), PEER: (0.1, 1)}


def test_book_refuses_an_impossible_sample_without_a_trace() -> None:
    book = RttBook()
    with pytest.raises(ProbeError):
        book.record(sample(DB, math.nan, 1.0))
    assert len(book) == 0


def test_pruned_target_is_forgotten() -> None:
    book = RttBook()
    book.record(sample(DB, 0.2, 1.0))
    book.record(sample(PEER, 0.1, 1.0))
    book.prune([PEER])
    assert set(book.estimates(2.0)) == {PEER}


def test_one_far_sample_asks_for_another_and_the_next_one_settles_it() -> None:
    book, target = RttBook(), Target(TargetKind.BACKEND, "db")
    for at in range(20):
        assert not book.record(Sample(target, 0.100, SampleKind.HANDSHAKE, float(at)))
    assert book.record(Sample(target, 0.150, SampleKind.HANDSHAKE, 21.0))
    assert not book.record(Sample(target, 0.100, SampleKind.HANDSHAKE, 22.0)), "a spike"
    assert book.record(Sample(target, 0.030, SampleKind.HANDSHAKE, 23.0)), "absurdly short"


def test_spike_just_before_a_shift_is_not_the_new_minimum() -> None:
    target = Target(TargetKind.BACKEND, "db")
    known = RttFilter(target)
    for at in range(20):
        known.record(0.0174 + 0.0001 * (at % 3), float(at))
    known.record(0.0201, 20.0)
    for at in range(21, 30):
        known.record(0.155, float(at))
    assert known.estimate(30.0).rtt == pytest.approx(0.155)
