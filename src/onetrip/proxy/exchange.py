"""The whole life of one request: admit, match, forward, relay, then book it once.

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
    UpstreamError,
)
from onetrip.proxy.admission import check_peer, find_hop, prepare_fields, split_match
from onetrip.proxy.channel import JOIN_SIZE
from onetrip.proxy.dispatch import Dispatch
from onetrip.proxy.headers import (
    check_limits,
    https_url,
    is_https,
    response_block,
    switching_head,
)
from onetrip.proxy.hop import REFUSED_HEADER, Hop
from onetrip.proxy.ledger import Record
from onetrip.proxy.relay import Pump, carry, join
from onetrip.proxy.replies import error_reply, own_failure, reason_of, redirect_reply, status_of
from onetrip.proxy.retry import is_refusal
from onetrip.proxy.tracing import begin_trace
from onetrip.proxy.visit import Visit
from onetrip.wire.http1_body import is_bodiless

if TYPE_CHECKING:
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.proxy.upstream import NextHop
    from onetrip.proxy.visit import MakePump, Tee
    from onetrip.wire.http1_head import RequestHead, ResponseHead


class Exchange:
    """One request and its response through this node.

    `step` goes as far as what has arrived allows. Most exchanges are over after two, one for the
    request and one for the response; `finish` carries the others out, by the same methods.

    Args:
        is_last: close the client's connection afterwards.

    Attributes:
        keeps: the client's connection may carry another request; final once it is over.
    """

    __slots__ = (
        "_asks_edge",
        "_dispatch",
        "_down",
        "_head",
        "_hop",
        "_is_answered",
        "_is_last",
        "_notes",
        "_response",
        "_services",
        "keeps",
        "record",
    )

    def __init__(
        self, downstream: ClientChannel, head: RequestHead, services: Services, is_last: bool
    ) -> None:
        self._down = downstream
        self._head = head
        self._services = services
        self._is_last = is_last
        self.keeps = False
        self._response: ResponseHead | None = None
        self._asks_edge = False  # the edge may answer by itself, and has not been asked
        self._is_answered = False  # bytes of the final response have been written
        self._notes = b""  # further field lines of the response
        self._hop: Hop | None = None
        self._dispatch: Dispatch | None = None
        self.record = Record(services.clock.now(), downstream.client.address)

    def step(self) -> bool:
        """Begin, or go on with what has arrived, without a wait; True when the exchange is over."""
        own = self._services.challenges.answers.get(self._head.target)
        if own is not None:
            self._answer_own(*own)
            return True
        try:
            dispatch = self._dispatch
            if not (self._begin() if dispatch is None else self._answer(dispatch)):
                return False
        except Exception as error:
            self._fail(error)
        self.close()
        return True

    async def finish(self) -> None:
        """Carry out what `step` left, with waits."""
        dispatch = self._dispatch
        assert dispatch is not None
        try:
            if self._asks_edge and await self._answer_here(dispatch):
                return
            response = self._response or await dispatch.forward()
            if response.status == 101:
                await self._tunnel(dispatch, response)
            elif not self._relay_whole(dispatch, response):
                await self._relay(dispatch, response)
        except Exception as error:
            self._fail(error)
        finally:
            self.close()

    async def run(self) -> None:
        """Carry the whole exchange out."""
        if not self.step():
            await self.finish()

    @property
    def waits_on_next_hop(self) -> bool:
        """Tell whether nothing but the next hop's response is missing."""
        return self._dispatch is not None and self._dispatch.waits_on_next_hop

    def _begin(self) -> bool:
        dispatch = self._admit()
        match = self._match()
        if self._redirect():
            return True
        self._asks_edge = match.asks_edge
        if not match.asks_edge:
            dispatch.begin(match)
        return self._answer(dispatch)

    def _answer(self, dispatch: Dispatch) -> bool:
        if self._asks_edge:
            return False
        response = self._response
        if response is None:
            self._response = response = dispatch.step()
        if response is None or response.status == 101:
            return False
        return self._relay_whole(dispatch, response)

    def _admit(self) -> Dispatch:
        """Learn from the fields how the request came here, and check that it may come in."""
        head, record, services, down = self._head, self.record, self._services, self._down
        record.method, record.target, record.host = head.method, head.target, head.authority
        self._hop, marks = find_hop(head, down, services)
        check_peer(self._hop, down, services)
        prepared = prepare_fields(head, down, marks, from_peer=self._hop is not None)
        record.request_id = prepared.request_id or b"%024x" % services.rng.getrandbits(96)
        begin_trace(record, prepared.trace, services)
        record.edge = services.region if self._hop is None else self._hop.edge
        record.from_peer = prepared.from_peer
        self._dispatch = services.make_dispatch(down, head, prepared, self._hop, record, services)
        check_limits(head, prepared.hops, services.settings.body_limit)
        return self._dispatch

    def _match(self) -> Match:
        head = self._head
        match = self._services.routing.match(head.method, head.authority, head.target)
        if match is None:
            raise DownstreamError("no project serves this host and path", kind=Kind.NO_ROUTE)
        if match.candidate is not None:
            match = split_match(match, head, self._down.client, self._hop)
            self.record.version = "candidate" if match.is_trial else "current"
        self.record.match = match
        if match.environment.request_timeout:
            self.record.ends_at = self.record.started_at + match.environment.request_timeout
        return match

    def _redirect(self) -> bool:
        """Send a client that came in clear to the TLS listener, if that is wanted; True then."""
        head, port = self._head, self._services.https_port
        if port is None or self._hop is not None or is_https(head.meta.fields, self._down.client):
            return False
        self.keeps = self._may_keep()
        self.record.status = 308
        self._down.write(redirect_reply(https_url(head, port), keep_alive=self.keeps))
        return True

    def _relay_whole(self, dispatch: Dispatch, response: ResponseHead) -> bool:
        """Relay a response that needs no pump, being small and here whole; False if it is not."""
        up, size = dispatch.up, response.meta.content_length
        assert up is not None
        if is_bodiless(self._head.method, response.status):
            body = b""
        elif size is None or size > JOIN_SIZE or size != len(up.received):
            return False
        else:
            body = up.take()
        start, _ = self._response_start(up, response)
        self._down.write(start + body)
        self.record.bytes_out = len(body)
        dispatch.release(response)
        return True

    async def _answer_here(self, dispatch: Dispatch) -> bool:
        """Let the edge answer without an instance, if it can; True then."""
        edge, match, begin = self._services.edge, self.record.match, self._begin_here
        assert match is not None
        # What a peer forwards, its edge has looked at already.
        if edge is not None and self._hop is None and not dispatch.prepared.upgrades:
            relay, record = self._relay_kept, self.record
            visit = Visit(self._down, self._head, match, record, dispatch, begin, relay)
            if await edge.answer(visit):
                return True
        self._asks_edge = False
        dispatch.begin(match)
        return False

    def _begin_here(self, status: int, block: bytes) -> bytes:
        """Return the head of a response made here; `block` tells its length."""
        record = self.record
        record.status = status
        record.first_byte_at = record.first_byte_at or self._services.clock.now()
        self.keeps, self._is_answered = self._may_keep(), True
        ends = self._connection_line() + self._placement_line()
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason_of(status), block, ends)

    async def _relay_kept(
        self, dispatch: Dispatch, response: ResponseHead, notes: bytes, tee: Tee | None
    ) -> None:
        """Relay the final response with further field lines, and its body to `tee` as well."""
        self._notes = notes
        if tee is not None or not self._relay_whole(dispatch, response):
            await self._relay(dispatch, response, Pump if tee is None else tee.pump)

    async def _relay(
        self, dispatch: Dispatch, response: ResponseHead, make_pump: MakePump = Pump
    ) -> None:
        """Relay the final response, and what is left of the request beside it."""
        up = dispatch.up
        assert up is not None
        start, is_chunked = self._response_start(up, response)
        decoder = up.body_decoder(response, self._head.method, self._services.settings.limits)
        dispatch.response = make_pump(up, decoder, is_chunked)
        await carry(dispatch, self._down, dispatch.response, start)
        dispatch.release(response)

    async def _tunnel(self, dispatch: Dispatch, response: ResponseHead) -> None:
        """Join both connections after 101 until they end (RFC 9110 section 7.8)."""
        down, up = self._down, dispatch.up
        assert up is not None
        self.record.is_upgrade = self._is_answered = True
        down.write(switching_head(response, self._placement_line()))
        tunnel = await join(down, up, self._services.clock, self._services.settings.tunnel_timeout)
        self.record.bytes_in, self.record.bytes_out = tunnel.sizes
        dispatch.drop(resets=not tunnel.is_done)

    def _answer_own(self, start: bytes, body: bytes) -> None:
        self.keeps = self._may_keep() and not self._head.has_body
        body = body if self._head.method != b"HEAD" else b""
        self._down.write(b"%b%b\r\n%b" % (start, self._connection_line(), body))

    def _response_start(self, up: NextHop, response: ResponseHead) -> tuple[bytes, bool]:
        """Return the response head for the client, and whether its body will be chunked."""
        head, meta, status = self._head, response.meta, response.status
        assert self._dispatch is not None
        has_length = meta.content_length is not None
        self.record.server_timing = meta.server_timing
        self._is_answered = True
        is_open = not has_length and not is_bodiless(head.method, status)
        is_chunked = is_open and head.minor == 1
        self.keeps = self._may_keep() and (is_chunked or not is_open)
        memo = up.memo
        if memo is None or memo[1] is not meta or memo[0] != status:
            block = response_block(meta, response.version, keep_length=status != 204)
            memo = up.memo = (status, meta, block)
        start = b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (
            status,
            response.reason or reason_of(status),
            memo[2],
            b"Transfer-Encoding: chunked\r\n" if is_chunked else b"",
            self._connection_line(),
            self._placement_line() + self._notes + self._dispatch.notes,
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
        if not self.keeps:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self._head.minor == 0 else b""

    def _placement_line(self) -> bytes:
        if self._hop is not None:
            return b""  # the edge tells
        # Without a region it was answered here, without an instance.
        region = self.record.region or self._services.region
        where = "local" if region == self._services.region else "remote"
        return f"onetrip-placement: {where}-{region}\r\n".encode()

    def _fail(self, error: Exception) -> None:
        down, record = self._down, self.record
        if not isinstance(error, OnetripError):
            error = own_failure(error, self._services.log)
        record.error = error
        if self._is_answered or down.is_lost:
            self.keeps = False
            down.abort()
            return
        extra = b""
        if self._hop and (error.kind is Kind.DENIED or is_refusal(error, self._head.method)):
            error = UpstreamError(str(error), kind=Kind.UNAVAILABLE)
            extra = REFUSED_HEADER + b": not-ready\r\n"
        self.keeps = self._may_keep() and error.kind is not Kind.TIMEOUT
        record.status = status_of(error)
        down.write(
            error_reply(
                error,
                record.request_id,
                keep_alive=self.keeps,
                has_body=self._head.method != b"HEAD",
                extra=extra,
            )
        )

    def close(self) -> None:
        """Give up what the exchange holds, and book it; once, at its end."""
        record, dispatch = self.record, self._dispatch
        if dispatch is not None:
            if dispatch.request is not None:
                record.bytes_in += dispatch.request.size
            if dispatch.response is not None:
                record.bytes_out = dispatch.response.size
            dispatch.drop()
        self._services.ledger.close(record, self._services.routing.settle)
