"""One HTTP/2 stream as an exchange sees it: a client channel that happens to share a connection.

The exchange reads and writes HTTP/1.1, whoever the client is, so there is one request path to get
right. A stream turns arriving DATA into the body framing that the request's head promised, and
what the exchange writes back into HEADERS and DATA; the connection sends them as windows allow.
"""

from __future__ import annotations

from onetrip.errors import LimitError
from onetrip.proxy.carrier import Carrier, StreamSide, Window
from onetrip.proxy.downstream import ClientChannel
from onetrip.proxy.headers import Client
from onetrip.proxy.services import Services
from onetrip.wire.http1 import Fields
from onetrip.wire.http1_body import (
    BodyDecoder,
    CloseDecoder,
    chunk_start,
    last_chunk,
    response_decoder,
)
from onetrip.wire.http1_head import HeadReader, RequestHead, ResponseHead
from onetrip.wire.http2 import Code, response_headers
from onetrip.wire.http2_websocket import connect_answer, proves


class Stream(StreamSide, ClientChannel):
    """One request and its response.

    Attributes:
        has_request: the client has sent its whole request.
        key: the nonce in the handshake that stands for its extended CONNECT, b"" for a request.
        is_tunnel: that was accepted; bytes pass as they are.
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
        "has_request",
        "id",
        "is_ready",
        "is_sent",
        "is_tunnel",
        "key",
        "trailers",
        "window",
    )

    def __init__(
        self,
        id: int,
        carrier: Carrier[Stream],
        window: int,
        services: Services,
        client: Client,
    ) -> None:
        super().__init__(services.settings.buffer_size, services.outbox)
        self.id = id
        self.client = client
        self.has_request = self.is_tunnel = False
        self.key = b""
        self.is_sent = self.is_ready = False
        self.trailers = []
        self.window = Window(window)
        self._carrier = carrier
        self._services = services
        self._reader = HeadReader(services.settings.limits)
        self._decoder: BodyDecoder | None = None
        self._is_chunked = False
        self._method = b"GET"
        self._out = bytearray()
        self._partial = b""  # of a response head

    def begin(self, head: RequestHead) -> None:
        """Note the request whose body follows."""
        self._method = head.method
        self._is_chunked = head.meta.is_chunked

    # --- from the client --------------------------------------------------------------------

    def feed(self, data: bytes, size: int) -> None:
        """Take in DATA that covered `size` bytes of window, padding included."""
        self.window.owed += size
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
        self.has_ended |= bool(self.key)
        self.reads += 1
        self.wakes.wake()

    def take(self) -> bytes:
        """See `Channel`."""
        data, self.received = self.received, b""
        self.release()
        return data

    def release(self) -> None:
        """Acknowledge all that has arrived."""
        self._carrier.acknowledge(self)

    # --- to the client ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See `Channel`: here HTTP/1.1 of our own making becomes frames."""
        while data and not self.is_lost and not self.is_ready:
            data = self._write_head(data) if self._decoder is None else self._write_body(data)

    def end_writing(self) -> None:
        """See `Channel`: a response ends by itself, a tunnel does not."""
        if self.is_tunnel and not self.is_lost:
            self.is_ready = True
            self._carrier.send_soon(self)

    def takes(self, head: ResponseHead) -> bool:
        """See `Channel`: a 200 that switches nothing would pass for a tunnel."""
        if head.status == 101:
            return not self.key or proves(head, self.key)
        return not self.key or head.status >= 300

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
        if self.key and not self.takes(head):
            self.abort()
            return b""
        if self.key and head.status == 101:
            self.is_tunnel = True
            self._decoder = CloseDecoder()
            self._carrier.send_head(self, response_headers(connect_answer(head)), ends=False)
            return data
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
            self._queue(decoder.decode(data))
        except LimitError:  # trailers: their parts were within bounds one by one upstream
            self.abort()
            return b""
        if decoder.is_complete:
            self.is_ready = True
            self.trailers = [(n.lower(), v.strip(b" \t")) for n, v in decoder.trailers]
        self._carrier.send_soon(self)
        return b""
