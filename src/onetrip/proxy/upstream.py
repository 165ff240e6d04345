"""The upstream side of an exchange: what it asks of its next hop, and that over HTTP/1.1."""

from __future__ import annotations

from collections.abc import Callable

from onetrip.errors import Kind, LimitError, ProtocolError, UpstreamError
from onetrip.proxy.channel import Channel, Outbox, Wakeable
from onetrip.proxy.settings import ProxySettings
from onetrip.wire.http1 import Limits
from onetrip.wire.http1_body import BodyDecoder, response_decoder
from onetrip.wire.http1_head import HeadReader, MessageMeta, RequestHead, ResponseHead


class NextHop(Channel):
    """A way to an instance or a peer, used by one exchange at a time: a connection or a stream.

    Attributes:
        memo: the last response's status, fields and what was made of them for the client;
            servers often repeat them.
        uses: exchanges begun on its connection; more than one means it was kept from an earlier
            request.
    """

    __slots__ = ("memo", "uses")

    def __init__(self, buffer_size: int, outbox: Outbox) -> None:
        super().__init__(buffer_size, None, outbox)
        self.memo: tuple[int, MessageMeta, bytes] | None = None
        self.uses = 0

    def begin(self, waker: Wakeable) -> None:
        """Start an exchange that `waker` goes on with."""
        self.waker = waker
        self.uses += 1
        self.reads = 0

    def start(
        self, head: RequestHead, block: bytes, more: bytes, *, has_body: bool, upgrades: bool
    ) -> bytes:
        """Begin a request; return what is to be written before its body.

        Args:
            block: field lines as prepared for the next hop.
            more: those of this request alone.
            upgrades: the next hop is asked to switch protocols.
        """
        return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (head.method, head.target, block, more)

    def take_head(self) -> ResponseHead | None:
        """Return the next response head, or None while it is incomplete.

        Raises:
            UpstreamError: there will be none; kind MALFORMED if what came is no response head,
                HEAD_TOO_LARGE if it is too large for one.
        """
        raise NotImplementedError

    def body_decoder(self, response: ResponseHead, method: bytes, limits: Limits) -> BodyDecoder:
        """Return the decoder for the body of the response to a `method` request."""
        return response_decoder(response, method, limits)

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing is left of an exchange whose messages are complete."""
        return not self.received and not self.has_ended


class Upstream(NextHop):
    """A connection that speaks HTTP/1.1 to the next hop.

    Attributes:
        is_counted: its pool counts it among the open ones.
        idle_since: when it went idle, monotonic s.
    """

    __slots__ = ("_on_closed", "_reader", "idle_since", "is_counted")

    def __init__(
        self, settings: ProxySettings, on_closed: Callable[[Upstream], None], outbox: Outbox
    ) -> None:
        super().__init__(settings.buffer_size, outbox)
        self._reader = HeadReader(settings.limits)
        self._on_closed = on_closed
        self.is_counted = False
        self.idle_since = 0.0

    def rest(self, now: float) -> None:
        """Go idle: nobody listens, so anything that arrives ends the connection."""
        self.waker = None
        self.idle_since = now

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.waker is None:
            self.abort()
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        return super().eof_received() and self.waker is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._on_closed(self)

    def take_head(self) -> ResponseHead | None:
        """See `NextHop`."""
        received = self.received
        if not received:
            return None
        try:
            end = self._reader.find_end(received, is_request=False)
            if end < 0:
                return None
            head = self._reader.response(received[:end])
        except LimitError as error:
            raise UpstreamError(f"response: {error}", kind=error.kind) from error
        except ProtocolError as error:
            raise UpstreamError(f"response: {error}", kind=Kind.MALFORMED) from error
        self.take()
        self.received = received[end:]
        return head
