"""The relay's listener: accepts, connects to the database, bounds, sweeps and drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from onetrip.errors import OnetripError
from onetrip.net.dial import Dial
from onetrip.observe.logs import Log
from onetrip.relay.link import Link, reset
from onetrip.relay.settings import RelaySettings
from onetrip.tasks import Tasks
from onetrip.timing import Clock
from onetrip.wire.flip_setup import flips_for
from onetrip.wire.flips import Tally

BACKLOG = 1024

SWEEP_INTERVAL = 1.0
"""Seconds between two looks for idle connections, and between two lines about refused ones."""

QUIET = 0.5
"""Silence, s, after which a connection that waits for no answer is closed while draining. Longer
than a statement of a transaction that is under way lets wait for the next one."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Everything counted since the relay started."""

    trips: int = 0
    setup_trips: int = 0
    connections: int = 0
    opaque: int = 0


class RelayServer:
    """Relays every connection of one listener to one database.

    Args:
        dial: opens connections to the database.
    """

    def __init__(self, settings: RelaySettings, dial: Dial, clock: Clock, log: Log) -> None:
        self._settings = settings
        self._dial = dial
        self._clock = clock
        self._log = log
        self._tally = Tally()
        self._links: set[Link] = set()
        self._tasks = Tasks(self._task_failed)
        self._server: asyncio.Server | None = None
        self._opened = 0
        self._refused = 0
        self._refusal = ""

    @property
    def connections(self) -> int:
        """Client connections open now."""
        return len(self._links)

    @property
    def counts(self) -> Counts:
        """What was counted since the start."""
        tally = self._tally
        return Counts(tally.trips, tally.setup_trips, self._opened, tally.opaque)

    async def start(self) -> int:
        """Listen, and return the port (useful with port 0).

        Raises:
            OSError: the address cannot be bound.
        """
        where = self._settings.listen
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Acceptor(self._accept), where.host, where.port, backlog=BACKLOG
        )
        self._tasks.spawn(self._sweep_forever(), "relay.sweep")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def drain(self) -> None:
        """Stop accepting and close each connection once it is silent; wait a bounded time.

        A connection is silent when its client waits for no answer and nothing has passed for
        `QUIET`. Pools keep connections for hours, so waiting for them to close would never end.
        """
        self._close_listener()
        deadline = self._clock.now() + self._settings.drain_timeout
        while self._links and (now := self._clock.now()) < deadline:
            for link in list(self._links):
                if not link.counter.is_waiting and now - link.active_at >= QUIET:
                    link.close()
            await self._clock.sleep(0.05)

    async def stop(self) -> None:
        """Close everything now."""
        self._close_listener()
        for link in list(self._links):
            link.abort()
        await self._tasks.cancel(timeout=5.0)
        # Transports report their end in the next rounds of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()

    def _accept(self, transport: asyncio.Transport) -> None:
        limit = self._settings.max_connections
        if len(self._links) >= limit:
            self._refuse(f"more than {limit} connections")
            reset(transport)
            return
        self._opened += 1
        counter = flips_for(self._settings.kind, self._tally)
        link = Link(counter, self._clock, self._links.discard)
        self._links.add(link)
        link.accept(transport)
        self._tasks.spawn(self._connect(link), "relay.connect")

    async def _connect(self, link: Link) -> None:
        target = self._settings.target
        try:
            await self._dial(
                lambda: link.server,
                target.host,
                target.port,
                timeout=self._settings.connect_timeout,
            )
        except OnetripError as error:
            self._refuse(str(error))
            link.abort()
        else:
            link.join()

    def _refuse(self, reason: str) -> None:
        self._refused += 1
        self._refusal = reason

    async def _sweep_forever(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_INTERVAL)
            oldest = self._clock.now() - self._settings.idle_timeout
            for link in list(self._links):
                if link.active_at < oldest:
                    link.close()
            if self._refused:
                # One line a sweep: a pool that reconnects in a loop must not fill the disk.
                self._log.warning("relay.refused", connections=self._refused, reason=self._refusal)
                self._refused = 0

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._log.error("relay.task_failed", task=name, error=type(error).__name__)


class Acceptor(asyncio.Protocol):
    """Hands a new connection over at once."""

    def __init__(self, on_accept: Callable[[asyncio.Transport], None]) -> None:
        self._on_accept = on_accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._on_accept(cast(asyncio.Transport, transport))
