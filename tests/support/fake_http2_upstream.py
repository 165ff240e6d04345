"""An HTTP/2 upstream whose behaviour a test writes down, also what the protocol forbids."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import h2.events
import h2.exceptions
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from onetrip.model.topology import Endpoint, HttpProtocol
from support.fake_server import FakeServer

Headers = list[tuple[str, str]]


class Request:
    """One request, from the upstream's point of view.

    Attributes:
        fields: its header list, in order.
        body, trailers: what has come of it so far.
        size: bytes of its body so far.
        is_kept: whether `body` is.
        reset: the code with which the proxy gave it up, or None.
    """

    def __init__(self, connection: Http2Connection, stream: int, headers: Any) -> None:
        self.connection = connection
        self.stream = stream
        self.fields: Headers = [(str(n), str(v)) for n, v in headers]
        self.headers = dict(self.fields)
        self.body = b""
        self.size = 0
        self.is_kept = True
        self.trailers: Headers = []
        self.is_ended = False
        self.reset: int | None = None

    @property
    def path(self) -> str:
        """Its target."""
        return self.headers[":path"]

    async def whole(self) -> bytes:
        """Wait for the end of its body, and return it."""
        await self.connection.until(lambda: self.is_ended)
        return self.body

    async def head(self, status: int = 200, more: Headers | None = None, *, ends: bool = False):  # type: ignore[no-untyped-def]
        """Send a head; 1xx too."""
        fields = [(":status", str(status)), *(more or [])]
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in fields]
        self.connection.h2.send_headers(self.stream, headers, end_stream=ends)
        await self.connection.flush()

    async def send(self, data: bytes, *, ends: bool = False) -> None:
        """Send body bytes as the windows allow."""
        h2, at = self.connection.h2, 0
        while at < len(data):
            await self.connection.until(lambda: h2.local_flow_control_window(self.stream) > 0)
            piece = data[at : at + min(h2.local_flow_control_window(self.stream), 16384)]
            at += len(piece)
            h2.send_data(self.stream, piece, end_stream=ends and at == len(data))
            await self.connection.flush()
        if ends and not data:
            h2.send_data(self.stream, b"", end_stream=True)
            await self.connection.flush()

    async def answer(
        self,
        body: bytes = b"ok",
        status: int = 200,
        more: Headers | None = None,
        trailers: Headers | None = None,
    ) -> None:
        """Send a whole response."""
        await self.head(status, more, ends=not body and not trailers)
        if body:
            await self.send(body, ends=not trailers)
        if trailers:
            self.connection.h2.send_headers(self.stream, trailers, end_stream=True)
            await self.connection.flush()

    async def refuse(self, code: int) -> None:
        """Send RST_STREAM."""
        self.connection.h2.reset_stream(self.stream, code)
        await self.connection.flush()


Handler = Callable[[Request], Awaitable[None]]


async def ok(request: Request) -> None:
    """Answer `ok` to everything, with a length."""
    await request.whole()
    await request.answer(b"ok", more=[("content-length", "2")])


class Http2Connection:
    """One connection the proxy opened.

    Attributes:
        requests: on it, in order.
        takes: whether received data is acknowledged at once.
        pings: PINGs that came.
        answers_pings: whether they are answered.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler,
        settings: dict[SettingCodes, int],
    ) -> None:
        config = H2Configuration(
            client_side=False,
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = H2Connection(config)
        self.h2.local_settings = Settings(client=False, initial_values=dict(settings))
        self.reader = reader
        self.writer = writer
        self.requests: list[Request] = []
        self.takes = True
        self.is_closed = False
        self.pings = 0
        self.reads = True
        self._by_stream: dict[int, Request] = {}
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Serve it to its end."""
        self.h2.initiate_connection()
        await self.flush()
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._note(event)
                await self.flush()
                async with self._news:
                    self._news.notify_all()
        finally:
            self.is_closed = True
            async with self._news:
                self._news.notify_all()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until `claim` holds; fails when the connection ends before."""
        async with self._news:
            while not claim():
                if self.is_closed:
                    raise ConnectionError("connection ended")
                await self._news.wait()

    async def flush(self) -> None:
        """Send what the library has to send."""
        await self.raw(self.h2.data_to_send())

    async def raw(self, data: bytes) -> None:
        """Send bytes."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.writer.write(data)
            await self.writer.drain()

    async def goaway(self, last_stream: int, code: int = 0) -> None:
        """Send GOAWAY; the streams up to `last_stream` can still be answered."""
        from onetrip.wire.http2 import goaway_frame

        await self.raw(goaway_frame(last_stream, code))

    def _note(self, event: h2.events.Event) -> None:
        request = self._by_stream.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, h2.events.RequestReceived):
            request = Request(self, event.stream_id, event.headers)
            self._by_stream[event.stream_id] = request
            self.requests.append(request)
            task = asyncio.get_running_loop().create_task(self._serve(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif request is None:
            return
        elif isinstance(event, h2.events.DataReceived):
            request.size += len(event.data)
            if request.is_kept:
                request.body += event.data
            if self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            request.trailers = [(str(n), str(v)) for n, v in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            request.is_ended = True
        elif isinstance(event, h2.events.StreamReset):
            request.reset = int(event.error_code or 0)

    async def _serve(self, request: Request) -> None:
        with contextlib.suppress(ConnectionError, h2.exceptions.H2Error):
            await self._handler(request)


class FakeHttp2Upstream(FakeServer):
    """A scripted HTTP/2 server on a free port of 127.0.0.1; use as an async context manager.

    Args:
        handler: serves each request, in a task of its own.
        tls: server context, or None to speak in clear with prior knowledge.
        settings: announced to the proxy.

    Attributes:
        connections: every connection accepted, in order.
    """

    ENDS = (ConnectionError, ssl.SSLError, h2.exceptions.H2Error, asyncio.CancelledError)

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        super().__init__(tls=tls)
        self._handler = handler or ok
        self._settings = settings or {SettingCodes.MAX_CONCURRENT_STREAMS: 100}
        self.connections: list[Http2Connection] = []

    @property
    def requests(self) -> list[Request]:
        """All requests so far, connection after connection."""
        return [request for connection in self.connections for request in connection.requests]

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens, to be spoken to with prior knowledge."""
        return Endpoint("127.0.0.1", self.port, None, HttpProtocol.H2)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the handler speak on one connection."""
        connection = Http2Connection(reader, writer, self._handler, self._settings)
        self.connections.append(connection)
        await connection.run()
