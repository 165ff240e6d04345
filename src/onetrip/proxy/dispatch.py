"""The upstream half of an exchange: send the request to a next hop and wait for its response.

An attempt may fail before the next hop can have acted on it; then the request goes to another
endpoint or region, at most a few times and within the node's retry budget. What has been read of
a small body is kept for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrip.errors import DownstreamError, Kind, ProtocolError, UpstreamError
from onetrip.place.arms import unit_hash
from onetrip.proxy.headers import Prepared, response_block
from onetrip.proxy.hop import HOP_HEADER, Hop, check_refusal
from onetrip.proxy.relay import Pump, request_pump
from onetrip.proxy.retry import IDEMPOTENT, is_repeatable
from onetrip.proxy.tracing import parent_of
from onetrip.proxy.turns import Patience, finish_by

if TYPE_CHECKING:
    from onetrip.proxy.balance import Choice
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.pool import EndpointPool
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.proxy.upstream import NextHop
    from onetrip.wire.http1_head import RequestHead, ResponseHead

MAX_INTERIM = 16
"""1xx responses relayed per request; more is an upstream gone wrong."""


class Dispatch:
    """Brings one request to a next hop.

    Attributes:
        prepared: the request's fields for the next hop.
        up: the connection in use, or None.
        request: the request's body on its way up, None when it has none.
        response: the response's body on its way down; set by whoever relays it.
    """

    __slots__ = (
        "_choice",
        "_down",
        "_failure",
        "_head",
        "_hop",
        "_interims",
        "_is_fresh",
        "_is_sent",
        "_match",
        "_patience",
        "_pool",
        "_record",
        "_services",
        "_share",
        "_tried",
        "prepared",
        "request",
        "response",
        "up",
    )

    def __init__(
        self,
        downstream: ClientChannel,
        head: RequestHead,
        prepared: Prepared,
        hop: Hop | None,
        record: Record,
        services: Services,
    ) -> None:
        self._down = downstream
        self._head = head
        self.prepared = prepared
        self._hop = hop
        self._record = record
        self._services = services
        self._is_fresh = False  # use no kept connection any more
        self._is_sent = False  # the request's head, in the present attempt
        self._choice: Choice | None = None
        self._tried: list[EndpointPool] = []
        self._failure: UpstreamError | None = None
        self._pool: EndpointPool | None = None
        self._interims = 0
        self._patience: Patience | None = None
        self.up: NextHop | None = None
        self.response: Pump | None = None
        self.request = (
            request_pump(downstream, head.meta, services.settings) if head.has_body else None
        )

    @property
    def is_request_done(self) -> bool:
        """Tell whether the whole request has been read and written."""
        return self.request is None or self.request.is_done

    @property
    def notes(self) -> bytes:
        """Field lines for whoever sent the request."""
        return b""

    def avoids_kept(self, match: Match) -> bool:
        """Tell whether a kept response could be older than what the client has written."""
        return False

    def begin(self, match: Match) -> None:
        """Note what the request was recognised as; `step` and `forward` do the rest, again too."""
        self._services.budget.note_request()
        self._match, self._choice = match, None
        self._share = unit_hash(self._record.request_id)

    def step(self) -> ResponseHead | None:
        """Go on as far as possible without a wait; the final response's head once it is there.

        Raises:
            UpstreamError: every attempt allowed has failed.
            DownstreamError: the client's side failed first.
        """
        while True:
            if self._choice is None:
                self._choose()
            try:
                return None if self.up is None else self._proceed(self.up)
            except UpstreamError as error:
                self._give_up(error)

    async def forward(self) -> ResponseHead:
        """Return the head of the final response, waiting for it; raises as `step` does."""
        while True:
            head = self.step()
            if head is not None:
                return head
            try:
                if self.up is None:
                    await self._connect()
                else:
                    await self.wait()
            except UpstreamError as error:
                self._give_up(error)

    @property
    def waits_on_next_hop(self) -> bool:
        """Tell whether the request is sent whole, and nothing but its response is missing."""
        up, down = self.up, self._down
        if up is None or up.reads or not self.is_request_done:
            return False
        return not (up.is_write_paused or down.is_write_paused or down.has_ended)

    def move_request(self, start: bytes = b"") -> None:
        """Move what has arrived of the request's body, after `start`.

        Raises:
            DownstreamError: the body breaks its framing or a limit.
        """
        pump, up = self.request, self.up
        if pump is None or up is None or (pump.is_done and not start):
            return
        try:
            pump.move(up, start)
        except ProtocolError as error:
            raise DownstreamError(f"request: {error}", kind=error.kind) from error

    async def wait(self) -> None:
        """Sleep until either side has news.

        Raises:
            DownstreamError: the client's turn lasted too long.
            UpstreamError: the next hop's turn lasted too long.
        """
        up, patience = self.up, self._patience
        assert up is not None
        if patience is None:
            # The response may have begun already; then its last bytes came just now.
            since = self._services.clock.now() if up.reads else self._record.sent_at
            patience = self._patience = Patience(self._services, since, self._record.ends_at)
        waits_for_100 = self._head.meta.expects_continue and not self._interims
        body, response, choice = self.request, self.response, self._choice
        looks = choice and choice.via_peer and not up.reads and self._head.method in IDEMPOTENT
        await patience.wait(
            self._down, up, body, response, waits_for_100=waits_for_100, looks=bool(looks)
        )
        if looks and choice and not (up.reads or up.has_ended):
            self._services.balancer.require_node(choice.region)

    def release(self, response: ResponseHead) -> None:
        """Keep the upstream connection if both messages on it ended cleanly, else close it.

        The response has been relayed whole; a reset now could only confuse its sender.
        """
        up, pool = self.up, self._pool
        assert up is not None
        assert pool is not None
        if response.status < 500:
            pool.health.note_success()
        # After an offer to switch protocols, taken or not, servers differ in what comes next.
        is_done = response.keeps_alive and self.is_request_done and not self.prepared.upgrades
        if not (is_done and up.is_clean):
            self.drop(resets=not self.is_request_done)
            return
        self.up = self._pool = None
        pool.outstanding -= 1
        pool.release(up, self._record.first_byte_at)

    def drop(self, *, resets: bool = True) -> None:
        """Close the upstream connection, if there is one; `resets` says that a message was cut."""
        up, pool = self.up, self._pool
        self.up = self._pool = None
        if pool is not None:
            pool.outstanding -= 1
            if isinstance(self._record.error, UpstreamError):  # it broke off after its head
                self._services.outliers.note_error(pool, self._record.error, was_sent=True)
        if up is None:
            return
        up.waker = None
        if not resets:
            up.flush()
        if resets or up.unsent:
            up.abort()
        else:
            up.close()

    def _choose(self) -> None:
        """Start an attempt: choose a next hop, and take a kept connection to it if there is one."""
        services, record, match = self._services, self._record, self._match
        try:
            choice = self._pick()
        except UpstreamError as error:
            if services.residency is not None:
                services.residency.refused(record, match, error)
            is_bounded = error.kind is Kind.RESIDENCY  # which says more than the first failure
            raise (error if is_bounded else self._failure or error) from self._failure
        if self._failure is not None:
            if not services.budget.take():
                raise self._failure
            services.ledger.retries.inc()
        record.region, record.arm = choice.region, choice.arm
        record.endpoint, record.is_own = choice.pool.label, choice.is_own
        record.attempts += 1
        if services.residency is not None:
            services.residency.sent(record, match, choice)
        self._choice, self._is_sent, self._patience = choice, False, None
        self._pool = pool = choice.pool
        pool.outstanding += 1
        if not self._is_fresh:
            self.up = up = pool.take_idle()
            if up is not None:
                up.begin(self._down.events)

    def _pick(self) -> Choice:
        services, match = self._services, self._match
        if self._hop is not None:
            return services.balancer.choose_own(match, self._hop.arm, self._tried)
        placement = services.snapshot.find(match.key)
        return services.balancer.choose(match, placement, self._share, self._tried)

    async def _connect(self) -> None:
        assert self._choice is not None
        connecting = self._choice.pool.connect()
        self.up = up = await finish_by(self._record.ends_at, self._services.clock, connecting)
        self._record.is_cold = up.uses == 0
        up.begin(self._down.events)

    def _proceed(self, up: NextHop) -> ResponseHead | None:
        """Send the request on the open connection; return the final response's head, if there."""
        down, choice = self._down, self._choice
        assert choice is not None
        if not self._is_sent:
            if down.is_lost:  # while we connected
                raise DownstreamError("client closed the connection", kind=Kind.RESET)
            self._is_sent = True
            self._send_head(up, choice)
        while (head := up.take_head()) is not None:
            if head.status >= 200 or head.status == 101:
                return self._accept(head, choice)
            self._relay_interim(head)
        if up.has_ended:
            raise UpstreamError("connection closed before a response", retryable=not up.reads)
        if down.is_lost:
            raise DownstreamError("client closed the connection", kind=Kind.RESET)
        if self.request is not None:
            self.move_request()
        return None

    def _send_head(self, up: NextHop, choice: Choice) -> None:
        head, services, mark = self._head, self._services, b""
        if choice.via_peer:
            variant = self._match.environment.variant if self._match.is_trial else ""
            value = services.hops.make(services.region, choice.arm, variant)
            mark = b"%b: %b\r\n" % (HOP_HEADER, value)
        prepared, record, has_body = self.prepared, self._record, self.request is not None
        parent = parent_of(record, prepared.trace, services)
        own = b"X-Request-Id: %b\r\ntraceparent: %b\r\n%b" % (record.request_id, parent, mark)
        start = up.start(head, prepared.block, own, has_body=has_body, upgrades=prepared.upgrades)
        record.sent_at = services.clock.now()
        if has_body:
            self.move_request(start)
        elif start:
            up.write(start)

    def _relay_interim(self, head: ResponseHead) -> None:
        self._interims += 1
        if self._interims > MAX_INTERIM:
            raise UpstreamError(f"more than {MAX_INTERIM} interim responses", kind=Kind.MALFORMED)
        if self._head.minor == 0:
            return  # HTTP/1.0 has no interim responses (RFC 9110 section 15.2)
        lines = response_block(head.meta, head.version, keep_length=False)
        self._down.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, lines))

    def _accept(self, head: ResponseHead, choice: Choice) -> ResponseHead:
        if head.status == 503 and choice.via_peer:
            check_refusal(head.meta, choice.region)
        upgrades = self.prepared.upgrades
        if head.status == 101 and not (upgrades and head.meta.upgrade and self.is_request_done):
            raise UpstreamError("101 to a request for no upgrade", kind=Kind.MALFORMED)
        if upgrades and not self._down.takes(head):
            raise UpstreamError("answer that completes no handshake", kind=Kind.MALFORMED)
        if head.status >= 500 or head.status == 101:
            self._services.outliers.note_status(choice.pool, head.status)
        self._record.status = head.status
        self._record.first_byte_at = self._services.clock.now()
        return head

    def _give_up(self, error: UpstreamError) -> None:
        """Clean up after a failed attempt; raise its error unless it may be repeated."""
        services, was_sent, choice = self._services, self.up is not None, self._choice
        assert choice is not None
        # A kept connection may die: nobody's failure, and a fresh one will do.
        is_stale = self.up is not None and self.up.uses > 1 and error.retryable
        self.drop()
        if error.kind is Kind.UNAVAILABLE:
            services.balancer.note_refusal(self._match, choice.region)
        if not is_stale:
            services.outliers.note_error(choice.pool, error, was_sent=was_sent)
        can_resend = self.request is None or self.request.can_rewind
        if self._record.attempts > services.settings.extra_attempts or not is_repeatable(
            error, self._head.method, was_sent, can_resend
        ):
            raise error
        if is_stale and error.kind in (Kind.RESET, Kind.LEAVING):
            self._is_fresh = True  # its neighbours in the pool are as old
        else:
            self._tried.append(choice.pool)
        if self.request is not None:
            self.request.rewind()
            self.request = request_pump(self._down, self._head.meta, services.settings)
        self._choice, self._failure = None, error
