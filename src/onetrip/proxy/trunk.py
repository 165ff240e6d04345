"""HTTP/2 to a next hop: one connection that carries many exchanges.

What one exchange does wrong must not cost the others: a malformed response ends its stream, and
only what leaves the connection in doubt ends all. A server that leaves (GOAWAY) finishes what it
has begun; what it has not begun may be sent again, and the error says so. A server that floods us
with frames that carry nothing pays from the same allowance as a client does.

A connection that died without a word is found by PING: one is sent when streams wait and nothing
has been heard for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onetrip.errors import Kind, ProtocolError, UpstreamError
from onetrip.proxy.carrier import SPARE_WINDOW, Carrier
from onetrip.proxy.upstream_stream import TrunkParts, UpstreamStream
from onetrip.wire.http1 import Fields
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
)
from onetrip.wire.http2_codec import ClientCodec
from onetrip.wire.http2_upstream import split_lines


class Trunk(Carrier[UpstreamStream]):
    """A connection to an instance or a peer that speaks HTTP/2.

    Args:
        scheme: b"https" over TLS, else b"http".
        on_room: called when another stream may be opened.
        on_closed: called when the connection is gone.

    Attributes:
        is_counted: its pool counts it among the open ones.
    """

    def __init__(
        self,
        parts: TrunkParts,
        scheme: bytes,
        on_room: Callable[[], None],
        on_closed: Callable[[Trunk], None],
    ) -> None:
        settings, now = parts.settings, parts.clock.now()
        self._client = ClientCodec(settings.buffer_size, settings.head_limit)
        super().__init__(
            self._client, settings.buffer_size, parts.clock, parts.outbox, SPARE_WINDOW
        )
        self.scheme = scheme
        self.is_counted = False
        self._parts = parts
        self._on_room = on_room
        self._on_closed = on_closed
        self._meter = FrameMeter(settings.limits, has_preface=False)
        self._open: set[UpstreamStream] = set()
        self._waiting: list[tuple[UpstreamStream, Fields]] = []
        self._news: dict[UpstreamStream, None] = {}  # streams to wake, in order
        self._begun = 0
        self._is_leaving = False
        self._block = b""
        self._block_fields: Fields = []
        self._heard_at = self._idle_since = now
        self._pinged_at = 0.0

    # --- for its pool -----------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Streams that may be opened now."""
        if self._is_leaving or self._is_closing or self.is_lost:
            return 0
        limit = min(self._client.max_streams, self._parts.settings.upstream_streams)
        return limit - len(self._open)

    def open(self) -> UpstreamStream:
        """Return a new stream, while there is `room`."""
        stream = UpstreamStream(self, self._codec.window, self._parts)
        stream.uses = self._begun
        self._begun += 1
        self._open.add(stream)
        return stream

    def leave(self) -> None:
        """Open no more streams, and close once the open ones are over."""
        self._is_leaving = True
        if not self._open:
            self._end()

    def check(self, now: float, idle_before: float) -> None:
        """Look at the time: close when idle since before that instant, else see that it lives."""
        settings = self._parts.settings
        if self._is_closing:
            if self._idle_since + settings.linger_timeout < now:
                self.abort()
        elif not self._open:
            if self._idle_since < idle_before:
                self.leave()
        elif self._pinged_at:
            if now - self._pinged_at > settings.ping_timeout:
                self._count("errors", "no_ping")
                self.abort()
        elif now - self._heard_at >= settings.ping_interval:
            self._pinged_at = now
            self._client.ping()
            self._flush_frames()
        for stream in [s for s in self._open if s.over_at]:
            if stream.over_at + settings.linger_timeout < now:
                self.finish(stream)

    # --- life -------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._flush_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        for stream in list(self._open):
            text, is_unanswered = "connection closed before a response", not stream.reads
            self._cut(stream, UpstreamError(text, kind=Kind.RESET, retryable=is_unanswered))
        self._on_closed(self)

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; a server that sends no more is of no use."""
        return False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._is_closing:
            return
        now = self._heard_at = self._clock.now()
        meter = self._meter
        cheap, loads = meter.cheap, meter.loads
        try:
            meter.feed(data)
            self._cheap.earn(meter.loads - loads)
            if not self._cheap.spend(meter.cheap - cheap, now):
                raise FloodError("too many frames without content")
            for event in self._codec.receive(data):
                self._handle(event)
        except FloodError as error:
            self._break(error.code)
        except Exception as error:
            # The library met bytes that it did not expect; they must not cost more than this.
            self._parts.log.error("proxy.http2_failed", error=type(error).__name__)
            self._break(Code.INTERNAL_ERROR)
        # Only now: what an exchange does at once must not come between two events.
        news, self._news = self._news, {}
        for stream in news:
            stream.rouse()
        self._flush_frames()

    # --- from the next hop ------------------------------------------------------------------

    def _handle(self, event: Http2Event) -> None:
        if isinstance(event, WindowGrew):
            if self._waiting and self._client.is_settled:
                self._begin_waiting()
            self._schedule()
            self._on_room()  # it may be what a server's settings did
        elif isinstance(event, PingAnswered):
            self._pinged_at = 0.0
        elif isinstance(event, PeerLeaves):
            self._let_go(event)
        else:
            stream = self._streams.get(event.stream)
            if stream is not None:
                self._pass(event, stream)
            elif isinstance(event, BodyArrived):  # over meanwhile; it still counts in the window
                self._codec.acknowledge(event.stream, event.size)

    def _pass(
        self, event: HeadArrived | BodyArrived | MessageEnded | StreamLost, stream: UpstreamStream
    ) -> None:
        self._news[stream] = None
        try:
            if isinstance(event, HeadArrived):
                self._cheap.earn(5)
                stream.note_head(event.headers, ends=event.ends)
            elif isinstance(event, BodyArrived):
                stream.feed(event.data, event.size)
            elif isinstance(event, MessageEnded):
                if not stream.has_ended:
                    stream.end(event.trailers)
            else:
                self._lose(stream, event.code)
        except ProtocolError as error:
            self._count("resets", "protocol_error")
            self._codec.reset(stream.id, Code.PROTOCOL_ERROR)
            stream.lose(UpstreamError(f"response: {error}", kind=error.kind))
        if stream.over_at and (stream.has_ended or stream.received):
            self.finish(stream)

    def _lose(self, stream: UpstreamStream, code: Code) -> None:
        if code is Code.NO_ERROR and stream.has_ended:
            stream.lose(None)  # it needs no more of the request (RFC 9113 section 8.1)
            return
        self._count("resets", code.name.lower())
        if code is Code.REFUSED_STREAM:
            error = UpstreamError("refused the stream", kind=Kind.REFUSED, retryable=True)
        else:
            error = UpstreamError(f"reset the stream: {code.name}", kind=Kind.RESET)
        stream.lose(error)

    def _let_go(self, event: PeerLeaves) -> None:
        self._count("goaways", event.code.name.lower())
        self._is_leaving = True
        for stream in [s for s in self._streams.values() if s.id > event.last_stream]:
            self._refuse(stream)
        if not self._open:
            self._end()

    @staticmethod
    def _refuse(stream: UpstreamStream) -> None:
        text = "closes the connection, and did not act on the request"
        stream.lose(UpstreamError(text, kind=Kind.LEAVING, retryable=True))

    # --- streams ----------------------------------------------------------------------------

    def begin(self, stream: UpstreamStream, headers: Fields, *, ends: bool) -> None:
        """See `Link`."""
        is_open = not (self._is_leaving or self._is_closing or self.is_lost)
        if stream.key and is_open:
            if not self._client.is_settled:  # CONNECT has to wait for the server's word
                self._waiting.append((stream, headers))
                return
            if not self._client.allows_connect:
                text = "takes no WebSocket over HTTP/2"
                stream.lose(UpstreamError(text, kind=Kind.UNSUPPORTED))
                return
        stream.id = self._client.open(headers, ends=ends) if is_open else 0
        if not stream.id:
            self._is_leaving = True
            self._refuse(stream)
            return
        if len(self._open) == 1:
            self._heard_at = self._clock.now()  # silence counts from here
        self._parts.metrics.upstream_http2_streams.inc()
        self._streams[stream.id] = stream
        self._schedule()

    def _begin_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for stream, headers in waiting:
            if stream in self._open:
                self.begin(stream, headers, ends=False)

    def fields_of(self, block: bytes) -> Fields:
        """See `Link`."""
        if block is not self._block:
            self._block, self._block_fields = block, split_lines(block)
        return self._block_fields

    def send_now(self) -> None:
        """See `Link`."""
        self._pump()

    def release(self, stream: UpstreamStream, now: float) -> None:
        """Take back a stream whose response has been relayed whole, at `now`."""
        stream.waker = None
        if stream.has_ended:
            self.finish(stream)
        else:
            stream.over_at = now  # its end is on its way

    def finish(self, stream: UpstreamStream) -> None:
        """See `Link`."""
        if stream not in self._open:
            return
        if stream.id and not stream.is_lost and not (stream.has_ended and stream.is_sent):
            self.reset(stream, Code.CANCEL)
        self.acknowledge(stream)
        self._open.discard(stream)
        self._forget(stream)
        stream.is_lost = stream.has_ended = True
        if not self._open:
            self._idle_since = self._clock.now()
            if self._is_leaving:
                self._end()
        self._on_room()

    # --- the end ----------------------------------------------------------------------------

    def _break(self, code: Code) -> None:
        """End the connection because of what the next hop did."""
        if self._is_closing:
            return
        self._count("errors", code.name.lower())
        self._is_leaving = True
        self._codec.drop_output()
        for stream in list(self._open):
            self._cut(stream, UpstreamError(f"HTTP/2: {code.name}", kind=Kind.MALFORMED))
        self._end(code)

    def _end(self, code: Code = Code.NO_ERROR) -> None:
        if not self._is_closing and not self.is_lost:
            self._is_leaving = True
            self._idle_since = self._clock.now()
            self._flush_frames()
            self.write(goaway_frame(0, code))
            self.close()

    @staticmethod
    def _cut(stream: UpstreamStream, error: UpstreamError) -> None:
        """Lose a stream with its connection; a response that is here already stands."""
        stream.lose(stream.error if stream.has_ended else error)

    def _count(self, what: str, code: str) -> None:
        metrics = self._parts.metrics
        counter = {
            "resets": metrics.upstream_http2_resets,
            "goaways": metrics.upstream_http2_goaways,
            "errors": metrics.upstream_http2_errors,
        }[what]
        counter.labels(code).inc()
