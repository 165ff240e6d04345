"""One HTTP/2 stream as an exchange sees it: a client channel that happens to share a connection.

The exchange reads and writes HTTP/1.1, whoever the client is, so there is one request path to get
right. A stream turns arriving DATA into the body framing that the request's head promised, and
what the exchange writes back into HEADERS and DATA; the connection sends them as windows allow.

Backpressure: arrived bytes are acknowledged (which opens the client's window again) when they are
taken, and writing counts as paused while more than a buffer waits to be sent.
"""

from __future__ import annotations

from typing import Protocol

from onetrip.errors import LimitError
from onetrip.proxy.downstream import ClientChannel
from onetrip.proxy.headers import Client
from onetrip.proxy.services import Services
from onetrip.wire.http1 import Fields
from onetrip.wire.http1_body import BodyDecoder, chunk_start, last_chunk, response_decoder
from onetrip.wire.http1_head import HeadReader, RequestHead
from onetrip.wire.http2 import Code, response_headers


class Carrier(Protocol):
    """The connection that streams share."""

    def send_head(self, stream: Stream, headers: Fields, *, ends: bool) -> None:
        """Send a header list; `ends` closes our side of the stream."""

    def send_soon(self, stream: Stream) -> None:
        """Send what the stream has to send, at the end of the loop's round."""

    def acknowledge(self, stream: Stream, size: int) -> None:
        """Give `size` bytes of window back to the client."""

    def reset(self, stream: Stream, code: Code) -> None:
        """End the stream with an error."""


class Stream(ClientChannel):
    """One request and its response.

    Attributes:
        id: its number on the connection.
        has_request: the client has sent its whole request.
        is_sent: the whole response has been handed to the connection.
        trailers: of the response, to be sent after its body.
        is_ready: the response is complete here, its end still to be sent.
    """

    __slots__ = (
        "_carrier",
        "_decoder",
        "_is_chunked",
        "_method",
        "_out",
        "_partial",
        "_reader",
        "_services",
        "_unacknowledged",
        "has_request",
        "id",
        "is_ready",
        "is_sent",
        "trailers",
    )

    def __init__(self, id: int, carrier: Carrier, services: Services, client: Client) -> None:
        super().__init__(services.settings.buffer_size, services.outbox)
        self.id = id
        self.client = client
        self.has_request = False
        self.is_sent = self.is_ready = False
        self.trailers: Fields = []
        self._carrier = carrier
        self._services = services
        self._reader = HeadReader(services.settings.limits)
        self._decoder: BodyDecoder | None = None
        self._is_chunked = False
        self._method = b"GET"
        self._out = bytearray()
        self._partial = b""  # of a response head
        self._unacknowledged = 0

    def begin(self, head: RequestHead) -> None:
        """Note the request whose body follows."""
        self._method = head.method
        self._is_chunked = head.meta.is_chunked

    # --- from the client --------------------------------------------------------------------

    def feed(self, data: bytes, size: int) -> None:
        """Take in DATA that covered `size` bytes of window, padding included."""
        self._unacknowledged += size
        if data and self._is_chunked:
            data = chunk_start(len(data)) + data + b"\r\n"
        if data:
            self.received += data
        self.reads += 1
        self.wakes.wake()

    def end_request(self, trailers: Fields) -> None:
        """Note the end of the client's side."""
        if self._is_chunked and not self.has_request:
            self.received += last_chunk(trailers)
        self.has_request = True
        self.reads += 1
        self.wakes.wake()

    def lose(self, error: Exception | None) -> None:
        """Note that the client or the connection ended the stream."""
        self.is_lost = self.has_ended = True
        self.error = error
        self._out.clear()
        self.wakes.wake()

    def take(self) -> bytes:
        """See `Channel`."""
        data, self.received = self.received, b""
        self.release()
        return data

    def release(self) -> None:
        """Acknowledge all that has arrived."""
        size, self._unacknowledged = self._unacknowledged, 0
        if size:
            self._carrier.acknowledge(self, size)

    # --- to the client ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See `Channel`: here HTTP/1.1 of our own making becomes frames."""
        while data and not self.is_lost and not self.is_ready:
            data = self._write_head(data) if self._decoder is None else self._write_body(data)

    def next_data(self, room: int) -> bytes:
        """Return at most `room` bytes to send now."""
        data = bytes(self._out[:room])
        del self._out[:room]
        if self.is_write_paused and 2 * len(self._out) <= self._buffer_size:
            self.is_write_paused = False
            self.wakes.wake()
        return data

    @property
    def unsent(self) -> int:
        """See `Channel`."""
        return len(self._out)

    def flush(self) -> None:
        """See `Channel`: the connection sends by itself."""

    def end_writing(self) -> None:
        """See `Channel`: a response ends by itself."""

    def close(self) -> None:
        """See `Channel`: a stream ends with its response."""

    def abort(self) -> None:
        """See `Channel`: reset the stream, so that the client cannot take it for complete."""
        if not self.is_lost:
            self._carrier.reset(self, Code.INTERNAL_ERROR)
            self.lose(None)

    async def finish(self) -> None:
        """Wait until the response has left; reset a client that does not take it."""
        clock, timeout = self._services.clock, self._services.settings.write_timeout
        while self.is_ready and not self.is_sent and not self.is_lost:
            waiting = len(self._out)
            in_time = await self.wait_until(clock.now() + timeout)
            if not in_time and len(self._out) == waiting:
                self._carrier.reset(self, Code.CANCEL)
                self.lose(None)
        self.release()

    def _write_head(self, data: bytes) -> bytes:
        self._partial += data
        end = self._reader.find_end(self._partial, is_request=False)
        if end < 0:
            return b""
        data, self._partial = self._partial[end:], self._partial[:end]
        head = self._reader.response(self._partial)
        self._partial = b""
        if head.status < 200:
            self._carrier.send_head(self, response_headers(head), ends=False)
            return data
        limits = self._services.settings.limits
        self._decoder = decoder = response_decoder(head, self._method, limits)
        self.is_ready = self.is_sent = decoder.is_complete
        self._carrier.send_head(self, response_headers(head), ends=decoder.is_complete)
        return data

    def _write_body(self, data: bytes) -> bytes:
        decoder = self._decoder
        assert decoder is not None
        try:
            self._out += decoder.decode(data)
        except LimitError:  # trailers: their parts were within bounds one by one upstream
            self.abort()
            return b""
        if decoder.is_complete:
            self.is_ready = True
            self.trailers = [(n.lower(), v.strip(b" \t")) for n, v in decoder.trailers]
        if len(self._out) > self._buffer_size:
            self.is_write_paused = True
        self._carrier.send_soon(self)
        return b""
