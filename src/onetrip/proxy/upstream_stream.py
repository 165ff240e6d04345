"""One HTTP/2 stream to a next hop, as an exchange sees it: a `NextHop` that shares a connection.

Heads come and go as header lists, bodies as plain bytes: nothing here is written as HTTP/1.1 to be
read again. The end of the stream is the end of the body, and brings its trailers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from onetrip.errors import Kind, ProtocolError, UpstreamError
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.carrier import StreamSide, Window
from onetrip.proxy.channel import Outbox
from onetrip.proxy.settings import ProxySettings
from onetrip.proxy.upstream import NextHop
from onetrip.timing import Clock
from onetrip.wire.http1 import Fields, Limits, split_list
from onetrip.wire.http1_body import (
    FORBIDDEN_TRAILERS,
    BodyDecoder,
    is_bodiless,
    response_decoder,
)
from onetrip.wire.http1_head import RequestHead, ResponseHead
from onetrip.wire.http2 import read_trailers
from onetrip.wire.http2_upstream import read_response, request_headers, split_lines
from onetrip.wire.http2_websocket import connect_headers, key_of, switched

MAX_HEADS = 20
"""Heads of one response that wait to be taken; the exchange refuses fewer interim ones."""


@dataclass(frozen=True, slots=True)
class TrunkParts:
    """What the connections to next hops over HTTP/2 share."""

    settings: ProxySettings
    clock: Clock
    outbox: Outbox
    metrics: Metrics
    log: Log


class Link(Protocol):
    """The connection that upstream streams share."""

    scheme: bytes

    def begin(self, stream: UpstreamStream, headers: Fields, *, ends: bool) -> None:
        """Send the request's header list; its stream gets a number, or fails."""

    def fields_of(self, block: bytes) -> Fields:
        """Return the fields of a block of lines; callers repeat the last one a lot."""

    def send_soon(self, stream: UpstreamStream) -> None:
        """Send what the stream has to send, at the end of the loop's round."""

    def send_now(self) -> None:
        """Send what can be sent."""

    def acknowledge(self, stream: UpstreamStream) -> None:
        """Give the window of what was taken back to the next hop."""

    def finish(self, stream: UpstreamStream) -> None:
        """Forget a stream, and end it where it goes on."""


class UpstreamStream(StreamSide, NextHop):
    """One request and its response.

    Attributes:
        link: the connection it is part of.
        key: the nonce of the WebSocket handshake that it stands for, b"" for a request.
        has_head: the head of the final response has arrived.
        over_at: when its exchange was over, monotonic s; 0 before.
    """

    has_frames = True
    __slots__ = (
        "_heads",
        "_limits",
        "_method",
        "_out",
        "_trailers_in",
        "has_head",
        "id",
        "is_ready",
        "is_sent",
        "key",
        "link",
        "over_at",
        "trailers",
        "window",
    )

    def __init__(self, link: Link, window: int, parts: TrunkParts) -> None:
        settings = parts.settings
        super().__init__(settings.buffer_size, parts.outbox)
        self.id = 0
        self.trailers = []
        self.is_ready = self.is_sent = self.has_head = False
        self.window = Window(window)
        self.over_at = 0.0
        self.key = b""
        self.link = link
        self._limits = settings.limits
        self._method = b""
        self._out = bytearray()
        self._heads: deque[ResponseHead] = deque()
        self._trailers_in: Fields = []

    # --- from the next hop; its connection wakes the exchange afterwards ------------------

    def note_head(self, headers: Fields, *, ends: bool) -> None:
        """Take in a header list.

        Raises:
            ProtocolError: it is no response head.
        """
        if len(self._heads) >= MAX_HEADS:
            raise ProtocolError(f"more than {MAX_HEADS} heads")
        head = read_response(headers, ends=ends, method=self._method, limits=self._limits)
        if self.key and 200 <= head.status < 300:
            head = switched(head, self.key)
            self.has_head = True
        self.has_head |= head.status >= 200
        self.has_ended = ends
        self._heads.append(head)
        self.reads += 1

    def feed(self, data: bytes, size: int) -> None:
        """Take in DATA that covered `size` bytes of window, padding included.

        Raises:
            ProtocolError: it comes before the response's head.
        """
        if not self.has_head:
            raise ProtocolError("a body before its head")
        self.window.owed += size
        self.received = self.received + data if self.received else data
        self.reads += 1

    def end(self, trailers: Fields) -> None:
        """Note the end of the response.

        Raises:
            ProtocolError: malformed trailers.
        """
        if not self.has_head:
            raise ProtocolError("an end before the head")
        fields = read_trailers(trailers)
        if trailers:
            self._trailers_in = [f for f in fields if f[0] not in FORBIDDEN_TRAILERS]
        self.has_ended = True
        self.reads += 1

    def lose(self, error: Exception | None) -> None:
        """See `StreamSide`; what is left of a message that was cut off is of no use."""
        if error is not None and not self.has_ended:
            self.received = b""
        super().lose(error)

    # --- to the exchange --------------------------------------------------------------------

    def start(
        self, head: RequestHead, block: bytes, more: bytes, *, has_body: bool, upgrades: bool
    ) -> bytes:
        """See `NextHop`."""
        self._method = head.method
        self.key = key_of(head) if upgrades else b""
        fields = [*self.link.fields_of(block), *split_lines(more)]
        if _takes_trailers(head.meta.fields):
            fields.append((b"te", b"trailers"))
        headers = request_headers(head.method, self.link.scheme, head.target, fields)
        if self.key:
            headers = connect_headers(headers)
        self.is_ready = self.is_sent = not has_body and not self.key
        self.link.begin(self, headers, ends=self.is_ready)
        return b""

    def take_head(self) -> ResponseHead | None:
        """See `NextHop`."""
        if self._heads:
            return self._heads.popleft()
        if isinstance(self.error, UpstreamError):
            raise self.error
        if self.has_ended:
            raise UpstreamError("stream ended before a response", kind=Kind.RESET)
        return None

    def body_decoder(self, response: ResponseHead, method: bytes, limits: Limits) -> BodyDecoder:
        """See `NextHop`."""
        if response.meta.content_length is None and not is_bodiless(method, response.status):
            return _StreamDecoder(self)
        return response_decoder(response, method, limits)

    def take(self) -> bytes:
        """See `Channel`."""
        data, self.received = self.received, b""
        self.link.acknowledge(self)
        return data

    def write(self, data: bytes) -> None:
        """See `Channel`."""
        if data and not self.is_lost and not self.is_ready:
            self._queue(data)
            self.link.send_soon(self)

    def write_body(self, payload: bytes, trailers: Fields | None) -> None:
        """See `Channel`."""
        if self.is_lost or self.is_ready:
            return
        if payload:
            self._queue(payload)
        if trailers is not None:
            self.trailers = [(name.lower(), value.strip(b" \t")) for name, value in trailers]
            self.is_ready = True
        self.link.send_soon(self)

    def end_writing(self) -> None:
        """See `Channel`."""
        self.write_body(b"", [])

    def flush(self) -> None:
        """See `Channel`."""
        self.link.send_now()

    @property
    def is_clean(self) -> bool:
        """See `NextHop`."""
        return not self.received and not self.is_lost

    def close(self) -> None:
        """See `Channel`."""
        self.link.finish(self)

    def abort(self) -> None:
        """See `Channel`."""
        self.link.finish(self)

    def late_trailers(self) -> Fields:
        """Return the trailers that came with the end of the response."""
        return self._trailers_in


class _StreamDecoder:
    """A response body that ends with its stream."""

    __slots__ = ("_stream", "is_complete", "leftover", "trailers")

    def __init__(self, stream: UpstreamStream) -> None:
        self._stream = stream
        self.is_complete = False
        self.leftover = b""
        self.trailers: Fields = []

    def decode(self, data: bytes) -> bytes:
        """See `BodyDecoder`."""
        return data

    def finish(self) -> None:
        """See `BodyDecoder`."""
        self.is_complete = True
        self.trailers = self._stream.late_trailers()


def _takes_trailers(fields: Fields) -> bool:
    return any(name.lower() == b"te" and b"trailers" in split_list(value) for name, value in fields)
