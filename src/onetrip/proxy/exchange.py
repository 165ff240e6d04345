"""The whole life of one request: admit, match, forward, relay, then book it once.

Each phase either moves on or raises a typed error, and `_fail` turns that into a reply through the
one table in `replies`; once response bytes have gone out there is no reply left to give, so the
connection is reset and the client sees that the message was cut off.

Nothing here waits on one channel alone: every wait ends when either side has news.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from onetrip.errors import (
    DownstreamError,
    Kind,
    OnetripError,
    ProtocolError,
    UpstreamError,
)
from onetrip.proxy.channel import JOIN_SIZE
from onetrip.proxy.dispatch import Dispatch
from onetrip.proxy.headers import (
    MAX_HOPS,
    Prepared,
    check_length,
    find_all,
    host_of,
    https_url,
    is_https,
    prepare,
    response_block,
)
from onetrip.proxy.hop import HOP_HEADER, REFUSED_HEADER, Hop, doubt_peer
from onetrip.proxy.ledger import Record
from onetrip.proxy.relay import Pump, join
from onetrip.proxy.replies import error_reply, reason_of, redirect_reply, status_of
from onetrip.proxy.retry import is_refusal
from onetrip.wire.http1_body import is_bodiless, response_decoder
from onetrip.wire.trace_context import new_trace_id

if TYPE_CHECKING:
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.proxy.upstream import Upstream
    from onetrip.wire.http1_head import RequestHead, ResponseHead

PING_TARGET = b"/.well-known/onetrip/ping"
"""Answered by the node itself, without routes: what peers measure."""

_REFUSED = REFUSED_HEADER + b": not-ready\r\n"


class Exchange:
    """One request and its response through this node.

    Args:
        is_last: close the client's connection afterwards.
    """

    __slots__ = (
        "_dispatch",
        "_down",
        "_head",
        "_hop",
        "_is_answered",
        "_is_last",
        "_keep",
        "_prepared",
        "_services",
        "record",
    )

    def __init__(
        self, downstream: ClientChannel, head: RequestHead, services: Services, is_last: bool
    ) -> None:
        self._down = downstream
        self._head = head
        self._services = services
        self._is_last = is_last
        self._keep = False
        self._is_answered = False  # bytes of the final response have been written
        self._hop: Hop | None = None
        self._dispatch: Dispatch | None = None
        self.record = Record(services.clock.now(), downstream.client.address)

    async def run(self) -> bool:
        """Carry the exchange out; True when the connection may carry another request."""
        if self._head.target == PING_TARGET:
            return self._pong()
        try:
            dispatch = self._admit()
            match = self._match()
            if self._redirect():
                return self._keep
            if match.asks_edge and await self._answer_here(match):
                return self._keep
            response = await dispatch.forward(match)
            if response.status == 101:
                await self._tunnel(dispatch, response)
            else:
                await self._relay(dispatch, response)
        except OnetripError as error:
            self._fail(error)
        except Exception as error:
            # A bug of ours costs this request, never the node.
            # Only where and what kind: its text could hold what a client sent.
            at = traceback.extract_tb(error.__traceback__)[-1]
            self._services.log.error(
                "proxy.exchange_failed", error=type(error).__name__, at=f"{at.name}:{at.lineno}"
            )
            self._fail(OnetripError("internal error"))
        finally:
            self._finish()
        return self._keep

    def _admit(self) -> Dispatch:
        """Learn from the fields how the request came here, and check that it may come in."""
        head, record, services = self._head, self.record, self._services
        record.method, record.target, record.host = head.method, head.target, head.authority
        self._prepared = prepared = self._prepare()
        record.request_id = prepared.request_id or b"%024x" % services.rng.getrandbits(96)
        trace = prepared.trace
        record.trace_id = trace.trace_id if trace else new_trace_id(services.rng.getrandbits(128))
        record.edge = services.region if self._hop is None else self._hop.edge
        record.from_peer = prepared.from_peer
        self._dispatch = Dispatch(self._down, head, prepared, self._hop, record, services)
        if prepared.hops >= MAX_HOPS:
            raise DownstreamError(
                f"request passed {prepared.hops} nodes, limit is {MAX_HOPS}", kind=Kind.LOOP
            )
        check_length(head, services.settings.body_limit)
        return self._dispatch

    def _match(self) -> Match:
        head = self._head
        match = self._services.routing.match(head.method, head.authority, head.target)
        if match is None:
            raise DownstreamError("no project serves this host and path", kind=Kind.NO_ROUTE)
        self.record.match = match
        return match

    def _redirect(self) -> bool:
        """Send a client that came in clear to the TLS listener, if that is wanted; True then."""
        head, port = self._head, self._services.https_port
        if port is None or self._hop is not None or is_https(head.meta.fields, self._down.client):
            return False
        self._keep = self._may_keep()
        self.record.status = 308
        self._down.write(redirect_reply(https_url(head, port), keep_alive=self._keep))
        return True

    async def _answer_here(self, match: Match) -> bool:
        """Let the edge answer without an instance, if it can; True then."""
        edge = self._services.edge
        if edge is None or self._hop is not None or self._prepared.upgrades:
            return False  # what a peer forwards, its edge has looked at already
        return await edge.answer(self._down, self._head, match, self.record, self._begin_here)

    def _begin_here(self, status: int, block: bytes) -> bytes:
        """Return the head of a response made here; `block` tells its length."""
        record = self.record
        record.status, record.first_byte_at = status, self._services.clock.now()
        self._keep, self._is_answered = self._may_keep(), True
        ends = self._connection_line() + self._placement_line()
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason_of(status), block, ends)

    async def _relay(self, dispatch: Dispatch, response: ResponseHead) -> None:
        """Relay the final response, and what is left of the request beside it."""
        down, up = self._down, dispatch.up
        assert up is not None
        start, is_chunked = self._response_start(up, response)
        self.record.server_timing = response.meta.server_timing
        self._is_answered = True
        size, method = response.meta.content_length, self._head.method
        is_whole = size is not None and size == len(up.received) and size <= JOIN_SIZE
        if is_whole and not is_bodiless(method, response.status):
            # Most responses are small and arrive whole; they need no pump.
            down.write(start + up.take())
            self.record.bytes_out = size or 0
        else:
            limits = self._services.settings.limits
            decoder = response_decoder(response, method, limits)
            dispatch.response = Pump(up, decoder, is_chunked)
            await self._pump(dispatch, dispatch.response, start)
        dispatch.release(response)

    async def _pump(self, dispatch: Dispatch, pump: Pump, start: bytes) -> None:
        down = self._down
        try:
            pump.move(down, start)
            while not pump.is_done:
                if down.is_lost:
                    raise DownstreamError("client closed the connection", kind=Kind.RESET)
                if not dispatch.is_request_done:
                    dispatch.move_request()
                await dispatch.wait()
                pump.move(down)
        except ProtocolError as error:
            raise UpstreamError(f"response: {error}", kind=error.kind) from error

    async def _tunnel(self, dispatch: Dispatch, response: ResponseHead) -> None:
        """Join both connections after 101 until they end (RFC 9110 section 7.8)."""
        down, up, clock = self._down, dispatch.up, self._services.clock
        assert up is not None
        self.record.is_upgrade = self._is_answered = True
        down.write(
            b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\n%b\r\n"
            % (
                response.reason,
                response_block(response.meta, response.minor, keep_length=False),
                response.meta.upgrade,
                self._placement_line(),
            )
        )
        tunnel = await join(down, up, clock, self._services.settings.tunnel_timeout)
        self.record.bytes_in, self.record.bytes_out = tunnel.sizes
        dispatch.drop(resets=not tunnel.is_done)

    def _pong(self) -> bool:
        self._keep = self._may_keep() and not self._head.has_body
        self._down.write(b"HTTP/1.1 204 No Content\r\n%b\r\n" % self._connection_line())
        return self._keep

    def _prepare(self) -> Prepared:
        head, memo = self._head, self._down.memo
        if memo is not None and memo.meta is head.meta:
            marks = memo.hop_values
        else:
            marks, memo = find_all(head.meta.fields, HOP_HEADER), None
        if len(marks) == 1:
            self._hop = self._services.hops.verify(marks[0])
        self._check_peer()
        from_peer = self._hop is not None
        if (
            memo is None
            or memo.authority != head.authority
            or memo.minor != head.minor
            or memo.from_peer is not from_peer
        ):
            names = self._down.client.names
            if names is not None and not from_peer and not names.cover(host_of(head.authority)):
                raise DownstreamError(
                    "the certificate of this connection is not for this host",
                    kind=Kind.MISDIRECTED,
                )
            memo = prepare(head, self._down.client, marks, from_peer=from_peer)
            self._down.memo = memo
        return memo

    def _check_peer(self) -> None:
        """Take a hop mark only where peers prove who they are, once they have to."""
        services, client = self._services, self._down.client
        if client.regions is None and (self._hop is None or not services.has_node_listener):
            return
        doubt = doubt_peer(self._hop, client.regions)
        if doubt is not None:
            services.on_peer_refused(client.address, *doubt)
            raise DownstreamError(doubt[1], kind=Kind.DENIED)

    def _response_start(self, up: Upstream, response: ResponseHead) -> tuple[bytes, bool]:
        """Return the response head for the client, and whether its body will be chunked."""
        head, meta, status = self._head, response.meta, response.status
        has_length = meta.content_length is not None
        is_open = not has_length and not is_bodiless(head.method, status)
        is_chunked = is_open and head.minor == 1
        self._keep = self._may_keep() and (is_chunked or not is_open)
        memo = up.memo
        if memo is None or memo[1] is not meta or memo[0] != status:
            block = response_block(meta, response.minor, keep_length=status != 204)
            memo = up.memo = (status, meta, block)
        start = b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (
            status,
            response.reason or reason_of(status),
            memo[2],
            b"Transfer-Encoding: chunked\r\n" if is_chunked else b"",
            self._connection_line(),
            self._placement_line(),
        )
        return start, is_chunked

    def _may_keep(self) -> bool:
        """Tell whether the client's connection can be used again, as far as is known now.

        While part of the request is unread it cannot: the client may stop sending it, and what
        comes next could then be read as the wrong thing.
        """
        return (
            not self._is_last
            and self._head.keeps_alive
            and not self._services.is_draining
            and (self._dispatch is None or self._dispatch.is_request_done)
        )

    def _connection_line(self) -> bytes:
        if not self._keep:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self._head.minor == 0 else b""

    def _placement_line(self) -> bytes:
        if self._hop is not None:
            return b""  # the edge tells
        region = self.record.region
        if region is None:
            region = self._services.region  # answered here, without an instance
        where = "local" if region == self._services.region else "remote"
        return f"onetrip-placement: {where}-{region}\r\n".encode()

    def _fail(self, error: OnetripError) -> None:
        down, record = self._down, self.record
        record.error = error
        if self._is_answered or down.is_lost:
            self._keep = False
            down.abort()
            return
        extra = b""
        if self._hop is not None and (is_refusal(error) or error.kind is Kind.DENIED):
            error = UpstreamError(str(error), kind=Kind.UNAVAILABLE)
            extra = _REFUSED
        self._keep = self._may_keep() and error.kind is not Kind.TIMEOUT
        record.status = status_of(error)
        down.write(
            error_reply(
                error,
                record.request_id,
                keep_alive=self._keep,
                has_body=self._head.method != b"HEAD",
                extra=extra,
            )
        )

    def _finish(self) -> None:
        record, dispatch = self.record, self._dispatch
        if dispatch is not None:
            if dispatch.request is not None:
                record.bytes_in += dispatch.request.size
            if dispatch.response is not None:
                record.bytes_out = dispatch.response.size
            dispatch.drop()
        self._services.ledger.close(record, self._services.routing.settle)
