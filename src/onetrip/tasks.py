"""Supervised background work: a named group of tasks, periodic loops, and a bounded stop.

A background loop that dies must not die silently: `TaskGroup` reports the exception through
`on_error` and restarts a periodic loop at its next period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any

from onetrip.timing import Clock

OnError = Callable[[str, BaseException], None]


class Tasks:
    """Tasks owned by one component, cancelled together.

    Args:
        on_error: called with (task name, exception) when a task ends with an exception.
    """

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start `coro` and keep it referenced until it ends."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return task

    def every(
        self,
        interval: float,
        work: Callable[[], Awaitable[object]],
        name: str,
        clock: Clock,
        rng: Random,
        jitter: float = 0.1,
        share: float = 1.0,
    ) -> asyncio.Task[Any]:
        """Run `work` about every `interval` s, each wait spread by ± `jitter` (a ratio).

        An exception in one round is reported and the next round still happens.

        Args:
            share: of all time that the work may take; rounds that take long come less often.
        """

        async def loop() -> None:
            while True:
                started_at = clock.now()
                try:
                    await work()
                except Exception as error:
                    self._on_error(name, error)
                rest = (clock.now() - started_at) * (1 / share - 1)
                await clock.sleep(max(interval, rest) * (1 + jitter * (2 * rng.random() - 1)))

        return self.spawn(loop(), name)

    async def finish(self, timeout: float) -> None:
        """Wait at most `timeout` s for every task to end by itself."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)

    async def cancel(self, timeout: float) -> None:
        """Cancel every task and wait at most `timeout` s for them to end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(task.get_name(), error)
