"""Periodic work: how often, and how much of the time it may take."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from onetrip.tasks import Tasks
from support.clock import VirtualClock


@pytest.mark.parametrize(
    ("took", "share", "between"), [(0.0, 1.0, 1.0), (0.2, 0.25, 1.2), (2.0, 0.25, 8.0)]
)
async def test_work_that_takes_long_comes_less_often(
    took: float, share: float, between: float
) -> None:
    clock, rounds = VirtualClock(), list[float]()
    tasks = Tasks(lambda name, error: None)

    async def work() -> None:
        rounds.append(clock.now())
        await clock.sleep(took)

    task = tasks.every(1.0, work, "work", clock, Random(1), jitter=0.0, share=share)
    await clock.advance(20.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert rounds[1] - rounds[0] == pytest.approx(between)
