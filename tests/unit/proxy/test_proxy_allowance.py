"""The allowance of frames that only cost."""

from __future__ import annotations

from onetrip.proxy.allowance import Allowance


def test_burst_is_allowed_and_no_more():
    allowance = Allowance(10, 1, now=0)
    assert all(allowance.spend(1, 0) for _ in range(10))
    assert not allowance.spend(1, 0)


def test_time_refills_up_to_the_burst():
    allowance = Allowance(10, 2, now=0)
    assert allowance.spend(10, 0)
    assert allowance.spend(4, 2)
    assert not allowance.spend(1, 2)
    assert allowance.spend(10, 1000)
    assert not allowance.spend(1, 1000)


def test_work_refills_up_to_the_burst():
    allowance = Allowance(10, 0, now=0)
    assert allowance.spend(10, 0)
    allowance.earn(50)
    assert allowance.spend(10, 0)
    assert not allowance.spend(1, 0)
