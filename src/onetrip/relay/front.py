"""What every relay is behind: its listener, the sweep, and what is told of refused connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

from onetrip.errors import Kind
from onetrip.observe.logs import Log
from onetrip.relay.settings import RelaySettings
from onetrip.tasks import Tasks
from onetrip.timing import Clock

BACKLOG = 1024

SWEEP_INTERVAL = 1.0
"""Seconds between two looks for idle connections, and between two lines about refused ones."""

_DRAIN_INTERVAL = 0.05


class Front:
    """The listener of a relay and its background tasks."""

    def __init__(self, settings: RelaySettings, clock: Clock, log: Log) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self.tasks = Tasks(self._task_failed)
        self._server: asyncio.Server | None = None
        self._untold = 0
        self._refusal = ""
        self.refused: Counter[Kind] = Counter()
        """Connections that were not served since the start."""

    async def open(
        self,
        accept: Callable[[asyncio.Transport], None],
        close_idle: Callable[[float], None],
    ) -> int:
        """Listen, and return the port (useful with port 0).

        Args:
            accept: called with each connection at once.
            close_idle: called with the monotonic time, s, of the last byte at which a connection
                has been idle for too long.

        Raises:
            OSError: the address cannot be bound.
        """
        where = self._settings.listen
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Acceptor(accept), where.host, where.port, backlog=BACKLOG
        )
        self.tasks.spawn(self._sweep_forever(close_idle), "relay.sweep")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def refuse(self, reason: str, kind: Kind) -> None:
        """Count a connection that is not served; the next sweep tells of it."""
        self.refused[kind] += 1
        self._untold += 1
        self._refusal = reason

    async def drain(
        self, connections: Callable[[], int], close_silent: Callable[[float], None]
    ) -> None:
        """Stop accepting and close what falls silent until nothing is left; wait a bounded time.

        Pools keep connections for hours, so waiting for them to close would never end.

        Args:
            connections: returns how many are left.
            close_silent: called with the monotonic time, s, again and again.
        """
        self.close()
        deadline = self._clock.now() + self._settings.drain_timeout
        while connections() and (now := self._clock.now()) < deadline:
            close_silent(now)
            await self._clock.sleep(_DRAIN_INTERVAL)

    def close(self) -> None:
        """Stop accepting."""
        if self._server is not None:
            self._server.close()

    async def _sweep_forever(self, close_idle: Callable[[float], None]) -> None:
        while True:
            await self._clock.sleep(SWEEP_INTERVAL)
            close_idle(self._clock.now() - self._settings.idle_timeout)
            if self._untold:
                # One line a sweep: a pool that reconnects in a loop must not fill the disk.
                self._log.warning("relay.refused", connections=self._untold, reason=self._refusal)
                self._untold = 0

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._log.error("relay.task_failed", task=name, error=type(error).__name__)


async def ends_reported() -> None:
    """Wait until transports that were closed have said so: within the loop's next rounds."""
    for _ in range(3):
        await asyncio.sleep(0)


class _Acceptor(asyncio.Protocol):
    def __init__(self, on_accept: Callable[[asyncio.Transport], None]) -> None:
        self._on_accept = on_accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._on_accept(cast(asyncio.Transport, transport))
