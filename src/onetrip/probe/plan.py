"""Which probes to run now: decisions as arithmetic on a small state, without a clock or a task.

Every target has its own next due time, spread by jitter so that the probes of many nodes do not
beat together (RFC 2330 section 11.1.1 on periodic sampling). A token bucket bounds the rate and a
count bounds how many are under way; the longest overdue go first, so a bound delays every target
alike and starves none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from onetrip.errors import ConfigError
from onetrip.model.measure import Target

MAX_TIMEOUT = 10.0
"""Longest timeout that a slow target's own RTT can ask for, s."""

FIRST_SPREAD = 0.8
"""All first probes start within this time, s, as far as the rate allows."""

SUSPICIOUS_SHARE = 0.1
"""Share of the interval after which a doubtful level is looked at again: a shift needs about four
samples, which is then two seconds at the default interval instead of twenty."""

_ALPHA = 1 / 8  # gain of the smoothed RTT (RFC 6298 section 2.3)


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How often and how fast to measure; times in s.

    Attributes:
        interval: between two probes of one target.
        jitter: spread of each interval, a ratio: 0.2 is ± 20 %.
        timeout: of one probe; a target with a long RTT gets up to 4 × its SRTT.
        max_rate: probes a second over all targets.
        max_running: probes under way at once.
        failing_after: failures in a row after which a target counts as down and probing backs off.
        recovered_after: successes in a row after which it counts as up again.
        max_backoff: longest interval of a target that keeps failing; bounds how late its
            recovery is seen.
        peers: near and far peers to probe (`probe/peers`); None depends on how many there are.
    """

    interval: float = 5.0
    jitter: float = 0.2
    timeout: float = 2.0
    max_rate: float = 50.0
    max_running: int = 32
    failing_after: int = 3
    recovered_after: int = 1
    max_backoff: float = 15.0
    peers: int | None = None

    def __post_init__(self) -> None:
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ConfigError(f"probe {name} of {value!r} is not in [{least:g}, {most:g}]")


_BOUNDS = (
    ("interval", 0.05, 3600.0),
    ("jitter", 0.0, 0.9),
    ("timeout", 0.01, 60.0),
    ("max_rate", 0.1, 10_000.0),
    ("max_running", 1, 1024),
    ("failing_after", 1, 100),
    ("recovered_after", 1, 100),
    ("max_backoff", 0.05, 3600.0),
    ("peers", 8, 1000),
)


@dataclass(slots=True)
class Schedule:
    """When one target is probed next, and what is known of its probes so far.

    Attributes:
        failures: in a row; kept until as many successes as `recovered_after` have followed.
        to_confirm: successes still missing before a target that is down counts as up.
    """

    due_at: float
    started_at: float = 0.0
    is_running: bool = False
    failures: int = 0
    to_confirm: int = 0
    srtt: float = math.nan


@dataclass(slots=True)
class PlanState:
    """The schedules of all targets and the token bucket."""

    schedules: dict[Target, Schedule] = field(default_factory=dict)
    tokens: float = math.inf
    """Probes that may start at once; filled on first use."""
    refilled_at: float = 0.0

    def running(self) -> int:
        """Return how many probes are under way."""
        return sum(schedule.is_running for schedule in self.schedules.values())


def set_targets(state: PlanState, targets: Iterable[Target], now: float, rng: Random) -> None:
    """Add schedules for new targets, spread over `FIRST_SPREAD`, and drop those that are gone."""
    wanted = list(dict.fromkeys(targets))
    state.schedules = {
        target: state.schedules.get(target) or Schedule(due_at=now + FIRST_SPREAD * rng.random())
        for target in wanted
    }


def plan_probes(state: PlanState, now: float, rng: Random, settings: ProbeSettings) -> list[Target]:
    """Return the targets to probe now, longest overdue first, and note them as running."""
    _refill(state, now, settings)
    allowed = min(int(state.tokens), settings.max_running - state.running())
    overdue = [t for t, s in state.schedules.items() if not s.is_running and s.due_at <= now]
    overdue.sort(key=lambda target: state.schedules[target].due_at)
    due = overdue[: max(0, allowed)]
    for target in due:
        schedule = state.schedules[target]
        schedule.is_running = True
        schedule.started_at = now
        schedule.due_at = now + next_wait(schedule.failures, rng, settings)
    state.tokens -= len(due)
    return due


def note_success(state: PlanState, target: Target, rtt: float) -> None:
    """Note that a probe gave an RTT, s; a target that is gone is ignored."""
    schedule = state.schedules.get(target)
    if schedule is None:
        return
    schedule.is_running = False
    schedule.to_confirm = max(0, schedule.to_confirm - 1)
    if not schedule.to_confirm:
        schedule.failures = 0
    is_first = math.isnan(schedule.srtt)
    schedule.srtt = rtt if is_first else schedule.srtt + _ALPHA * (rtt - schedule.srtt)


def note_suspicion(state: PlanState, target: Target, rng: Random, settings: ProbeSettings) -> None:
    """Probe a target again soon: its last sample may be the first of a new level."""
    schedule = state.schedules.get(target)
    if schedule is not None:
        soon = schedule.started_at + suspicious_wait(rng, settings)
        schedule.due_at = min(schedule.due_at, soon)


def note_recovery(state: PlanState, target: Target, rng: Random, settings: ProbeSettings) -> None:
    """Probe a target again soon that answers again but needs more successes to count as up."""
    schedule = state.schedules.get(target)
    if schedule is not None:
        wait = _spread(settings.interval / 4, rng, settings)
        schedule.due_at = min(schedule.due_at, schedule.started_at + wait)


def suspicious_wait(rng: Random, settings: ProbeSettings) -> float:
    """Return the time between two probes of a target whose level may be shifting, s."""
    return _spread(SUSPICIOUS_SHARE * settings.interval, rng, settings)


def note_failure(
    state: PlanState, target: Target, now: float, rng: Random, settings: ProbeSettings
) -> int:
    """Note that a probe failed; returns how many failed in a row, 0 for a target that is gone."""
    schedule = state.schedules.get(target)
    if schedule is None:
        return 0
    schedule.is_running = False
    schedule.failures += 1
    if schedule.to_confirm or schedule.failures >= settings.failing_after:
        schedule.to_confirm = settings.recovered_after
    wait = next_wait(schedule.failures, rng, settings)
    # A failure is a reason to look again soon, but never sooner than the pause after it.
    schedule.due_at = max(now, schedule.started_at + wait)
    return schedule.failures


def note_untried(
    state: PlanState, target: Target, now: float, rng: Random, settings: ProbeSettings
) -> None:
    """Note that a probe could not even be sent, which tells nothing about its target."""
    schedule = state.schedules.get(target)
    if schedule is not None:
        schedule.is_running = False
        schedule.due_at = max(now, schedule.started_at + next_wait(0, rng, settings))


def next_wait(failures: int, rng: Random, settings: ProbeSettings) -> float:
    """Return the time from one probe's start to the next one's, s.

    The first failures are looked into quickly, so that a lost packet is told from an outage
    within one interval; after that the wait doubles up to `max_backoff`.
    """
    wait = settings.interval
    if 0 < failures < settings.failing_after:
        wait = settings.interval / 4
    elif failures:
        doublings = min(failures - settings.failing_after, 16)
        ceiling = max(settings.max_backoff, settings.interval)
        wait = min(settings.interval * 2.0**doublings, ceiling)
    return _spread(wait, rng, settings)


def _spread(wait: float, rng: Random, settings: ProbeSettings) -> float:
    return wait * (1 + settings.jitter * (2 * rng.random() - 1))


def timeout_of(state: PlanState, target: Target, settings: ProbeSettings) -> float:
    """Return the timeout of the next probe, s: room for a far target, bounded."""
    schedule = state.schedules.get(target)
    if schedule is None or math.isnan(schedule.srtt):
        return settings.timeout
    return max(settings.timeout, min(4 * schedule.srtt, MAX_TIMEOUT))


def wait_until_due(state: PlanState, now: float, most: float) -> float:
    """Return how long nothing new can become due, s; between 5 ms and `most`."""
    waiting = [s.due_at for s in state.schedules.values() if not s.is_running]
    return min(most, max(0.005, min(waiting, default=math.inf) - now))


def _refill(state: PlanState, now: float, settings: ProbeSettings) -> None:
    # A bucket of half a second: enough for a quick start, not for a burst worth noticing.
    capacity = max(1.0, settings.max_rate / 2)
    earned = max(0.0, now - state.refilled_at) * settings.max_rate
    state.tokens = min(capacity, state.tokens + earned)
    state.refilled_at = now
