"""Changes put in force in rounds: whoever comes while one runs shares the next.

Putting a change in force costs the same for one as for hundreds, and with 10,000 projects that is a
good part of a second. A script that switches many of them must not keep a node busy for minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onetrip.tasks import Tasks


class Applying:
    """Runs rounds, one at a time.

    Args:
        work: puts in force whatever is known when it starts.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], tasks: Tasks) -> None:
        self._work = work
        self._tasks = tasks
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Wait for a round that starts after this call; raises what it raised."""
        if self._next is None:
            self._next = self._tasks.spawn(self._round(), "apply")
        # One who gives up must not take the round from the others.
        await asyncio.shield(self._next)

    async def _round(self) -> None:
        async with self._lock:
            self._next = None  # from here on it may miss what is new
            await self._work()
