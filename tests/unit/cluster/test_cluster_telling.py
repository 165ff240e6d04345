"""Who waits for news is answered when there is some, or when the time is up."""

from __future__ import annotations

import asyncio

from onetrip.cluster.delta import Delta, decode_delta
from onetrip.cluster.messages import Report, decode_report
from onetrip.cluster.telling import Known, Telling
from onetrip.model.topology import RegionId
from onetrip.timing import MonotonicClock

BOM = RegionId("bom")
LONG = 30.0
"""Longer than any test: who waits that long is answered for another reason."""


class Source:
    """Makes reports, and counts them."""

    def __init__(self) -> None:
        self.seq = 0
        self.is_draining = False

    def make(self) -> Report:
        self.seq += 1
        return Report(BOM, 1.0, self.seq, is_draining=self.is_draining)


async def ask(telling: Telling, seq: int, hold: float, boot: float = 1.0) -> Delta:
    return decode_delta(await telling.since(Known(boot, seq, hold)))


async def test_who_knows_nothing_is_answered_at_once() -> None:
    source = Source()
    telling = Telling(source.make, MonotonicClock(), LONG)
    for _ in range(3):
        found = await ask(telling, 0, LONG)
        assert (found.base, found.seq) == (None, 1)
    assert (await ask(telling, 1, LONG, boot=0.5)).base is None
    assert source.seq == 1  # one report for all


async def test_who_waits_is_told_of_a_declaration_and_of_nothing_before() -> None:
    source = Source()
    telling = Telling(source.make, MonotonicClock(), LONG)
    await ask(telling, 0, 0.0)
    waiting = [asyncio.create_task(ask(telling, 1, LONG)) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    telling.wake()
    telling.wake()  # many changes are one report
    async with asyncio.timeout(LONG / 2):
        found = await asyncio.gather(*waiting)
    assert {(delta.base, delta.seq) for delta in found} == {(1, 2)}


async def test_a_drain_that_a_look_finds_is_told_at_once() -> None:
    source = Source()
    telling = Telling(source.make, MonotonicClock(), 0.01)
    await ask(telling, 0, 0.0)
    source.is_draining = True
    async with asyncio.timeout(LONG / 2):
        assert (await ask(telling, 1, LONG)).is_draining


async def test_when_the_time_is_up_the_answer_says_that_nothing_changed() -> None:
    telling = Telling(Source().make, MonotonicClock(), LONG)
    await ask(telling, 0, 0.0)
    found = await ask(telling, 1, 0.01)
    assert (found.base, found.seq, found.rtts) == (1, 1, [])


async def test_closing_answers_everybody() -> None:
    telling = Telling(Source().make, MonotonicClock(), LONG)
    await ask(telling, 0, 0.0)
    waiting = asyncio.create_task(ask(telling, 1, LONG))
    await asyncio.sleep(0)
    telling.close()
    async with asyncio.timeout(LONG / 2):
        await waiting
        await ask(telling, 1, LONG)
    telling.wake()


async def test_an_older_version_gets_whole_reports() -> None:
    source = Source()
    telling = Telling(source.make, MonotonicClock(), LONG)
    assert decode_report(telling.whole()).seq == 1
    assert decode_report(telling.whole()).seq == 1
