"""Level shifts: found within a few samples, never seen in a spike or in steady jitter."""

from collections.abc import Callable
from random import Random

import pytest

from onetrip.estimate.change import Shift, ShiftDetector
from support.traces import Slice, trace_slices

Draw = Callable[[Random], float]

JITTERS: dict[str, Draw] = {
    "none": lambda rng: 0.1,
    "gauss": lambda rng: 0.1 + abs(rng.gauss(0, 0.002)),
    "exponential": lambda rng: 0.1 + rng.expovariate(1 / 0.005),
    "pareto": lambda rng: 0.1 + 0.001 * rng.paretovariate(1.5),
    "spikes": lambda rng: 0.1 + rng.expovariate(1 / 0.001) + (rng.random() < 0.05) * 0.3,
    "loopback": lambda rng: 0.0001 + rng.expovariate(1 / 0.0002),
}


def shifts(samples: list[float]) -> list[tuple[int, Shift]]:
    detector = ShiftDetector()
    found = [(number, detector.update(rtt)) for number, rtt in enumerate(samples, 1)]
    return [(number, shift) for number, shift in found if shift is not Shift.NONE]


@pytest.mark.parametrize("name", JITTERS)
def test_steady_jitter_is_no_shift(name: str) -> None:
    rng = Random(20)
    assert shifts([JITTERS[name](rng) for _ in range(3000)]) == []


@pytest.mark.parametrize("name", JITTERS)
@pytest.mark.parametrize("rise", [0.06, 0.2])
def test_rise_is_seen_within_eight_samples(name: str, rise: float) -> None:
    rng = Random(21)
    before = [JITTERS[name](rng) for _ in range(50)]
    after = [JITTERS[name](rng) + rise for _ in range(8)]
    found = [number - 50 for number, shift in shifts(before + after) if shift is Shift.UP]
    assert found
    assert 4 <= found[0] <= 8


def test_fall_is_seen_as_a_fall() -> None:
    assert shifts([0.2] * 20 + [0.1] * 6) == [(24, Shift.DOWN)]


@pytest.mark.parametrize("height", [0.2, 1.0, 50.0])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_spike_of_three_samples_is_no_shift(height: float, width: int) -> None:
    assert shifts([0.1] * 20 + [height] * width + [0.1] * 20) == []


def test_one_sample_at_the_old_level_clears_the_suspicion() -> None:
    assert shifts([0.1] * 20 + [0.2, 0.2, 0.2, 0.1] * 20) == []


def test_change_below_the_floor_is_no_shift() -> None:
    assert shifts([0.1] * 20 + [0.1009] * 50) == []


def test_run_counts_the_samples_of_the_new_level() -> None:
    detector = ShiftDetector()
    for rtt in [0.1] * 20 + [0.15, 0.2, 0.15]:
        assert detector.update(rtt) is Shift.NONE
    assert detector.update(0.15) is Shift.UP
    assert detector.run == 4
    assert detector.level == pytest.approx(0.15)


def test_two_rises_are_two_shifts() -> None:
    found = shifts([0.1] * 20 + [0.15] * 20 + [0.2] * 20)
    assert [shift for _, shift in found] == [Shift.UP, Shift.UP]


def test_cold_first_sample_does_not_define_the_level() -> None:
    detector = ShiftDetector()
    for rtt in [0.9] + [0.1] * 4:
        detector.update(rtt)
    assert detector.level == pytest.approx(0.1)


def test_quiet_measured_traces_raise_at_most_one_alarm_in_a_thousand_samples() -> None:
    quiet = trace_slices("quiet")
    alarms = sum(shift is Shift.UP for s in quiet for _, shift in shifts(s.rtts))
    assert sum(len(s.rtts) for s in quiet) == 5400
    assert alarms <= 2


def delay_of(rise: Slice) -> int | None:
    """Return after how many samples of the new level it was seen."""
    assert rise.change is not None
    for number, shift in shifts(rise.rtts):
        # The labels were set by hand; some are a sample or two late.
        if shift is Shift.UP and number > rise.change - 2:
            return number - rise.change
    return None


def test_every_labelled_rise_is_seen_and_nine_in_ten_within_eight_samples() -> None:
    delays = [delay_of(rise) for rise in trace_slices("rise")]
    assert len(delays) == 42
    seen = sorted(delay for delay in delays if delay is not None)
    assert len(seen) == 42
    assert seen[len(seen) // 2] <= 5
    assert seen[int(0.9 * len(seen))] <= 8
    assert seen[-1] <= 20
