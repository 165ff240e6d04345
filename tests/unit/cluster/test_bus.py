"""The connection to a store: lost once, found once, and tried again after a pause."""

from __future__ import annotations

from random import Random

import pytest

from onetrip.cluster.bus import FIRST_PAUSE, LONGEST_PAUSE, BusLink
from onetrip.errors import PeerError
from onetrip.model.topology import RegionId
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.clock import VirtualClock
from support.fake_bus import FakeBus


class Work:
    """A part that counts what it is asked for, and can fail."""

    def __init__(self) -> None:
        self.opens = self.ticks = 0
        self.fails = False
        self.defect: Exception | None = None

    async def open(self) -> None:
        self.opens += 1

    async def tick(self) -> None:
        self.ticks += 1
        if self.defect is not None:
            raise self.defect
        if self.fails:
            raise PeerError("no answer")


class Rig:
    """A link to a store in memory."""

    def __init__(self) -> None:
        self.bus, self.part, self.clock = FakeBus(), Work(), VirtualClock()
        self.metrics = Metrics()
        self.told: list[str] = []
        self.link = BusLink(
            RegionId("den"),
            self.bus,
            "onetrip",
            [self.part],
            clock=self.clock,
            rng=Random(7),
            metrics=self.metrics,
            log=silent_log(),
            tell=lambda name, subject, detail: self.told.append(name),
        )

    def is_connected(self) -> bool:
        return bool(self.metrics.cluster.nats_connected.labels("onetrip")._value.get() == 1)


async def test_parts_are_opened_once_a_connection_and_work_at_each_exchange() -> None:
    rig = Rig()
    for _ in range(3):
        await rig.link.exchange()
    assert (rig.bus.connects, rig.part.opens, rig.part.ticks) == (1, 1, 3)
    assert rig.is_connected()
    assert rig.link.problem == ""


async def test_a_lost_store_is_told_once_and_tried_after_a_pause() -> None:
    rig = Rig()
    await rig.link.exchange()
    rig.part.fails = rig.bus.is_down = True
    for _ in range(5):
        await rig.link.exchange()
    assert rig.bus.connects == 1
    assert rig.link.problem == "no answer"
    assert not rig.is_connected()
    rig.clock.step(2 * FIRST_PAUSE)
    await rig.link.exchange()
    assert rig.bus.connects == 2
    assert rig.link.problem == "out of reach"
    assert rig.told == ["cluster.nats_lost"]
    rig.part.fails = rig.bus.is_down = False
    rig.clock.step(2 * LONGEST_PAUSE)
    await rig.link.exchange()
    assert rig.told == ["cluster.nats_lost", "cluster.nats_found"]
    assert rig.link.problem == ""
    assert rig.part.opens == 2
    assert rig.is_connected()


async def test_pauses_grow_to_a_bound() -> None:
    rig = Rig()
    rig.bus.is_down = True
    for _ in range(200):
        await rig.link.exchange()
        rig.clock.step(1.0)
    # Doubling from 0.5-1.5 s ends at 15-45 s.
    assert 200 / (1.5 * LONGEST_PAUSE) < rig.bus.connects < 200 / (0.5 * LONGEST_PAUSE) + 8


async def test_what_cannot_wait_is_done_at_once_where_there_is_a_connection() -> None:
    rig = Rig()
    await rig.link.hurry(rig.part)
    assert rig.part.ticks == 0
    await rig.link.exchange()
    await rig.link.hurry(rig.part)
    assert rig.part.ticks == 2
    rig.part.fails = True
    await rig.link.hurry(rig.part)
    assert not rig.link.is_open
    assert rig.told == ["cluster.nats_lost"]


async def test_traffic_is_counted_once() -> None:
    rig = Rig()
    for received in (100, 250, 250):
        rig.bus.bytes = (received, 2 * received)
        await rig.link.exchange()
    assert rig.metrics.volume.received._value.get() == 250
    assert rig.metrics.volume.sent._value.get() == 500


async def test_a_defect_of_a_part_ends_the_connection() -> None:
    rig = Rig()
    await rig.link.exchange()
    rig.part.defect = ValueError("a defect")
    with pytest.raises(ValueError, match="a defect"):
        await rig.link.exchange()
    assert not rig.link.is_open
    rig.part.defect = None
    await rig.link.exchange()
    assert rig.bus.connects == 2
