"""Which instance of a region takes a request: two choices, slow start."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from onetrip.model.topology import Endpoint
from onetrip.proxy.pick import Picker
from onetrip.proxy.pool import EndpointPool, Pool
from onetrip.proxy.settings import LEAST_WEIGHT, ProxySettings
from support.clock import VirtualClock
from support.proxy_parts import AT_ONCE, FakeDial

DRAWS = 6000


class Rig:
    """Instances to pick from."""

    def __init__(self, count: int, **settings: float) -> None:
        values = ProxySettings(**{"slow_start": 10.0, **settings})
        self.clock = VirtualClock()
        self.down: set[object] = set()
        pool = Pool(values, FakeDial(), self.clock, AT_ONCE)
        self.pools = [pool.at(Endpoint(f"10.0.0.{i}", 80)) for i in range(count)]
        self.picker = Picker(lambda t: t not in self.down, self.clock, Random(5), values)

    def pick(self, tried=(), capacity=float("inf"), **options) -> EndpointPool | None:
        return self.picker.pick(self.pools, tried, capacity, **options)

    def share(self, index: int) -> float:
        """Return the share of requests that an instance gets while none of them stays long."""
        picks = Counter(self.pick() for _ in range(DRAWS))
        return picks[self.pools[index]] / DRAWS

    def busy_share(self, index: int) -> float:
        """Return the share it holds of a hundred requests that stay."""
        for _ in range(100):
            self.pick().outstanding += 1
        return self.pools[index].outstanding / 100


def test_two_different_instances_are_compared():
    rig = Rig(2)
    rig.pools[0].outstanding = 1
    assert {rig.pick() for _ in range(50)} == {rig.pools[1]}


def test_instances_alike_share_alike():
    rig = Rig(3)
    assert [rig.share(i) for i in range(3)] == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize(("age", "weight"), [(0.0, 0.1), (0.5, 0.1), (3.0, 0.3), (7.5, 0.75)])
def test_share_grows_over_the_window(age, weight):
    rig = Rig(3)
    rig.pools[0].health.warm_from = rig.clock.now()
    rig.clock.step(age)
    assert rig.share(0) == pytest.approx(weight / 3, abs=0.02)
    rig.clock.step(10.0 - age)
    assert rig.share(0) == pytest.approx(1 / 3, abs=0.03)
    assert rig.pools[0].health.warm_from == 0.0


@pytest.mark.parametrize(("age", "weight"), [(0.0, 0.1), (5.0, 0.5)])
def test_share_is_held_down_when_everybody_is_busy(age, weight):
    rig = Rig(2)
    rig.pools[0].health.warm_from = rig.clock.now()
    rig.clock.step(age)
    assert rig.busy_share(0) == pytest.approx(weight / (1 + weight), abs=0.03)


def test_aggression_grows_the_share_faster_at_first():
    rig = Rig(2, slow_start_aggression=2.0)
    rig.pools[0].health.warm_from = rig.clock.now()
    rig.clock.step(2.5)
    assert rig.share(0) == pytest.approx(0.5 / 2, abs=0.02)


def test_instances_that_all_start_share_as_usual():
    rig = Rig(3)
    for pool in rig.pools:
        pool.health.warm_from = rig.clock.now()
    assert [rig.share(i) for i in range(3)] == pytest.approx([1 / 3] * 3, abs=0.03)


def test_the_only_one_left_takes_everything_at_once():
    rig = Rig(2)
    rig.pools[0].health.warm_from = rig.clock.now()
    assert {rig.pick(tried=[rig.pools[1]]) for _ in range(50)} == {rig.pools[0]}


def test_instance_that_was_not_ready_starts_slowly_once_it_is_picked_from():
    rig = Rig(2)
    rig.down.add(rig.pools[0].target)
    assert rig.pick() is rig.pools[1]
    rig.clock.step(100.0)
    rig.down.clear()
    assert rig.share(0) == pytest.approx(LEAST_WEIGHT / 2, abs=0.02)
    rig.clock.step(10.0)
    assert rig.share(0) == pytest.approx(1 / 2, abs=0.03)


def test_window_of_zero_gives_the_full_share_at_once():
    rig = Rig(2, slow_start=0.0)
    rig.pools[0].health.warm_from = rig.clock.now()
    assert rig.share(0) == pytest.approx(1 / 2, abs=0.03)


def test_ejected_instance_is_picked_only_when_asked_for():
    rig = Rig(1)
    rig.pools[0].health.is_ejected = True
    assert rig.pick() is None
    assert rig.pick(with_ejected=True) is rig.pools[0]


def test_a_full_instance_is_not_picked():
    rig = Rig(2)
    rig.pools[0].outstanding = 3
    assert {rig.pick(capacity=3) for _ in range(50)} == {rig.pools[1]}
    rig.pools[1].outstanding = 3
    assert rig.pick(capacity=3) is None
