"""Rounds of putting changes in force: shared by those who come in time, never missed."""

from __future__ import annotations

import asyncio

import pytest

from onetrip.app.applying import Applying
from onetrip.tasks import Tasks


class Work:
    """Counts rounds; each takes what is known at its start and ends when it is let go."""

    def __init__(self) -> None:
        self.known = 0
        self.applied: list[int] = []
        self.gate = asyncio.Event()
        self.fails = False

    async def round(self) -> None:
        known = self.known
        await self.gate.wait()
        if self.fails:
            raise ValueError("cannot be applied")
        self.applied.append(known)


async def test_hundreds_of_changes_take_two_rounds_and_all_are_in_force() -> None:
    work, failures = Work(), list[str]()
    applying = Applying(work.round, Tasks(lambda name, error: failures.append(name)))
    waiting = []
    for change in range(1, 301):
        work.known = change
        waiting.append(asyncio.create_task(applying.run()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the first round has begun
    work.gate.set()
    await asyncio.gather(*waiting)
    assert work.applied == [1, 300]
    work.known = 301
    await applying.run()
    assert work.applied == [1, 300, 301]
    assert failures == []


async def test_who_gives_up_does_not_stop_the_round_of_the_others() -> None:
    work = Work()
    applying = Applying(work.round, Tasks(lambda name, error: None))
    first, second = (asyncio.create_task(applying.run()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    work.gate.set()
    await second
    assert work.applied == [0]


async def test_a_failure_reaches_everybody_who_waits_and_the_next_round_is_tried() -> None:
    work = Work()
    applying = Applying(work.round, Tasks(lambda name, error: None))
    work.fails = True
    work.gate.set()
    for found in await asyncio.gather(applying.run(), applying.run(), return_exceptions=True):
        assert isinstance(found, ValueError)
    work.fails = False
    await applying.run()
    assert work.applied == [0]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await applying.run()
