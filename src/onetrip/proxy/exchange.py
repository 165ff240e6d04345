"""The whole life of one request: admit, match, choose, send, relay, then book it once.

Each phase either moves on or raises a typed error, and `_fail` turns that into a reply through the
one table in `replies`; once response bytes have gone out there is no reply left to give, so the
connection is reset and the client sees that the message was cut off.

Nothing here waits on one channel alone: every wait ends when either side has news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrip.errors import (
    DownstreamError,
    Kind,
    OnetripError,
    ProtocolError,
    Side,
    UpstreamError,
)
from onetrip.place.arms import unit_hash
from onetrip.proxy.headers import MAX_HOPS, Prepared, find_all, prepare, response_block
from onetrip.proxy.hop import HOP_HEADER, REFUSED_HEADER, Hop
from onetrip.proxy.ledger import Record
from onetrip.proxy.relay import Pump, Tunnel
from onetrip.proxy.replies import error_reply, reason_of, status_of
from onetrip.proxy.retry import is_repeatable
from onetrip.wire.http1_body import is_bodiless, request_decoder, response_decoder

if TYPE_CHECKING:
    from onetrip.proxy.balance import Choice
    from onetrip.proxy.downstream import Downstream
    from onetrip.proxy.pool import EndpointPool
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.proxy.upstream import Upstream
    from onetrip.wire.http1_head import RequestHead, ResponseHead

PING_TARGET = b"/.well-known/onetrip/ping"
"""Answered by the node itself, without routes: what peers measure."""

MAX_INTERIM = 16
"""1xx responses relayed per request; more is an upstream gone wrong."""

_REFUSED = REFUSED_HEADER + b": not-ready\r\n"


class Exchange:
    """One request and its response through this node."""

    __slots__ = (
        "_choice",
        "_down",
        "_head",
        "_hop",
        "_interims",
        "_is_answered",
        "_is_fresh",
        "_is_last",
        "_keep",
        "_moved_at",
        "_pool",
        "_prepared",
        "_progress",
        "_request",
        "_response",
        "_services",
        "_share",
        "_up",
        "record",
    )

    def __init__(
        self, downstream: Downstream, head: RequestHead, services: Services, is_last: bool
    ) -> None:
        self._down = downstream
        self._head = head
        self._services = services
        self._is_last = is_last
        self._keep = False
        self._is_answered = False  # bytes of the final response have been written
        self._is_fresh = False  # use no kept connection any more
        self._hop: Hop | None = None
        self._choice: Choice | None = None
        self._pool: EndpointPool | None = None
        self._up: Upstream | None = None
        self._request: Pump | None = None
        self._response: Pump | None = None
        self._interims = 0
        self._moved_at = services.clock.now()
        self._progress: tuple[int, ...] = ()
        self._share = 0.0
        self.record = Record(self._moved_at, downstream.client.address)

    async def run(self) -> bool:
        """Carry the exchange out; True when the connection may carry another request."""
        if self._head.target == PING_TARGET:
            return self._pong()
        try:
            self._admit()
            match = self._match()
            response = await self._forward(match)
            if response.status == 101:
                await self._tunnel(response)
            else:
                await self._relay(response)
        except OnetripError as error:
            self._fail(error)
        except Exception as error:
            # A bug of ours costs this request, never the node.
            self._services.log.error("proxy.exchange_failed", error=type(error).__name__)
            self._fail(OnetripError("internal error"))
        finally:
            self._finish()
        return self._keep

    # --- phases, in order ---

    def _admit(self) -> None:
        """Learn what the fields say about the request's way here, and check its size."""
        head, record = self._head, self.record
        record.method, record.target = head.method, head.target
        record.host = head.authority
        self._prepared = prepared = self._prepare()
        record.request_id = prepared.request_id or b"%024x" % self._services.rng.getrandbits(96)
        record.edge = self._services.region if self._hop is None else self._hop.edge
        record.from_peer = prepared.from_peer
        if prepared.hops >= MAX_HOPS:
            raise DownstreamError(
                f"request passed {prepared.hops} nodes, limit is {MAX_HOPS}", kind=Kind.LOOP
            )
        self._admit_body()

    def _admit_body(self) -> None:
        head, limit = self._head, self._services.settings.body_limit
        if not head.has_body:
            if head.minor == 0 and head.meta.content_length is None and head.method in _BODY10:
                raise DownstreamError(
                    "HTTP/1.0 request with a body needs Content-Length", kind=Kind.LENGTH_REQUIRED
                )
            return
        self._request = self._request_pump()
        size = head.meta.content_length or 0
        if limit is not None and size > limit:
            raise DownstreamError(
                f"body of {size} bytes exceeds limit of {limit}", kind=Kind.BODY_TOO_LARGE
            )

    def _match(self) -> Match:
        head = self._head
        match = self._services.routing.match(head.method, head.authority, head.target)
        if match is None:
            raise DownstreamError("no project serves this host and path", kind=Kind.NO_ROUTE)
        self.record.match = match
        self._share = unit_hash(self.record.request_id)
        self._services.budget.note_request()
        return match

    async def _forward(self, match: Match) -> ResponseHead:
        """Send the request and return the head of the final response, repeating while safe."""
        tried: list[EndpointPool] = []
        failure: UpstreamError | None = None
        while True:
            try:
                self._choice = choice = self._choose(match, tried)
            except UpstreamError as error:
                raise failure or error from failure
            try:
                await self._open(choice)
                return await self._attempt(choice)
            except UpstreamError as error:
                self._give_up(choice, error, tried)
                failure = error

    async def _attempt(self, choice: Choice) -> ResponseHead:
        """Send the request on the open connection and wait for the final response's head."""
        down, up = self._down, self._up
        assert up is not None
        self._send_head(choice)
        while True:
            head = up.take_head()
            if head is not None:
                if head.status >= 200 or head.status == 101:
                    return self._accept(head, choice)
                self._relay_interim(head)
                continue
            if up.has_ended:
                raise UpstreamError(
                    "connection closed before a response",
                    retryable=up.uses > 1 and not up.reads,
                )
            if down.is_lost:
                raise DownstreamError("client closed the connection", kind=Kind.RESET)
            self._move_request()
            await self._wait()

    async def _relay(self, response: ResponseHead) -> None:
        """Relay the final response, and what is left of the request beside it."""
        head, down, up = self._head, self._down, self._up
        assert up is not None
        meta, method, status = response.meta, head.method, response.status
        decoder = response_decoder(response, method, self._services.settings.limits)
        has_length = meta.content_length is not None
        frames = not (has_length or is_bodiless(method, status))
        self._keep = self._may_keep() and (not frames or head.minor == 1)
        self._response = pump = Pump(up, decoder, frames and head.minor == 1)
        start = self._response_head(
            response,
            keep_length=has_length and (status >= 200 and status != 204),
            is_chunked=pump.is_chunked,
        )
        self._is_answered = True
        try:
            pump.move(down, start)
            while not pump.is_done:
                if down.is_lost:
                    raise DownstreamError("client closed the connection", kind=Kind.RESET)
                self._move_request()
                await self._wait()
                pump.move(down)
        except ProtocolError as error:
            raise UpstreamError(f"response: {error}", kind=error.kind) from error
        self._keep = self._keep and self._is_request_done()
        self._release(response)

    async def _tunnel(self, response: ResponseHead) -> None:
        """Join both connections after 101 until they end (RFC 9110 section 7.8)."""
        down, up, clock = self._down, self._up, self._services.clock
        assert up is not None
        self.record.is_upgrade = self._is_answered = True
        lines = response_block(response.meta, response.minor, keep_length=False)
        down.write(
            b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\n%b\r\n"
            % (response.reason, lines, response.meta.upgrade, self._placement_line())
        )
        tunnel = Tunnel(down, up)
        moved_at, sizes = clock.now(), [0, 0]
        while True:
            tunnel.move()
            if tunnel.is_done:
                break
            if sizes != tunnel.sizes:
                moved_at, sizes = clock.now(), list(tunnel.sizes)
            if not await down.wait_until(moved_at + self._services.settings.tunnel_timeout):
                break
        self.record.bytes_in, self.record.bytes_out = tunnel.sizes
        down.close()

    # --- steps of the phases ---

    def _pong(self) -> bool:
        self._keep = self._may_keep() and not self._head.has_body
        self._down.write(
            b"HTTP/1.1 204 No Content\r\n%b\r\n" % _connection_line(self._head, self._keep)
        )
        return self._keep

    def _prepare(self) -> Prepared:
        head, memo = self._head, self._down.memo
        if memo is None or memo.meta is not head.meta:
            hops = find_all(head.meta.fields, HOP_HEADER)
            memo = None
        else:
            hops = memo.hop_values
        if len(hops) == 1:
            self._hop = self._services.hops.verify(hops[0])
        from_peer = self._hop is not None
        if (
            memo is None
            or memo.authority != head.authority
            or memo.minor != head.minor
            or memo.from_peer is not from_peer
        ):
            memo = prepare(head, self._down.client, hops, from_peer=from_peer)
            self._down.memo = memo
        return memo

    def _request_pump(self) -> Pump:
        settings, meta = self._services.settings, self._head.meta
        return Pump(
            self._down,
            request_decoder(meta, settings.limits),
            meta.is_chunked,
            can_resend=True,
            limit=settings.body_limit,
        )

    def _choose(self, match: Match, tried: list[EndpointPool]) -> Choice:
        services, record = self._services, self.record
        if self._hop is not None:
            own = services.balancer.choose_own(match, self._hop.arm, tried)
            if own is None:
                raise UpstreamError(
                    f"no instance of {match.environment.id} is ready here", kind=Kind.UNAVAILABLE
                )
            choice = own
        else:
            placement = services.snapshot.find(match.key)
            choice = services.balancer.choose(match, placement, self._share, tried)
        record.region, record.arm = choice.region, choice.arm
        record.endpoint, record.is_own = choice.pool.label, choice.is_own
        return choice

    async def _open(self, choice: Choice) -> None:
        pool = choice.pool
        pool.outstanding += 1
        self._pool = pool
        self.record.attempts += 1
        up = None if self._is_fresh else pool.take_idle()
        if up is None:
            up = await pool.connect()
        self._up = up
        self.record.is_cold = up.uses == 0
        up.begin(self._down.wakes)

    def _send_head(self, choice: Choice) -> None:
        head, record, up = self._head, self.record, self._up
        assert up is not None
        mark = b""
        if choice.via_peer:
            value = self._services.hops.make(self._services.region, choice.arm)
            mark = b"%b: %b\r\n" % (HOP_HEADER, value)
        start = b"%b %b HTTP/1.1\r\n%bX-Request-Id: %b\r\n%b\r\n" % (
            head.method,
            head.target,
            self._prepared.block,
            record.request_id,
            mark,
        )
        record.sent_at = self._services.clock.now()
        if self._request is None:
            up.write(start)
        else:
            self._move_request(start)

    def _move_request(self, start: bytes = b"") -> None:
        pump, up = self._request, self._up
        if pump is None or up is None or (pump.is_done and not start):
            return
        try:
            pump.move(up, start)
        except ProtocolError as error:
            raise DownstreamError(f"request: {error}", kind=error.kind) from error

    def _relay_interim(self, head: ResponseHead) -> None:
        self._interims += 1
        if self._interims > MAX_INTERIM:
            raise UpstreamError(f"more than {MAX_INTERIM} interim responses", kind=Kind.MALFORMED)
        if self._head.minor == 0:
            return  # HTTP/1.0 has no interim responses (RFC 9110 section 15.2)
        lines = response_block(head.meta, head.minor, keep_length=False)
        self._down.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, lines))

    def _accept(self, head: ResponseHead, choice: Choice) -> ResponseHead:
        if head.status == 503 and choice.via_peer and find_all(head.meta.fields, REFUSED_HEADER):
            raise UpstreamError(
                f"region {choice.region} has no ready instance",
                kind=Kind.UNAVAILABLE,
                retryable=True,
            )
        if head.status == 101:
            offered = self._prepared.upgrades and head.meta.upgrade
            if not offered or not self._is_request_done():
                raise UpstreamError("101 to a request for no upgrade", kind=Kind.MALFORMED)
        self.record.status = head.status
        self.record.first_byte_at = self._services.clock.now()
        return head

    def _give_up(self, choice: Choice, error: UpstreamError, tried: list[EndpointPool]) -> None:
        """Drop a failed attempt; raise its error unless it may be repeated."""
        up, services, record = self._up, self._services, self.record
        was_sent = up is not None
        self._drop()
        if record.attempts > services.settings.extra_attempts or not is_repeatable(
            error, self._head.method, was_sent, self._can_resend()
        ):
            raise error
        if not services.budget.take():
            raise error
        services.ledger.retries.inc()
        if error.kind is Kind.RESET:
            self._is_fresh = True  # its neighbours in the pool are as old
        else:
            tried.append(choice.pool)
        if error.kind is Kind.UNAVAILABLE and choice.via_peer and self.record.match is not None:
            services.balancer.note_refusal(self.record.match, choice.region)
        if self._request is not None:
            self._request.rewind()
            self._request = self._request_pump()

    def _can_resend(self) -> bool:
        return self._request is None or self._request.can_rewind

    def _is_request_done(self) -> bool:
        return self._request is None or self._request.is_done

    def _may_keep(self) -> bool:
        return (
            not self._is_last
            and self._head.keeps_alive
            and not self._services.is_draining
            and self._is_request_done()
        )

    def _response_head(
        self, response: ResponseHead, *, keep_length: bool, is_chunked: bool
    ) -> bytes:
        return b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (
            response.status,
            response.reason or reason_of(response.status),
            response_block(response.meta, response.minor, keep_length=keep_length),
            b"Transfer-Encoding: chunked\r\n" if is_chunked else b"",
            _connection_line(self._head, self._keep),
            self._placement_line(),
        )

    def _placement_line(self) -> bytes:
        if self._hop is not None or self._choice is None:
            return b""
        region = self._choice.region
        where = "local" if region == self._services.region else "remote"
        return f"onetrip-placement: {where}-{region}\r\n".encode()

    # --- waiting ---

    async def _wait(self) -> None:
        """Sleep until either side has news.

        Raises:
            DownstreamError: the client's turn lasted too long.
            UpstreamError: the next hop's turn lasted too long.
        """
        now = self._services.clock.now()
        progress = self._measure_progress()
        if progress != self._progress:
            self._progress, self._moved_at = progress, now
        late = self._late()
        timeout = late[1]
        if await self._down.wait_until(self._moved_at + timeout):
            return
        if self._measure_progress() == progress:
            raise late[0]

    def _measure_progress(self) -> tuple[int, ...]:
        down, up = self._down, self._up
        assert up is not None
        return (
            up.reads,
            self._request.size if self._request is not None else 0,
            self._response.size if self._response is not None else 0,
            down.unsent if down.is_write_paused else 0,
            up.unsent if up.is_write_paused else 0,
        )

    def _late(self) -> tuple[OnetripError, float]:
        """Return whose turn it is, as the error of letting it last, and how long it may."""
        down, up, settings = self._down, self._up, self._services.settings
        assert up is not None
        if down.is_write_paused:
            return _late_client("client took no data", settings.write_timeout)
        if up.is_write_paused:
            return _late_upstream("next hop took no data", settings.read_timeout)
        request = self._request
        if request is not None and not request.is_done and self._response is None:
            waits_for_100 = self._head.meta.expects_continue and not self._interims
            if not waits_for_100 or request.size:
                return _late_client("client sent no body data", settings.body_timeout)
        if down.has_ended and self._response is None:
            gone = DownstreamError("client closed the connection", kind=Kind.RESET)
            return gone, min(settings.half_close_timeout, settings.read_timeout)
        return _late_upstream("no response data", settings.read_timeout)

    # --- the end ---

    def _fail(self, error: OnetripError) -> None:
        down, record = self._down, self.record
        record.error = error
        if self._is_answered or down.is_lost:
            self._keep = False
            down.abort()
            return
        extra = b""
        if self._hop is not None and error.side is Side.UPSTREAM and self._is_unsent(error):
            error = UpstreamError(str(error), kind=Kind.UNAVAILABLE)
            extra = _REFUSED
        self._keep = self._may_keep() and error.kind is not Kind.TIMEOUT
        record.status = status_of(error)
        has_body = self._head.method != b"HEAD"
        down.write(
            error_reply(
                error, record.request_id, keep_alive=self._keep, has_body=has_body, extra=extra
            )
        )

    def _is_unsent(self, error: OnetripError) -> bool:
        return error.kind in (Kind.UNAVAILABLE, Kind.CONNECT) or error.retryable

    def _release(self, response: ResponseHead) -> None:
        """Keep the upstream connection if both messages on it ended cleanly."""
        up, pool = self._up, self._pool
        assert up is not None
        assert pool is not None
        is_clean = (
            response.keeps_alive
            and self._is_request_done()
            and not up.received
            and not up.has_ended
        )
        if is_clean:
            pool.outstanding -= 1
            self._up = self._pool = None
            pool.release(up)

    def _drop(self) -> None:
        """Close the upstream connection, if there still is one."""
        up, pool = self._up, self._pool
        self._up = self._pool = None
        if pool is not None:
            pool.outstanding -= 1
        if up is not None:
            up.waker = None
            up.abort()

    def _finish(self) -> None:
        record = self.record
        if self._request is not None and not record.is_upgrade:
            record.bytes_in = self._request.size
        if self._response is not None:
            record.bytes_out = self._response.size
        self._drop()
        self._services.ledger.close(record, self._services.routing.settle)


_BODY10 = frozenset((b"POST", b"PUT", b"PATCH"))


def _connection_line(head: RequestHead, keep: bool) -> bytes:
    if not keep:
        return b"Connection: close\r\n"
    return b"Connection: keep-alive\r\n" if head.minor == 0 else b""


def _late_client(what: str, timeout: float) -> tuple[OnetripError, float]:
    return DownstreamError(f"{what} for {timeout:g} s", kind=Kind.TIMEOUT), timeout


def _late_upstream(what: str, timeout: float) -> tuple[OnetripError, float]:
    return UpstreamError(f"{what} for {timeout:g} s", kind=Kind.TIMEOUT), timeout
