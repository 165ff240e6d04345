"""Upstream connections by endpoint: idle ones to use again, a bound, and a bounded queue.

Idle connections are used last in, first out, so that a shrinking load lets the oldest ones age
out. A connection on which anything happens while it is idle (bytes, end of stream, reset) is
dropped at once: bytes nobody asked for must never become the next request's response.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from onetrip.errors import ExhaustedError, Kind, UpstreamError
from onetrip.model.measure import Target, TargetKind
from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.net.dial import Dial
from onetrip.proxy.channel import Outbox
from onetrip.proxy.ejection import Health
from onetrip.proxy.settings import ProxySettings
from onetrip.proxy.upstream import NextHop, Upstream
from onetrip.timing import Clock


class EndpointPool:
    """The connections of one endpoint.

    Attributes:
        target: the endpoint as a measured instance, for readiness.
        outstanding: requests that use a connection or wait for one.
        avoid_until: do not choose this endpoint before, monotonic s; set when a connect fails.
        health: how its requests ended of late.
        label: the endpoint as text.
    """

    __slots__ = (
        "_clock",
        "_dial",
        "_idle",
        "_opened",
        "_outbox",
        "_settings",
        "_waiters",
        "avoid_until",
        "endpoint",
        "health",
        "label",
        "outstanding",
        "target",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        settings: ProxySettings,
        dial: Dial,
        clock: Clock,
        outbox: Outbox,
    ) -> None:
        self.endpoint = endpoint
        self.label = str(endpoint)
        self.target = Target(TargetKind.INSTANCE, self.label)
        self.outstanding = 0
        self.avoid_until = 0.0
        self.health = Health(self.label)
        self._settings = settings
        self._dial = dial
        self._clock = clock
        self._outbox = outbox
        self._idle: list[Upstream] = []
        self._opened = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def opened(self) -> int:
        """Connections open or being opened."""
        return self._opened

    def take_idle(self) -> NextHop | None:
        """Return the idle connection used last, or None."""
        while self._idle:
            upstream = self._idle.pop()
            if not upstream.has_ended and not upstream.transport.is_closing():
                return upstream
            upstream.abort()
        return None

    async def connect(self) -> NextHop:
        """Return a new connection, or one that became idle while waiting for room.

        Raises:
            UpstreamError: always retryable; kind CONNECT or TIMEOUT when it cannot be opened,
                QUEUE_LIMIT when the queue is full, CONNECTION_LIMIT when the wait is too long.
        """
        settings = self._settings
        while self._opened >= settings.pool_connections:
            await self._wait_for_room()
            if (upstream := self.take_idle()) is not None:
                return upstream
        self._opened += 1
        endpoint = self.endpoint
        upstream = None
        try:
            made = await self._dial(
                lambda: Upstream(settings, self._closed, self._outbox),
                endpoint.host,
                endpoint.port,
                timeout=settings.connect_timeout,
                tls_name=endpoint.tls_name,
            )
            if made.is_lost:
                raise UpstreamError(
                    f"{self.label} closed the connection at once", kind=Kind.CONNECT, retryable=True
                )
            upstream = made
            upstream.is_counted = True
            return upstream
        except ExhaustedError:
            raise  # the endpoint may be well
        except UpstreamError:
            self.avoid_until = self._clock.now() + settings.fail_time
            raise
        finally:
            if upstream is None:
                self._leave()

    def release(self, upstream: NextHop, now: float) -> None:
        """Keep a connection whose last exchange ended cleanly, about `now` (monotonic s)."""
        assert isinstance(upstream, Upstream)
        if len(self._idle) >= self._settings.pool_idle or upstream.has_ended:
            upstream.close()
            return
        upstream.rest(now)
        self._idle.append(upstream)
        self._wake_one()

    def close_idle(self, before: float) -> None:
        """Close connections idle since before that instant, monotonic s."""
        keep = [u for u in self._idle if u.idle_since >= before and not u.is_lost]
        for upstream in self._idle:
            if upstream.idle_since < before:
                upstream.close()
        self._idle = keep

    def _closed(self, upstream: Upstream) -> None:
        if upstream in self._idle:
            self._idle.remove(upstream)
        if upstream.is_counted:
            upstream.is_counted = False
            self._leave()

    def _leave(self) -> None:
        self._opened -= 1
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _wait_for_room(self) -> None:
        limit = self._settings.pool_queue
        if len(self._waiters) >= limit:
            raise UpstreamError(
                f"{limit} requests wait for {self.label} already",
                kind=Kind.QUEUE_LIMIT if limit else Kind.CONNECTION_LIMIT,
                retryable=True,
            )
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # our turn came too late for us
            if not isinstance(error, TimeoutError):
                raise
            raise UpstreamError(
                f"no connection to {self.label} became free",
                kind=Kind.CONNECTION_LIMIT,
                retryable=True,
            ) from error
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)


class Pool:
    """All endpoint pools of one node.

    Args:
        make_http2: makes the pool of an endpoint that may speak HTTP/2; needed for those only.
    """

    def __init__(
        self,
        settings: ProxySettings,
        dial: Dial,
        clock: Clock,
        outbox: Outbox,
        make_http2: Callable[[Endpoint], EndpointPool] | None = None,
    ) -> None:
        self._make_http2 = make_http2
        self._settings = settings
        self._dial = dial
        self._clock = clock
        self._outbox = outbox
        self._pools: dict[Endpoint, EndpointPool] = {}

    def at(self, endpoint: Endpoint) -> EndpointPool:
        """Return the pool of `endpoint`, the same one each time while it is retained."""
        pool = self._pools.get(endpoint)
        if pool is None:
            if endpoint.protocol is HttpProtocol.HTTP1:
                pool = EndpointPool(endpoint, self._settings, self._dial, self._clock, self._outbox)
            else:
                assert self._make_http2 is not None
                pool = self._make_http2(endpoint)
            self._pools[endpoint] = pool
        return pool

    def retain(self, endpoints: Iterable[Endpoint]) -> None:
        """Forget the pools of all other endpoints; requests in progress finish on them."""
        wanted = set(endpoints)
        for endpoint in [e for e in self._pools if e not in wanted]:
            self._pools.pop(endpoint).close_idle(float("inf"))

    def opened(self) -> int:
        """Return how many upstream connections are open."""
        return sum(pool.opened for pool in self._pools.values())

    def sweep(self, now: float) -> None:
        """Close connections idle for too long."""
        for pool in self._pools.values():
            pool.close_idle(now - self._settings.pool_idle_timeout)

    def close(self) -> None:
        """Close every idle connection."""
        self.sweep(float("inf"))
