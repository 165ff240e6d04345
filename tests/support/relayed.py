"""A relay in the test's loop, and servers of plain bytes to put behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from onetrip.model.catalog import BackendKind
from onetrip.model.topology import Endpoint
from onetrip.net.dial import Dial, TcpDialer
from onetrip.observe.logs import silent_log
from onetrip.relay.server import RelayServer
from onetrip.relay.settings import RelaySettings
from onetrip.timing import Clock, MonotonicClock

LOOPBACK = "127.0.0.1"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def relayed(
    port: int,
    kind: BackendKind = BackendKind.REDIS,
    dial: Dial | None = None,
    clock: Clock | None = None,
    **limits: float,
) -> AsyncIterator[tuple[RelayServer, int]]:
    """Relay to a port of this machine; give the relay and the port it listens on."""
    settings = RelaySettings(kind, Endpoint(LOOPBACK, 0), Endpoint(LOOPBACK, port), "orders-db")
    settings = replace(settings, **limits)  # type: ignore[arg-type]
    server = RelayServer(settings, dial or TcpDialer(), clock or MonotonicClock(), silent_log())
    own = await server.start()
    try:
        yield server, own
    finally:
        await server.stop()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Run a server; give its port. Connections still open at the end are closed."""
    writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, LOOPBACK, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each segment with itself, and end when the client does."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
