"""A clock that moves only when told, so no test waits."""

from __future__ import annotations

import asyncio
import heapq


class VirtualClock:
    """Time that stands still until `advance` moves it; sleepers wake in order."""

    def __init__(self, start: float = 1000.0, wall: float = 1_750_000_000.0) -> None:
        self._now = start
        self._wall_offset = wall - start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        """Return virtual monotonic time, s."""
        return self._now

    def wall(self) -> float:
        """Return virtual Unix time, s."""
        return self._now + self._wall_offset

    async def sleep(self, duration: float) -> None:
        """Wait until `advance` has moved the clock by `duration`, s."""
        if duration <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + duration, self._count, future))
        await future

    def step(self, duration: float) -> None:
        """Move time without waking anybody; for code that never sleeps."""
        self._now += duration

    async def advance(self, duration: float) -> None:
        """Move time by `duration`, s, waking every sleeper that falls due, in order."""
        end = self._now + duration
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            if not future.done():
                future.set_result(None)
            await _settle()
        self._now = end
        await _settle()


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
