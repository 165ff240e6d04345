"""The upstream side of an exchange: one pooled connection that speaks HTTP/1.1 to the next hop."""

from __future__ import annotations

from collections.abc import Callable

from onetrip.errors import Kind, LimitError, ProtocolError, UpstreamError
from onetrip.proxy.channel import Channel, Outbox, Wakeable
from onetrip.proxy.settings import ProxySettings
from onetrip.wire.http1_head import HeadReader, MessageMeta, ResponseHead


class Upstream(Channel):
    """A connection to an instance or a peer; used by one exchange at a time.

    Attributes:
        is_counted: its pool counts it among the open ones.
        memo: the last response's status, fields and what was made of them for the client;
            servers often repeat them.
        uses: exchanges begun on it; more than one means it was kept from an earlier request.
        idle_since: when it went idle, monotonic s.
    """

    __slots__ = ("_on_closed", "_reader", "idle_since", "is_counted", "memo", "uses")

    def __init__(
        self, settings: ProxySettings, on_closed: Callable[[Upstream], None], outbox: Outbox
    ) -> None:
        super().__init__(settings.buffer_size, None, outbox)
        self._reader = HeadReader(settings.limits)
        self._on_closed = on_closed
        self.memo: tuple[int, MessageMeta, bytes] | None = None
        self.is_counted = False
        self.uses = 0
        self.idle_since = 0.0

    def begin(self, waker: Wakeable) -> None:
        """Start an exchange that `waker` goes on with."""
        self.waker = waker
        self.uses += 1
        self.reads = 0

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
        """Return the next response head, or None while it is incomplete.

        Raises:
            UpstreamError: kind MALFORMED, the bytes are no HTTP/1 response head; or
                HEAD_TOO_LARGE.
        """
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
