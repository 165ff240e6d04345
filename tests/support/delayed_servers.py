"""Servers on loopback whose every answer takes a known time: one round trip made visible.

Loopback has no RTT of its own, so each part of the way is put where it belongs: an answer comes
`delay` after its question, and `DelayedDial` takes `delay` to connect. A probe that counts the
connect as well, or two exchanges instead of one, measures twice the delay.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from onetrip.model.topology import Endpoint
from onetrip.net.dial import Receiver, TcpDialer

P = TypeVar("P", bound=Receiver)
Talk = Callable[["Visitor"], Awaitable[None]]


class Visitor:
    """One accepted connection, as the script of a server sees it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._delay = delay

    async def question(self, size: int) -> bytes:
        """Return exactly `size` bytes from the client."""
        return await self._reader.readexactly(size)

    async def head(self) -> bytes:
        """Return one HTTP request head."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def answer(self, data: bytes) -> None:
        """Send `data` after the delay."""
        await asyncio.sleep(self._delay)
        await self.send(data)

    async def send(self, data: bytes) -> None:
        """Send `data` at once."""
        self._writer.write(data)
        await self._writer.drain()

    async def wait_closed(self) -> None:
        """Wait until the client has closed."""
        while await self._reader.read(4096):
            pass


class DelayedServer:
    """Runs a script for each connection.

    Attributes:
        accepted: connections so far.
        endpoint: where it listens.
    """

    def __init__(self, talk: Talk, delay: float) -> None:
        self.accepted = 0
        self.endpoint = Endpoint("127.0.0.1", 0)
        self._talk = talk
        self._delay = delay
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.endpoint = Endpoint("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the listener and every connection."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(Visitor(reader, writer, self._delay))
        except (OSError, EOFError):
            pass  # the client closed
        finally:
            writer.close()


@asynccontextmanager
async def serving(talk: Talk, delay: float = 0.0) -> AsyncIterator[DelayedServer]:
    """Run a `DelayedServer`."""
    server = DelayedServer(talk, delay)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class DelayedDial:
    """A `Dial` that takes `delay` s longer, as a far server's handshake does.

    Attributes:
        dialled: connections asked for.
    """

    def __init__(self, delay: float) -> None:
        self.dialled = 0
        self._delay = delay
        self._dial = TcpDialer()

    async def __call__(
        self,
        factory: Callable[[], P],
        host: str,
        port: int,
        *,
        timeout: float,
        tls_name: str | None = None,
        protocols: tuple[str, ...] = (),
    ) -> P:
        """See `Dial`."""
        self.dialled += 1
        await asyncio.sleep(self._delay)
        return await self._dial(
            factory, host, port, timeout=timeout, tls_name=tls_name, protocols=protocols
        )


class DelayedKnock:
    """A `Knock` over loopback that answers `delay` s for every handshake."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.knocks = 0

    async def __call__(self, address: str, port: int, *, timeout: float) -> float:
        """See `Knock`."""
        self.knocks += 1
        return self.delay


class DelayedResolve:
    """A `Resolve` that takes `delay` s for each name."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self.distrusted: list[str] = []

    async def __call__(self, host: str, *, timeout: float) -> str:
        """See `Resolve`."""
        await asyncio.sleep(self._delay)
        return "127.0.0.1"

    def distrust(self, host: str, address: str) -> None:
        """See `Resolve`."""
        self.distrusted.append(host)
