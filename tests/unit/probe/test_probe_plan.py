"""The plan: when each target is due, under a bounded rate and a bounded count."""

import math
from itertools import pairwise
from random import Random

import pytest

from onetrip.errors import ConfigError
from onetrip.model.measure import Target, TargetKind
from onetrip.probe.plan import (
    PlanState,
    ProbeSettings,
    next_wait,
    note_failure,
    note_recovery,
    note_success,
    note_suspicion,
    plan_probes,
    set_targets,
    timeout_of,
    wait_until_due,
)

START = 1000.0


def targets(count: int) -> list[Target]:
    return [Target(TargetKind.PEER, f"r{number}") for number in range(count)]


def simulate(
    settings: ProbeSettings, count: int, duration: float, rtt: float = 0.1, step: float = 0.01
) -> tuple[list[tuple[float, Target]], int]:
    """Run the plan with probes that take `rtt` s; return every start, and the most at once."""
    state, rng = PlanState(), Random(3)
    set_targets(state, targets(count), START, rng)
    starts: list[tuple[float, Target]] = []
    most = 0
    for tick in range(int(duration / step)):
        now = START + tick * step
        for target, schedule in state.schedules.items():
            if schedule.is_running and schedule.started_at + rtt <= now:
                note_success(state, target, rtt)
        starts += [(now - START, target) for target in plan_probes(state, now, rng, settings)]
        most = max(most, state.running())
    return starts, most


def test_every_target_is_probed_once_within_the_first_second() -> None:
    starts, _ = simulate(ProbeSettings(), count=40, duration=1.0)
    assert {target for _, target in starts} == set(targets(40))
    assert len({round(at, 2) for at, _ in starts}) > 10


def test_each_interval_is_jittered_by_at_most_a_fifth() -> None:
    starts, _ = simulate(ProbeSettings(interval=2.0, jitter=0.2), count=1, duration=400.0)
    times = [at for at, _ in starts]
    gaps = [b - a for a, b in pairwise(times)]
    assert min(gaps) >= 1.6 - 0.001
    assert max(gaps) <= 2.4 + 0.011
    assert max(gaps) - min(gaps) > 0.6
    assert sum(gaps) / len(gaps) == pytest.approx(2.0, abs=0.1)


def test_rate_is_bounded_and_shared_alike() -> None:
    settings = ProbeSettings(interval=1.0, max_rate=20.0)
    starts, _ = simulate(settings, count=100, duration=30.0, rtt=0.01)
    for second in range(30):
        within = sum(second <= at < second + 1 for at, _ in starts)
        assert within <= 20 + 10
    assert len(starts) <= 30 * 20 + 10
    counts = [sum(t == target for _, t in starts) for target in targets(100)]
    assert max(counts) - min(counts) <= 1


def test_count_of_running_probes_is_bounded() -> None:
    settings = ProbeSettings(interval=0.05, max_running=5, max_rate=1000.0)
    _, most = simulate(settings, count=50, duration=2.0, rtt=1.0)
    assert most == 5


def test_running_target_is_not_probed_again() -> None:
    state, rng, settings = PlanState(), Random(1), ProbeSettings(interval=0.05)
    set_targets(state, targets(1), START, rng)
    assert plan_probes(state, START + 1, rng, settings) == targets(1)
    assert plan_probes(state, START + 100, rng, settings) == []


@pytest.mark.parametrize(
    ("failures", "wait"),
    [
        (0, 2.0),
        (1, 0.5),  # looked into quickly
        (2, 0.5),
        (3, 2.0),  # counts as down: the usual pace
        (4, 4.0),
        (5, 8.0),
        (6, 15.0),  # backed off as far as it goes
        (1000, 15.0),
    ],
)
def test_wait_after_failures(failures: int, wait: float) -> None:
    settings = ProbeSettings(interval=2.0, jitter=0.0, failing_after=3, max_backoff=15.0)
    assert next_wait(failures, Random(1), settings) == wait


def test_backoff_is_never_shorter_than_the_interval() -> None:
    settings = ProbeSettings(interval=60.0, jitter=0.0, max_backoff=15.0)
    assert next_wait(9, Random(1), settings) == 60.0


def test_outage_is_noticed_within_about_one_interval() -> None:
    state, rng, settings = PlanState(), Random(2), ProbeSettings(interval=2.0, timeout=0.5)
    set_targets(state, targets(1), START, rng)
    now, failures = START, 0
    state.schedules[targets(1)[0]].due_at = START
    while failures < 3:
        for target in plan_probes(state, now, rng, settings):
            failures = note_failure(state, target, now + 0.1, rng, settings)
        now += 0.01
    assert now - START < 2.0


def test_success_ends_the_backoff() -> None:
    state, rng, settings = PlanState(), Random(2), ProbeSettings(interval=2.0, jitter=0.0)
    (target,) = targets(1)
    set_targets(state, [target], START, rng)
    for _ in range(6):
        note_failure(state, target, START, rng, settings)
    now = state.schedules[target].due_at = START + 50
    plan_probes(state, now, rng, settings)
    note_success(state, target, 0.1)
    assert state.schedules[target].failures == 0
    plan_probes(state, now + 15, rng, settings)
    assert state.schedules[target].due_at == now + 15 + 2.0


def test_recovery_is_confirmed_quickly_and_only_in_a_row() -> None:
    settings = ProbeSettings(interval=4.0, jitter=0.0, failing_after=2, recovered_after=3)
    state, rng, (target,) = PlanState(), Random(2), targets(1)
    set_targets(state, [target], START, rng)
    schedule = state.schedules[target]
    for _ in range(2):
        note_failure(state, target, START, rng, settings)
    seen = []
    for succeeds in (True, True, False, True, True, True):
        if succeeds:
            note_success(state, target, 0.01)
            note_recovery(state, target, rng, settings)
        else:
            note_failure(state, target, START, rng, settings)
        seen.append((schedule.to_confirm, schedule.failures))
    assert seen == [(2, 2), (1, 2), (3, 3), (2, 3), (1, 3), (0, 0)]
    assert schedule.due_at <= schedule.started_at + settings.interval / 4


def test_outcome_of_a_target_that_is_gone_is_ignored() -> None:
    state, rng, settings = PlanState(), Random(2), ProbeSettings()
    (target,) = targets(1)
    note_success(state, target, 0.1)
    assert note_failure(state, target, START, rng, settings) == 0
    assert state.schedules == {}


def test_set_targets_keeps_the_schedules_of_those_that_stay() -> None:
    state, rng = PlanState(), Random(2)
    first, second, third = targets(3)
    set_targets(state, [first, second], START, rng)
    kept = state.schedules[second]
    set_targets(state, [second, third, third], START + 100, rng)
    assert list(state.schedules) == [second, third]
    assert state.schedules[second] is kept
    assert START + 100 <= state.schedules[third].due_at <= START + 101


@pytest.mark.parametrize(
    ("rtt", "timeout"), [(math.nan, 2.0), (0.1, 2.0), (1.0, 4.0), (5.0, 10.0), (50.0, 10.0)]
)
def test_timeout_leaves_room_for_a_far_target(rtt: float, timeout: float) -> None:
    state = PlanState()
    set_targets(state, targets(1), START, Random(1))
    state.schedules[targets(1)[0]].srtt = rtt
    assert timeout_of(state, targets(1)[0], ProbeSettings(timeout=2.0)) == timeout


def test_configured_timeout_is_kept_when_longer() -> None:
    state = PlanState()
    set_targets(state, targets(1), START, Random(1))
    state.schedules[targets(1)[0]].srtt = 5.0
    assert timeout_of(state, targets(1)[0], ProbeSettings(timeout=30.0)) == 30.0


def test_wait_until_due_is_the_next_target_within_bounds() -> None:
    state, rng = PlanState(), Random(1)
    assert wait_until_due(state, START, 0.25) == 0.25
    set_targets(state, targets(1), START, rng)
    state.schedules[targets(1)[0]].due_at = START + 0.1
    assert wait_until_due(state, START, 0.25) == pytest.approx(0.1)
    assert wait_until_due(state, START + 5, 0.25) == 0.005
    state.schedules[targets(1)[0]].is_running = True
    assert wait_until_due(state, START + 5, 0.25) == 0.25


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("interval", 0.0),
        ("interval", math.nan),
        ("jitter", 1.0),
        ("timeout", 61.0),
        ("max_rate", 0.0),
        ("max_running", 0),
        ("failing_after", 0),
        ("recovered_after", 0),
        ("max_backoff", 4000.0),
    ],
)
def test_settings_out_of_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"probe {name} of"):
        ProbeSettings(**{name: value})  # type: ignore[arg-type]


def test_doubtful_level_is_looked_at_again_soon() -> None:
    settings, rng = ProbeSettings(interval=5.0), Random(1)
    state = PlanState()
    target = Target(TargetKind.BACKEND, "db")
    set_targets(state, [target], 0.0, rng)
    assert plan_probes(state, 1.0, rng, settings) == [target]
    note_success(state, target, 0.2)
    note_suspicion(state, target, rng, settings)
    assert plan_probes(state, 1.3, rng, settings) == []
    assert plan_probes(state, 1.7, rng, settings) == [target]
    note_success(state, target, 0.2)
    assert plan_probes(state, 4.0, rng, settings) == [], "calm again: the usual interval"
