"""The ejection machine: what is one failure too many, and who must stay."""

from __future__ import annotations

import pytest

from onetrip.errors import ConfigError
from onetrip.proxy.ejection import EjectionSettings, Ejector, Failure, Health, Reason

STRICT = EjectionSettings(
    errors=5,
    gateway_errors=3,
    connect_errors=2,
    interval=10.0,
    least_requests=20,
    failure_ratio=0.5,
    deviation=1.9,
    base_time=30.0,
    max_time=100.0,
    max_share=0.5,
)
ERROR, GATEWAY, CONNECT = Failure.ERROR, Failure.GATEWAY, Failure.CONNECT


class Fleet:
    """Instances of one environment, and time."""

    def __init__(self, count: int, settings: EjectionSettings = STRICT) -> None:
        self.all = [Health(f"10.0.0.{i}:80") for i in range(count)]
        self.down: set[Health] = set()
        self.kept: list[Reason] = []
        self.now = 100.0
        self.ejector = Ejector(settings, lambda h: h not in self.down, self.kept.append, self.now)
        self.ejector.update([self.all], self.now)

    def fail(self, index: int, failure: Failure = ERROR, times: int = 1):
        """Let an instance fail; the last verdict."""
        verdicts = [
            self.ejector.note_failure(self.all[index], failure, self.now) for _ in range(times)
        ]
        return verdicts[-1]

    def pass_time(self, duration: float):
        """Let time pass; the verdicts."""
        self.now += duration
        return self.ejector.tick(self.now)

    def window(self, *failed: int, requests: int = 100):
        """Let every instance finish `requests`, of which `failed` failed; the window's verdicts."""
        for health, failures in zip(self.all, failed, strict=True):
            health.requests, health.failures = requests, failures
        return self.pass_time(STRICT.interval)

    def ejected(self) -> list[int]:
        """Return the indexes of the ejected."""
        return [i for i, h in enumerate(self.all) if h.is_ejected]


@pytest.mark.parametrize(
    ("failure", "times", "reason"),
    [
        (ERROR, 5, Reason.ERRORS),
        (GATEWAY, 3, Reason.GATEWAY_ERRORS),
        (CONNECT, 2, Reason.CONNECT_ERRORS),
    ],
)
def test_instance_is_ejected_at_its_limit_and_not_before(failure, times, reason):
    fleet = Fleet(2)
    assert fleet.fail(0, failure, times - 1) is None
    verdict = fleet.fail(0, failure)
    assert (verdict.instance, verdict.is_ejected) == (fleet.all[0].name, True)
    assert (verdict.reason, verdict.duration) == (reason, 30.0)
    assert fleet.ejected() == [0]


def test_a_success_starts_the_count_again():
    fleet = Fleet(2)
    fleet.fail(0, times=4)
    fleet.all[0].note_success()
    assert fleet.fail(0, times=4) is None
    assert fleet.fail(0).is_ejected


def test_a_worse_failure_counts_as_the_lesser_kinds_too():
    fleet = Fleet(2)
    assert fleet.fail(0, CONNECT) is None
    assert fleet.fail(0, ERROR) is None, "no connect failure, so their row ends"
    assert fleet.fail(0, CONNECT) is None
    assert fleet.fail(0, GATEWAY) is None
    assert fleet.fail(0, ERROR).reason is Reason.ERRORS


def test_a_rule_of_zero_is_off():
    fleet = Fleet(2, EjectionSettings(errors=0, gateway_errors=0, connect_errors=0))
    assert fleet.fail(0, CONNECT, times=50) is None


def test_nothing_is_ejected_with_a_share_of_zero():
    fleet = Fleet(4, EjectionSettings(max_share=0.0))
    assert fleet.fail(0, CONNECT, times=50) is None
    assert fleet.kept == [], "and that is no surprise to count"


def test_it_returns_after_its_time_with_a_clean_count():
    fleet = Fleet(2)
    fleet.fail(0, CONNECT, 2)
    assert fleet.pass_time(29.9) == []
    (verdict,) = fleet.pass_time(0.1)
    assert (verdict.is_ejected, verdict.reason) == (False, Reason.TIME)
    assert fleet.ejected() == []
    assert fleet.all[0].warm_from == fleet.now
    assert fleet.fail(0, CONNECT) is None


def test_each_ejection_in_a_row_lasts_longer_up_to_a_limit():
    fleet = Fleet(2)
    durations = []
    for _ in range(5):
        durations.append(fleet.fail(0, CONNECT, 2).duration)
        fleet.pass_time(durations[-1])
    assert durations == [30.0, 60.0, 90.0, 100.0, 100.0]


def test_a_window_without_ejection_forgives_one():
    fleet = Fleet(2)
    fleet.fail(0, CONNECT, 2)
    fleet.pass_time(30)
    fleet.fail(0, CONNECT, 2)
    fleet.pass_time(60)
    assert fleet.all[0].ejections == 2
    fleet.pass_time(10)
    fleet.pass_time(10)
    assert fleet.fail(0, CONNECT, 2).duration == 30.0


def test_failures_of_an_ejected_instance_do_not_eject_it_again():
    fleet = Fleet(2)
    fleet.fail(0, CONNECT, 2)
    assert fleet.fail(0, CONNECT, 20) is None
    assert fleet.all[0].ejections == 1


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_no_more_than_the_share_is_ejected(count, most):
    fleet = Fleet(count)
    for index in range(count):
        fleet.fail(index, CONNECT, 2)
    assert len(fleet.ejected()) == most
    assert fleet.kept == [Reason.CONNECT_ERRORS] * (count - most)


def test_the_last_one_stays_whatever_the_share():
    fleet = Fleet(3, EjectionSettings(connect_errors=2, max_share=1.0))
    for index in range(3):
        fleet.fail(index, CONNECT, 2)
    assert fleet.ejected() == [0, 1]


def test_an_instance_that_fails_its_probes_is_nobody_to_fall_back_on():
    fleet = Fleet(2)
    fleet.down.add(fleet.all[1])
    assert fleet.fail(0, CONNECT, 2) is None
    fleet.down.clear()
    assert fleet.fail(0, CONNECT).is_ejected


def test_an_instance_of_two_groups_needs_the_leave_of_both():
    fleet = Fleet(3)
    fleet.ejector.update([fleet.all, fleet.all[:1]], fleet.now)
    assert fleet.fail(0, CONNECT, 10) is None
    assert fleet.fail(1, CONNECT, 2).is_ejected


def test_what_is_in_no_group_is_not_judged():
    fleet = Fleet(2)
    stranger = Health("a node")
    assert fleet.ejector.note_failure(stranger, CONNECT, fleet.now) is None
    assert stranger.requests == 0


def test_most_failed_in_a_window():
    fleet = Fleet(2)
    (verdict,) = fleet.window(50, 49)
    assert (verdict.instance, verdict.reason) == (fleet.all[0].name, Reason.FAILURE_RATIO)
    assert verdict.detail == "50 of 100 requests failed"


def test_too_few_requests_say_nothing():
    fleet = Fleet(2)
    assert fleet.window(19, 0, requests=19) == []
    assert [v.instance for v in fleet.window(20, 0, requests=20)] == [fleet.all[0].name]


def test_each_window_counts_for_itself():
    fleet = Fleet(2)
    assert fleet.window(40, 0) == []
    assert fleet.window(0, 0) == []
    assert fleet.all[0].failures == 0


def test_outlier_among_five_is_ejected_though_most_of_its_requests_succeed():
    fleet = Fleet(5)
    (verdict,) = fleet.window(0, 1, 30, 0, 1)
    assert (verdict.instance, verdict.reason) == (fleet.all[2].name, Reason.SUCCESS_RATE)
    assert verdict.detail == "70.0% of requests succeeded, 93.6% in its group"


@pytest.mark.parametrize(
    "failed",
    [
        (0, 1, 30, 0),
        (30, 30, 30, 30, 30),
        (0, 0, 4, 0, 0),
        (0, 20, 30, 10, 5),
    ],
    ids=["four are too few", "all alike", "hardly worse", "widely spread"],
)
def test_no_outlier(failed):
    assert Fleet(len(failed)).window(*failed) == []


def test_group_that_shrinks_takes_back_who_was_ejected_first():
    fleet = Fleet(4)
    fleet.fail(2, CONNECT, 2)
    fleet.fail(1, CONNECT, 2)
    verdicts = fleet.ejector.update([fleet.all[1:3]], fleet.now)
    assert [(v.instance, v.reason) for v in verdicts] == [(fleet.all[2].name, Reason.CATALOG)]
    assert fleet.ejected() == [1]
    verdicts = fleet.ejector.update([fleet.all[1:2]], fleet.now)
    assert [v.instance for v in verdicts] == [fleet.all[1].name]


def test_an_instance_that_is_gone_is_not_counted():
    fleet = Fleet(4)
    fleet.fail(0, CONNECT, 2)
    assert fleet.ejector.ejected == 1
    (verdict,) = fleet.ejector.update([fleet.all[1:]], fleet.now)
    assert (verdict.reason, verdict.detail) == (Reason.CATALOG, "it is gone")
    assert fleet.ejector.ejected == 0
    assert fleet.pass_time(1000) == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"max_share": 1.5}, "proxy.ejection.max_share of 1.5 is not in 0-1"),
        ({"base_time": 0}, "proxy.ejection.base_time of 0 is not in 0.05-3600"),
        (
            {"base_time": 60, "max_time": 30},
            "proxy.ejection.max_time of 30 is below proxy.ejection.base_time of 60",
        ),
    ],
)
def test_settings_out_of_range_are_refused(values, reason):
    with pytest.raises(ConfigError) as caught:
        EjectionSettings(**values)
    assert str(caught.value) == reason
