"""An HTTP/2 client that does as it is told, also what the protocol forbids."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import GoAwayFrame

from support.proxy_rig import ProxyRig
from support.waits import BOUND

Headers = list[tuple[str, str]]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING = 0, 1, 2, 3, 4, 6
WINDOW_UPDATE, CONTINUATION = 8, 9


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one raw frame."""
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


@dataclass(slots=True)
class Answer:
    """What came on one stream so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    interims: list[int] = field(default_factory=list)
    reset: int | None = None
    is_done: bool = False


class Http2Client:
    """One connection.

    Attributes:
        goaway: error code of the GOAWAY that came, or None.
        takes: whether received data is acknowledged at once.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # The library takes any GOAWAY for the end; after a polite one answers still come.
        self.h2._frame_dispatch_table[GoAwayFrame] = self._note_goaway
        self.reader = reader
        self.writer = writer
        self.goaway: int | None = None
        self.takes = True
        self.is_closed = False
        self._answers: dict[int, Answer] = {}
        self._settings = asyncio.Event()

    async def start(self) -> None:
        """Exchange settings."""
        self.h2.initiate_connection()
        await self.flush()
        await self.until(self._settings.is_set)

    async def flush(self) -> None:
        """Send what the library has to send."""
        await self.raw(self.h2.data_to_send())

    async def raw(self, data: bytes) -> None:
        """Send bytes."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.writer.write(data)
            await self.writer.drain()

    async def ask(
        self,
        path: str = "/a",
        *,
        method: str = "GET",
        host: str = "shop.test",
        more: Headers | None = None,
        headers: Headers | None = None,
        ends: bool = True,
    ) -> int:
        """Send a request's header list (`headers` replaces it whole); return its stream."""
        stream: int = self.h2.get_next_available_stream_id()
        if headers is None:
            headers = [
                (":method", method),
                (":scheme", "https"),
                (":authority", host),
                (":path", path),
                *(more or []),
            ]
        self.h2.send_headers(stream, headers, end_stream=ends)
        await self.flush()
        return stream

    async def send(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """Send body bytes as the windows allow."""
        at = 0
        while True:
            if data:
                await self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            piece = data[at : at + min(self.h2.local_flow_control_window(stream), 16384)]
            at += len(piece)
            self.h2.send_data(stream, piece, end_stream=ends and at == len(data))
            await self.flush()
            if at == len(data):
                return

    def seen(self, stream: int) -> Answer:
        """Return what came on a stream so far."""
        return self._answers.setdefault(stream, Answer())

    async def answer(self, stream: int) -> Answer:
        """Wait for the end of a stream."""
        await self.until(lambda: self.seen(stream).is_done)
        return self.seen(stream)

    async def get(self, *args: Any, **options: Any) -> Answer:
        """Send a request without a body and return the answer."""
        return await self.answer(await self.ask(*args, **options))

    async def until(self, claim: Callable[[], bool], timeout: float = BOUND) -> None:
        """Read until `claim` holds; fails when the connection ends before."""
        async with asyncio.timeout(timeout):
            while not claim():
                if self.is_closed:
                    raise ConnectionError(f"connection ended, GOAWAY {self.goaway}")
                await self._read()

    async def ended(self) -> int | None:
        """Wait until the proxy closes; return the code of its GOAWAY."""
        async with asyncio.timeout(BOUND):
            while not self.is_closed:
                await self._read()
        return self.goaway

    async def _read(self) -> None:
        try:
            data = await self.reader.read(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.is_closed = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        await self.flush()

    def _note_goaway(self, frame: Any) -> tuple[list[Any], list[Any]]:
        self.goaway = int(frame.error_code)
        return [], []

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._settings.set()
        elif isinstance(event, h2.events.InformationalResponseReceived):
            self.seen(event.stream_id).interims.append(int(_fields(event)[":status"]))
        elif isinstance(event, h2.events.ResponseReceived):
            answer = self.seen(event.stream_id)
            answer.headers = _fields(event)
            answer.status = int(answer.headers.pop(":status"))
        elif isinstance(event, h2.events.DataReceived):
            self.seen(event.stream_id).body += event.data
            if self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.seen(event.stream_id).trailers = list(_fields(event).items())
        elif isinstance(event, h2.events.StreamEnded):
            self.seen(event.stream_id).is_done = True
        elif isinstance(event, h2.events.StreamReset):
            answer = self.seen(event.stream_id)
            answer.reset, answer.is_done = int(event.error_code), True


def _fields(event: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in event.headers}


@contextlib.asynccontextmanager
async def http2_client(
    rig: ProxyRig, context: ssl.SSLContext, name: str = "shop.test"
) -> AsyncIterator[Http2Client]:
    """Open a connection that has chosen HTTP/2."""
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.tls_port, ssl=context, server_hostname=name
    )
    tls = writer.get_extra_info("ssl_object")
    assert tls.selected_alpn_protocol() == "h2"
    client = Http2Client(reader, writer)
    try:
        await client.start()
        yield client
    finally:
        writer.close()
