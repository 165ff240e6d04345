"""The pool of an endpoint that may speak HTTP/2: few connections, many streams on each.

A connection is opened when no open one takes another stream, one at a time: whoever comes while it
is being opened waits for it. An `auto` endpoint says over TLS which protocol it speaks; once it has
chosen HTTP/1.1, this is the pool of connections that its base class is, until none is left.
"""

from __future__ import annotations

import asyncio
from typing import cast

from onetrip.errors import Kind, UpstreamError
from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.net.dial import Dial
from onetrip.proxy.entry import AlpnProtocol
from onetrip.proxy.pool import EndpointPool
from onetrip.proxy.trunk import Trunk
from onetrip.proxy.upstream import NextHop, Upstream
from onetrip.proxy.upstream_stream import TrunkParts, UpstreamStream


class Http2Pool(EndpointPool):
    """The connections of one endpoint whose `protocol` is `h2` or `auto`."""

    __slots__ = ("_dialling", "_parts", "_speaks_http1", "_trunks", "_waiting")

    def __init__(self, endpoint: Endpoint, dial: Dial, parts: TrunkParts) -> None:
        super().__init__(endpoint, parts.settings, dial, parts.clock, parts.outbox)
        self._parts = parts
        self._trunks: list[Trunk] = []
        self._dialling: asyncio.Future[UpstreamError | None] | None = None
        self._waiting = 0
        self._speaks_http1 = False

    def take_idle(self) -> NextHop | None:
        """Return a stream of an open connection, or None."""
        if self._speaks_http1:
            return super().take_idle()
        for trunk in self._trunks:
            if trunk.room > 0:
                return trunk.open()
        return None

    async def connect(self) -> NextHop:
        """See `EndpointPool`."""
        while not self._speaks_http1:
            if (stream := self.take_idle()) is not None:
                return stream
            if self._dialling is not None:
                await self._join(self._dialling)
            elif self._opened >= self._settings.pool_connections:
                await self._wait_for_room()
            elif (upstream := await self._open_one()) is not None:
                return upstream
        return await super().connect()

    def release(self, upstream: NextHop, now: float) -> None:
        """See `EndpointPool`."""
        if isinstance(upstream, UpstreamStream):
            cast(Trunk, upstream.link).release(upstream, now)
        else:
            super().release(upstream, now)

    def close_idle(self, before: float) -> None:
        """See `EndpointPool`; also sees that busy connections live."""
        super().close_idle(before)
        now = self._clock.now()
        for trunk in list(self._trunks):
            if before == float("inf"):
                trunk.leave()
            trunk.check(now, before)
        if not self._opened:
            self._speaks_http1 = False

    async def _join(self, dialling: asyncio.Future[UpstreamError | None]) -> None:
        """Wait for the connection that is being opened.

        Raises:
            UpstreamError: it could not be opened, or too many wait already.
        """
        limit = self._settings.pool_queue
        if self._waiting >= limit:
            raise UpstreamError(
                f"{limit} requests wait for {self.label} already",
                kind=Kind.QUEUE_LIMIT,
                retryable=True,
            )
        self._waiting += 1
        try:
            error = await asyncio.shield(dialling)
        finally:
            self._waiting -= 1
        if error is not None:
            raise UpstreamError(str(error), kind=error.kind, retryable=True)

    async def _open_one(self) -> NextHop | None:
        """Open a connection; return it if it speaks HTTP/1.1.

        Raises:
            UpstreamError: always retryable.
        """
        self._dialling = done = asyncio.get_running_loop().create_future()
        self._opened += 1
        made: Trunk | Upstream | None = None
        try:
            made = await self._reach()
        except UpstreamError as error:
            self.avoid_until = self._clock.now() + self._settings.fail_time
            done.set_result(error)
            raise
        finally:
            self._dialling = None
            if not done.done():
                done.set_result(None)
            if made is None:
                self._leave()
        made.is_counted = True
        if isinstance(made, Upstream):
            self._speaks_http1 = True
            return made
        self._parts.metrics.upstream_http2_connections.inc()
        self._trunks.append(made)
        return None

    async def _reach(self) -> Trunk | Upstream:
        endpoint = self.endpoint
        is_secure = endpoint.tls_name is not None
        may_be_http1 = endpoint.protocol is HttpProtocol.AUTO
        scheme = b"https" if is_secure else b"http"

        def trunk() -> Trunk:
            return Trunk(self._parts, scheme, self._wake_one, self._trunk_closed)

        def plain() -> Upstream:
            return Upstream(self._settings, self._closed, self._outbox)

        made = await self._dial(
            (lambda: AlpnProtocol(plain, trunk)) if is_secure else trunk,
            endpoint.host,
            endpoint.port,
            timeout=self._settings.connect_timeout,
            tls_name=endpoint.tls_name,
            protocols=endpoint.protocol.alpn,
        )
        chosen = made.chosen if isinstance(made, AlpnProtocol) else made
        assert isinstance(chosen, Trunk | Upstream)
        problem = ""
        if chosen.is_lost:
            problem = "closed the connection at once"
        elif isinstance(chosen, Upstream) and not may_be_http1:
            chosen.abort()
            problem = "does not offer HTTP/2"
        if problem:
            raise UpstreamError(f"{self.label} {problem}", kind=Kind.CONNECT, retryable=True)
        return chosen

    def _trunk_closed(self, trunk: Trunk) -> None:
        if trunk in self._trunks:
            self._trunks.remove(trunk)
        if trunk.is_counted:
            trunk.is_counted = False
            self._leave()
