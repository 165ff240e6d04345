"""An upstream whose behaviour a test writes down, and which records every byte it is sent.

It is a plain asyncio server: the proxy under test talks to a real socket, and a test can look at
exactly what arrived, which is what smuggling tests are about.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable

from support.fake_server import FakeServer

Handler = Callable[["Connection"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connection:
    """One connection the proxy opened, from the upstream's point of view.

    Attributes:
        received: every byte that arrived on it and was read.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = b""

    async def read_head(self) -> bytes:
        """Read up to the end of a head; b"" at the end of the stream."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            self.received += error.partial
            return b""
        self.received += head
        return head

    async def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        data = await self.reader.read(size)
        self.received += data
        return data

    async def read_exactly(self, size: int) -> bytes:
        """Read `size` bytes."""
        data = await self.reader.readexactly(size)
        self.received += data
        return data

    async def read_to_end(self) -> bytes:
        """Read until the peer ends its stream."""
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                self.received += data
        return self.received

    async def read_request(self) -> bytes:
        """Read one whole request, its body included, as raw bytes; b"" at the end."""
        head = await self.read_head()
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        if length:
            return head + await self.read_exactly(int(length[1]))
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            body = await self.reader.readuntil(b"0\r\n\r\n")
            self.received += body
            return head + body
        return head

    async def send(self, data: bytes) -> None:
        """Send `data`."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close without sending what is left."""
        self.writer.transport.abort()


def always(response: bytes = OK) -> Handler:
    """Return a handler that answers every request with `response`, for as long as it is asked."""

    async def handle(connection: Connection) -> None:
        while await connection.read_request():
            await connection.send(response)

    return handle


class FakeUpstream(FakeServer):
    """A scripted upstream on a free port of 127.0.0.1; use as an async context manager.

    Args:
        tls: server context, or None to serve in clear.

    Attributes:
        connections: every connection accepted, in order.
    """

    ENDS = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)

    def __init__(
        self, handler: Handler | None = None, *, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(tls=tls)
        self._handler = handler or always()
        self.connections: list[Connection] = []

    @property
    def received(self) -> bytes:
        """Every byte received, connection after connection."""
        return b"".join(connection.received for connection in self.connections)

    def count_requests(self) -> int:
        """Return how many request lines arrived."""
        return len(re.findall(rb"(?m)^[A-Z]+ [^ \r\n]+ HTTP/1\.[01]\r$", self.received))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the handler speak on one connection."""
        connection = Connection(reader, writer)
        self.connections.append(connection)
        await self._handler(connection)
