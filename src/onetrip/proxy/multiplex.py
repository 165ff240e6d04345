"""HTTP/2 to clients: one connection, its streams, and how much trouble a client may make.

`ServerCodec` knows the protocol, `carrier` moves the bytes of streams; this module decides which
streams there are, and ends what hurts. Each stream is served by an exchange of its own, exactly as
an HTTP/1.1 request (`streams.Stream`).

A client can make a server work for next to nothing: reset streams as fast as it opens them
(CVE-2023-44487), make the server reset them (CVE-2025-8671), or send frames that carry nothing
(CVE-2019-9512 to 9518). So such frames are paid from an allowance that refills with time and with
real work, and a client that has used it up is sent away (ENHANCE_YOUR_CALM).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from onetrip.errors import DownstreamError, Kind, OnetripError, ProtocolError
from onetrip.proxy.admission import client_of
from onetrip.proxy.allowance import Allowance, early_ends
from onetrip.proxy.carrier import SPARE_WINDOW, UNLIMITED, Carrier
from onetrip.proxy.downstream import NEVER
from onetrip.proxy.exchange import Exchange
from onetrip.proxy.headers import Prepared
from onetrip.proxy.ledger import Record
from onetrip.proxy.replies import error_reply, status_of
from onetrip.proxy.services import Services
from onetrip.proxy.streams import Stream
from onetrip.wire.http1 import Fields
from onetrip.wire.http1_head import HeadReader, RequestHead
from onetrip.wire.http2 import (
    BodyArrived,
    Code,
    FloodError,
    FrameMeter,
    HeadArrived,
    Http2Event,
    MessageEnded,
    PeerLeaves,
    PingAnswered,
    StreamLost,
    WindowGrew,
    goaway_frame,
    read_request,
    read_trailers,
)
from onetrip.wire.http2_codec import CONNECTION_WINDOW, MAX_STREAMS, WHOLE_WINDOW, ServerCodec
from onetrip.wire.http2_websocket import is_connect, make_key, read_connect

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Multiplex(Carrier[Stream]):
    """A client connection that speaks HTTP/2.

    Args:
        on_open: called once connected; False when there are too many connections already.
        on_closed: called when the connection is gone.
        spawn: starts the task of one stream.
        address: of the client, where a trusted proxy told it.
        count_error: told the error code of a connection that had to be ended.
        is_for_nodes: it is a peer's, which proved that: it carries many clients, so what one of
            them may cost is not counted against all, and windows may grow for the long trip.
    """

    def __init__(
        self,
        services: Services,
        on_open: Callable[[Multiplex], bool],
        on_closed: Callable[[Multiplex], None],
        spawn: Spawn,
        address: str | None,
        count_error: Callable[[str], None],
        *,
        is_for_nodes: bool = False,
    ) -> None:
        settings, now = services.settings, services.clock.now()
        window = WHOLE_WINDOW if is_for_nodes else CONNECTION_WINDOW
        codec = ServerCodec(settings.buffer_size, settings.head_limit, window)
        spare = SPARE_WINDOW if is_for_nodes else 0
        super().__init__(codec, settings.buffer_size, services.clock, services.outbox, spare)
        self._is_for_nodes = is_for_nodes
        self._services = services
        self._on_open = on_open
        self._on_closed = on_closed
        self._spawn = spawn
        self._address = address
        self._count_error = count_error
        self._reader = HeadReader(settings.limits)
        self._meter = FrameMeter(settings.limits)
        self._resets = early_ends(now)
        if is_for_nodes:
            self._cheap = self._resets = UNLIMITED
        self._memo: Prepared | None = None
        self._is_leaving = False  # GOAWAY was sent
        self._requests = self._last_id = 0
        self._idle_until = now + settings.header_timeout

    # --- life, as the listener sees it ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        client = client_of(
            transport, self._services, self._address, is_for_nodes=self._is_for_nodes
        )
        self._client = replace(client, is_http2=True)
        self._flush_frames()
        if not self._on_open(self):
            self._fail(Code.REFUSED_STREAM)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        error = exc or ConnectionResetError("connection ended")
        for stream in list(self._streams.values()):
            stream.lose(error)
        self._on_closed(self)

    @property
    def deadline(self) -> float:
        """Monotonic instant at which the sweep calls `expire`."""
        own = NEVER if self._streams else self._idle_until
        return min([own, *(stream.deadline for stream in self._streams.values())])

    def expire(self) -> None:
        """End the waits whose deadline has passed, or a connection without streams."""
        now = self._services.clock.now()
        for stream in list(self._streams.values()):
            if stream.deadline <= now:
                stream.expire()
        if not self._streams and self._idle_until <= now:
            if self._is_closing:
                self.abort()
            self.start_draining()

    # --- from the client --------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._is_closing:
            return
        meter = self._meter
        cheap, resets, loads = meter.cheap, meter.resets, meter.loads
        try:
            meter.feed(data)
            self._cheap.earn(meter.loads - loads)
            self._charge(self._cheap, meter.cheap - cheap)
            self._charge(self._resets, meter.resets - resets)
            for event in self._codec.receive(data):
                self._handle(event)
        except FloodError as error:
            self._fail(error.code)
        except Exception as error:
            # The library met bytes that it did not expect; they must not cost more than this.
            self._services.log.error("proxy.http2_failed", error=type(error).__name__)
            self._fail(Code.INTERNAL_ERROR)
        else:
            self._flush_frames()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; a client that sends no more gets no more."""
        return False

    def _handle(self, event: Http2Event) -> None:
        if isinstance(event, HeadArrived):
            self._open(event)
            return
        if isinstance(event, WindowGrew | PeerLeaves | PingAnswered):
            self._schedule()
            return
        stream = self._streams.get(event.stream)
        if isinstance(event, BodyArrived):
            if stream is None:  # ended meanwhile; its bytes still count in the shared window
                self._codec.acknowledge(event.stream, event.size)
            else:
                stream.feed(event.data, event.size)
        elif stream is not None and isinstance(event, StreamLost):
            stream.lose(ConnectionResetError("stream reset"))
        elif stream is not None and isinstance(event, MessageEnded):
            self._end_request(stream, event.trailers)

    def _open(self, event: HeadArrived) -> None:
        id = event.stream
        if self._is_leaving or len(self._streams) >= MAX_STREAMS:
            self._codec.reset(id, Code.REFUSED_STREAM)
            self._charge(self._resets, 1)
            return
        self._last_id = id
        self._requests += 1
        self._streams[id] = stream = Stream(
            id, self, self._codec.window, self._services, self._client
        )
        try:
            head = self._read(event, stream)
        except ProtocolError as error:
            self._refuse(stream, DownstreamError(str(error), kind=error.kind))
            return
        stream.memo = self._memo
        stream.begin(head)
        exchange = Exchange(stream, head, self._services, False)
        self._spawn(self._serve(stream, exchange), "proxy.stream")
        if self._services.is_draining or self._requests >= self._services.settings.max_requests:
            self.start_draining()

    def _read(self, event: HeadArrived, stream: Stream) -> RequestHead:
        if is_connect(event.headers):
            stream.key = key = make_key(self._services.rng.randbytes(16))
            return read_connect(event.headers, key, ends=event.ends, reader=self._reader)
        return read_request(event.headers, has_body=not event.ends, reader=self._reader)

    def _end_request(self, stream: Stream, trailers: Fields) -> None:
        try:
            stream.end_request(read_trailers(trailers))
        except ProtocolError:
            self.reset(stream, Code.PROTOCOL_ERROR)
            stream.lose(ConnectionResetError("malformed trailers"))

    def _charge(self, allowance: Allowance, count: int) -> None:
        if count and not allowance.spend(count, self._services.clock.now()):
            raise FloodError("too many frames without content, or streams ended early")

    # --- streams ----------------------------------------------------------------------------

    async def _serve(self, stream: Stream, exchange: Exchange | None) -> None:
        try:
            if exchange is not None:
                await exchange.run()
                self._memo = stream.memo
            await stream.finish()
        finally:
            self._close(stream)

    def _refuse(self, stream: Stream, error: OnetripError) -> None:
        """Answer a request that cannot be served; a malformed one is a stream error (8.1.1)."""
        services = self._services
        record = Record(services.clock.now(), self._client.address, status=status_of(error))
        record.error = error
        services.ledger.close(record, services.routing.settle)
        if error.kind is Kind.MALFORMED:
            self.reset(stream, Code.PROTOCOL_ERROR)
            stream.lose(ConnectionResetError("malformed request"))
            self._close(stream)
            return
        stream.write(error_reply(error, b"", keep_alive=False))
        self._spawn(self._serve(stream, None), "proxy.stream")

    def _close(self, stream: Stream) -> None:
        """Forget a stream whose exchange is over."""
        self._forget(stream)
        self._cheap.earn(5)
        if stream.is_sent:
            self._resets.earn(1)
            if not stream.has_request:
                # The response needed no more of the request (RFC 9113 section 8.1).
                self.reset(stream, Code.NO_ERROR)
        elif not stream.is_lost:
            self.reset(stream, Code.CANCEL if stream.is_tunnel else Code.INTERNAL_ERROR)
        stream.is_lost = True
        self._idle_until = self._services.clock.now() + self._services.settings.idle_timeout
        if self._is_leaving and not self._streams:
            self._end()

    def reset(self, stream: Stream, code: Code) -> None:
        """See `Carrier`; a client that makes us do it too often has to leave."""
        if self._is_closing or self.is_lost or not self._codec.reset(stream.id, code):
            return
        if code is not Code.NO_ERROR and not self._resets.spend(1, self._services.clock.now()):
            self._fail(Code.ENHANCE_YOUR_CALM)
        self._schedule()

    # --- the end ----------------------------------------------------------------------------

    def start_draining(self) -> None:
        """Send GOAWAY, and close once the streams in progress are answered."""
        if not self._is_leaving and not self._is_closing and not self.is_lost:
            self._is_leaving = True
            self._flush_frames()
            # By hand: the library takes its own GOAWAY for the end of everything.
            self.write(goaway_frame(self._last_id, Code.NO_ERROR))
        if not self._streams:
            self._end()

    def _fail(self, code: Code) -> None:
        """End the connection because of what the client did."""
        if self._is_closing:
            return
        self._count_error(code.name.lower())
        self._codec.drop_output()
        self.write(goaway_frame(self._last_id, code))
        self._end()
        for stream in list(self._streams.values()):
            stream.lose(ConnectionResetError("connection failed"))

    def _end(self) -> None:
        """Close; a client that does not take our last bytes is cut off by the sweep."""
        self._idle_until = self._services.clock.now() + self._services.settings.linger_timeout
        self.close()
