"""An event loop whose time stands still while anything runs, and jumps to the next timer then.

`asyncio.sleep` and `asyncio.timeout` take no real time in it, and what happens depends on nothing
but the program: runs repeat exactly.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: time passes instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. It knows no sockets, threads or signals."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return virtual time, s."""
        return self._jumping.now


class LoopClock:
    """The running loop's time as a `onetrip.timing.Clock`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wall: float = 1_750_000_000.0) -> None:
        self._loop = loop
        self._wall = wall

    def now(self) -> float:
        """Return virtual time, s."""
        return self._loop.time()

    def wall(self) -> float:
        """Return virtual Unix time, s."""
        return self._wall + self._loop.time()

    async def sleep(self, duration: float) -> None:
        """Wait for `duration` s of virtual time."""
        await asyncio.sleep(duration)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
