"""The client's side: one connection, one task that answers its requests in order.

Timeouts are deadlines on the connection, looked at by one sweep of the listener: a timer per wait
would cost more than the rest of the wait. So a deadline is kept within one sweep interval.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from onetrip.errors import DownstreamError, Kind, OnetripError, ProtocolError
from onetrip.proxy.admission import client_of
from onetrip.proxy.channel import Channel, Outbox, Wakeable, Waker
from onetrip.proxy.exchange import Exchange
from onetrip.proxy.headers import Client, Prepared
from onetrip.proxy.ledger import Record
from onetrip.proxy.replies import error_reply, status_of
from onetrip.proxy.turns import LOOK_AFTER
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
        events: who is told of news on either side; by default it wakes the task.
        memo: the last request's fields as forwarded; clients mostly repeat them.
    """

    __slots__ = ("_is_late", "client", "deadline", "events", "memo", "wakes")

    client: Client
    events: Wakeable

    def __init__(self, buffer_size: int, outbox: Outbox) -> None:
        self.wakes = Waker()
        self.events = self.wakes
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
        "_exchange",
        "_fault",
        "_head_by",
        "_is_asleep",
        "_is_for_nodes",
        "_is_over",
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
        self._is_asleep = False  # the task, between two requests
        self._is_over = False  # the last exchange has been carried out
        self._exchange: Exchange | None = None  # in progress while the task sleeps
        self._fault: OnetripError | None = None  # why the next request cannot be read
        self._head_by = 0.0  # when the head in progress must be complete
        self.is_idle = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.waker = self.events = self
        self.client = client_of(
            transport, self._services, self._address, is_for_nodes=self._is_for_nodes
        )
        self._on_open(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self.waker = None
        self.events = self.wakes
        self._on_closed(self)

    def expire(self) -> None:
        """End the wait in progress, or the connection, because its deadline has passed."""
        self._is_asleep = False
        super().expire()
        if self._is_served:
            self.abort()

    def start_draining(self) -> None:
        """End between two requests rather than wait for another one."""
        if self.is_idle:
            self._is_asleep = False
            self.wakes.wake()

    def wake(self) -> None:
        """Go on at once where that takes no wait, else in the task."""
        if self._is_asleep:
            self._is_asleep = self._go_on()
        if not self._is_asleep:
            self.wakes.wake()

    async def serve(self) -> None:
        """Answer requests until the connection is to be closed, then close it."""
        try:
            while await self._serve_one():
                pass
            await self._linger()
        finally:
            if self._exchange is not None:
                self._exchange.close()
            # A client that does not read must not hold the last bytes, and so us, for ever.
            self._is_served = True
            self.deadline = self._services.clock.now() + self._services.settings.write_timeout
            self.close()

    def _go_on(self) -> bool:
        """Serve what has arrived while the task sleeps; False when the task is needed.

        Most requests are answered here, inside the callbacks that bring the bytes: to wake the
        task costs a future, a turn in the loop's queue and a switch, twice a request.
        """
        settings = self._services.settings
        while True:
            exchange = self._exchange
            if exchange is None:
                if self.has_ended or self.is_write_paused:
                    return False
                try:
                    exchange = self._exchange = self._next_exchange()
                except OnetripError as error:
                    self._fault = error
                if exchange is None:
                    return False
            if not exchange.step():
                if not exchange.waits_on_next_hop:
                    return False
                record = exchange.record
                patience = settings.read_timeout
                if not record.is_own:
                    patience = min(patience, LOOK_AFTER)
                self.deadline = min(record.sent_at + patience, record.ends_at)
                return True
            self._exchange = None
            self._is_over = not exchange.keeps
            if self._is_over or self.has_ended or self.is_write_paused:
                return False
            if not self.received:
                self.is_idle = True
                self.deadline = self._services.swept_at + settings.idle_timeout
                return True

    async def _serve_one(self) -> bool:
        """Answer one request, with waits; True when another may follow."""
        try:
            exchange = await self._receive()
        except OnetripError as error:
            self._refuse(error)
            return False
        if exchange is None:
            return False
        await exchange.run()
        return exchange.keeps

    async def _receive(self) -> Exchange | None:
        """Return the next exchange, perhaps begun already, or None when there will be none.

        Raises:
            DownstreamError: malformed, over a limit, or too slow.
        """
        services, settings = self._services, self._services.settings
        while True:
            exchange = self._take_exchange()
            if exchange is None:
                if self.is_write_paused and not await self._let_client_read():
                    return None
                exchange = self._next_exchange()
            if exchange is not None:
                return exchange
            if self.has_ended or (services.drops_idle and not self.received):
                return None
            if self.received or not self._requests:
                # Slow heads are bounded from the first byte; a first request from the connect.
                self._head_by = self._head_by or services.clock.now() + settings.header_timeout
                deadline = self._head_by
            else:
                deadline = services.swept_at + settings.idle_timeout
            self._is_asleep = self.is_idle = not self.received
            in_time = await self.wait_until(deadline)
            self._is_asleep = self.is_idle = False
            if self._fault is not None:
                raise self._fault
            if self._is_over:
                return None
            if in_time:
                continue
            if self._exchange is not None:
                self.expire()  # it waits for a response that is late
            elif not self.received:
                return None
            else:
                raise DownstreamError(
                    f"request head exceeds {settings.header_timeout:g} s", kind=Kind.TIMEOUT
                )

    def _take_exchange(self) -> Exchange | None:
        exchange, self._exchange = self._exchange, None
        return exchange

    def _next_exchange(self) -> Exchange | None:
        """Return the exchange of the next request, or None while its head is incomplete.

        Raises:
            DownstreamError: malformed or over a limit.
        """
        head = self._parse_head() if self.received else None
        if head is None:
            return None
        self.is_idle = False
        self._head_by = 0.0
        self._requests += 1
        is_last = self._requests >= self._services.settings.max_requests
        return Exchange(self, head, self._services, is_last)

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
