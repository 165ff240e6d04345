"""The relay without routes: every connection of its listener leads to one database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from onetrip.errors import Kind
from onetrip.net.dial import Dial
from onetrip.observe.logs import Log
from onetrip.relay.figures import Figures
from onetrip.relay.front import Front, ends_reported
from onetrip.relay.link import reset
from onetrip.relay.links import Links
from onetrip.relay.settings import RelaySettings
from onetrip.timing import Clock
from onetrip.wire.flip_setup import flips_for
from onetrip.wire.flips import Tally


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
        self._tally = Tally()
        self._front = front = Front(settings, clock, log)
        self._links = Links(dial, clock, front.refuse, timeout=settings.connect_timeout)

    @property
    def connections(self) -> int:
        """Client connections open now."""
        return len(self._links)

    @property
    def counts(self) -> Counts:
        """What was counted since the start."""
        tally = self._tally
        return Counts(tally.trips, tally.setup_trips, self._links.opened, tally.opaque)

    @property
    def figures(self) -> Figures:
        """What it can tell of itself."""
        tally, links = self._tally, self._links
        return Figures(len(links), links.opened, self._front.refused, tally.sent, tally.received)

    async def start(self) -> int:
        """Listen, and return the port (useful with port 0).

        Raises:
            OSError: the address cannot be bound.
        """
        return await self._front.open(self._accept, self._links.close_idle)

    async def drain(self) -> None:
        """Stop accepting and close each connection once it is silent; wait a bounded time."""
        await self._front.drain(lambda: self.connections, self._links.close_silent)

    async def stop(self) -> None:
        """Close everything now."""
        self._front.close()
        self._links.abort()
        await self._front.tasks.cancel(timeout=5.0)
        await ends_reported()

    def _accept(self, transport: asyncio.Transport) -> None:
        limit = self._settings.max_connections
        if self.connections >= limit:
            self._front.refuse(f"more than {limit} connections", Kind.CONNECTION_LIMIT)
            reset(transport)
            return
        link = self._links.add(flips_for(self._settings.kind, self._tally))
        link.accept(transport)
        self._front.tasks.spawn(self._links.connect(link, self._settings.target), "relay.connect")
