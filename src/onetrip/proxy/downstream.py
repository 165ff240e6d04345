"""The client's side: one connection, one task that answers its requests in order.

Timeouts are deadlines on the connection, looked at by one sweep of the listener: a timer per wait
would cost more than the rest of the wait. So a deadline is kept within one sweep interval.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from onetrip.errors import DownstreamError, Kind, OnetripError, ProtocolError
from onetrip.net.tls import peer_regions
from onetrip.proxy.channel import Channel, Outbox, Waker
from onetrip.proxy.exchange import Exchange
from onetrip.proxy.headers import Client, Prepared
from onetrip.proxy.ledger import Record
from onetrip.proxy.replies import error_reply, status_of
from onetrip.proxy.settings import Network
from onetrip.wire.http1_head import HeadReader, RequestHead

if TYPE_CHECKING:
    import asyncio

    from onetrip.proxy.services import Services

NEVER = float("inf")


class ClientChannel(Channel):
    """The client's side of one exchange: a connection, or one stream of one.

    Attributes:
        deadline: monotonic instant at which the sweep calls `expire`.
        client: who it is.
        wakes: what its task sleeps on, for both sides of an exchange.
        memo: the last request's fields as forwarded; clients mostly repeat them.
    """

    __slots__ = ("_is_late", "client", "deadline", "memo", "wakes")

    client: Client

    def __init__(self, buffer_size: int, outbox: Outbox) -> None:
        self.wakes = Waker()
        super().__init__(buffer_size, self.wakes, outbox)
        self._is_late = False
        self.deadline = NEVER
        self.memo: Prepared | None = None

    def expire(self) -> None:
        """End the wait in progress because its deadline has passed."""
        self.deadline = NEVER
        self._is_late = True
        self.wakes.wake()

    async def wait_until(self, deadline: float) -> bool:
        """Sleep until something happened on either channel; False once `deadline` has passed."""
        future = self.wakes.next()
        if future is not None:
            self.deadline = deadline
            await future
            self.deadline = NEVER
        if self._is_late:
            self._is_late = False
            return False
        return True


class Downstream(ClientChannel):
    """A client connection that speaks HTTP/1.

    Args:
        on_open: called once connected; starts the task that runs `serve`.
        on_closed: called when the connection is gone.
        address: of the client, where a trusted proxy told it; by default the connection's.
        is_for_nodes: it came in by the listener for peers, where only they are served.

    Attributes:
        is_idle: between two requests, with nothing received: may be closed any time.
    """

    __slots__ = (
        "_address",
        "_is_for_nodes",
        "_is_served",
        "_on_closed",
        "_on_open",
        "_reader",
        "_requests",
        "_services",
        "is_idle",
    )

    def __init__(
        self,
        services: Services,
        on_open: Callable[[Downstream], None],
        on_closed: Callable[[Downstream], None],
        address: str | None = None,
        *,
        is_for_nodes: bool = False,
    ) -> None:
        super().__init__(services.settings.buffer_size, services.outbox)
        self._services = services
        self._on_open = on_open
        self._on_closed = on_closed
        self._reader = HeadReader(services.settings.limits)
        self._address = address
        self._is_for_nodes = is_for_nodes
        self._requests = 0
        self._is_served = False
        self.is_idle = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.client = client_of(
            transport, self._services, self._address, is_for_nodes=self._is_for_nodes
        )
        self._on_open(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._on_closed(self)

    def expire(self) -> None:
        """End the wait in progress, or the connection, because its deadline has passed."""
        super().expire()
        if self._is_served:
            self.abort()

    def start_draining(self) -> None:
        """End between two requests rather than wait for another one."""
        if self.is_idle:
            self.wakes.wake()

    async def serve(self) -> None:
        """Answer requests until the connection is to be closed, then close it."""
        try:
            while await self._serve_one():
                pass
            await self._linger()
        finally:
            # A client that does not read must not hold the last bytes, and so us, for ever.
            self._is_served = True
            self.deadline = self._services.clock.now() + self._services.settings.write_timeout
            self.close()

    async def _serve_one(self) -> bool:
        """Answer one request; True when another may follow."""
        services = self._services
        try:
            if self.is_write_paused and not await self._let_client_read():
                return False
            head = await self._read_head()
        except OnetripError as error:
            self._refuse(error)
            return False
        if head is None:
            return False
        self._requests += 1
        is_last = self._requests >= services.settings.max_requests
        return await Exchange(self, head, services, is_last).run()

    async def _read_head(self) -> RequestHead | None:
        """Return the next request, or None when there will be none.

        Raises:
            DownstreamError: malformed, over a limit, or too slow.
        """
        settings = self._services.settings
        deadline = 0.0
        while True:
            if self.received:
                head = self._parse_head()
                if head is not None:
                    return head
            if self.has_ended or (self._services.is_draining and not self.received):
                return None
            if self.received or not self._requests:
                # Slow heads are bounded from the first byte; a first request from the connect.
                if not deadline:
                    deadline = self._services.clock.now() + settings.header_timeout
                self.is_idle = not self.received
                in_time = await self.wait_until(deadline)
            else:
                self.is_idle = True
                in_time = await self.wait_until(self._services.swept_at + settings.idle_timeout)
            self.is_idle = False
            if not in_time:
                if not self.received:
                    return None
                raise DownstreamError(
                    f"request head exceeds {settings.header_timeout:g} s", kind=Kind.TIMEOUT
                )

    async def _let_client_read(self) -> bool:
        """Wait until earlier responses have left; False if the client does not take them."""
        deadline = self._services.clock.now() + self._services.settings.write_timeout
        while self.is_write_paused and not self.is_lost:
            if not await self.wait_until(deadline):
                self.abort()
                return False
        return not self.is_lost

    def _parse_head(self) -> RequestHead | None:
        received = self.received
        try:
            end = self._reader.find_end(received)
            if end < 0:
                return None
            self.take()
            self.received = received[end:] if end < len(received) else b""
            return self._reader.request(received[:end])
        except ProtocolError as error:
            raise DownstreamError(str(error), kind=error.kind) from error

    def _refuse(self, error: OnetripError) -> None:
        """Answer a request that could not be read; its connection cannot be used again."""
        services = self._services
        record = Record(services.clock.now(), self.client.address, status=status_of(error))
        record.error = error
        self.write(error_reply(error, b"", keep_alive=False))
        services.ledger.close(record, services.routing.settle)

    async def _linger(self) -> None:
        """Let the client read our last reply before the close.

        Closing with unread bytes in the socket sends RST, which can destroy a reply that is still
        on its way (RFC 9112 section 9.6).
        """
        if self.has_ended:
            return
        self.end_writing()
        deadline = self._services.clock.now() + self._services.settings.linger_timeout
        while not self.has_ended:
            self.take()
            if not await self.wait_until(deadline):
                return


def client_of(
    transport: asyncio.BaseTransport,
    services: Services,
    address: str | None,
    *,
    is_for_nodes: bool = False,
) -> Client:
    """Return who a new connection is from; see `Downstream` for the arguments."""
    if address is None:
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else "unknown"
    is_trusted = is_within(address, services.settings.trusted_proxies)
    tls = transport.get_extra_info("ssl_object")
    if is_for_nodes:
        return Client(address, is_trusted, b"https", regions=peer_regions(tls))
    if tls is None:
        return Client(address, is_trusted)
    return Client(address, is_trusted, b"https", tls.context.certificate.names)


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Tell whether an IP address belongs to one of `networks`."""
    if not networks:
        return False
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(ip in network for network in networks)
