"""Waiting for what another task, socket or process does: on a condition, with a generous bound.

The machine that runs the tests may be slow and busy. A bound here only ends a test that can no
longer pass, so it is far beyond what any of them needs and no test says anything about it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BOUND = 40.0
"""Longest wait for anything that happens at once on a machine with time to spare, s."""


async def eventually(
    claim: Callable[[], bool],
    told: Callable[[], object] | str = "",
    *,
    timeout: float = BOUND,
    pause: float = 0.005,
) -> None:
    """Wait until `claim` holds; `told` says what was waited for, or what was seen instead."""
    deadline = time.monotonic() + timeout
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {told() if callable(told) else told}")
        await asyncio.sleep(pause)


def soon(claim: Callable[[], bool], told: Callable[[], object] | str = "") -> None:
    """Wait as `eventually` does, where there is no event loop."""
    deadline = time.monotonic() + BOUND
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {BOUND:g} s: {told() if callable(told) else told}")
        time.sleep(0.02)


async def no_task_since(before: set[asyncio.Task[object]]) -> None:
    """Wait until every task started after `before` has ended; fails with those that do not."""
    deadline = time.monotonic() + BOUND
    while leaked := asyncio.all_tasks() - before - {asyncio.current_task()}:
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {leaked}")
        await asyncio.wait(leaked, timeout=0.05)
