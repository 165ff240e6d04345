"""The servers of a database: pooled connections to each, and which of them may serve.

Pools are made as accounts ask for them. A *slot* of a pool is granted to whoever waits the longest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from onetrip.errors import Kind, OnetripError, UpstreamError
from onetrip.model.replication import Role
from onetrip.net.dial import Dial
from onetrip.observe.logs import Log
from onetrip.relay.figures import EndpointFigures, FreshnessWaits
from onetrip.relay.opening import open_link
from onetrip.relay.pool import Pool
from onetrip.relay.route_settings import Account, DatabaseEndpoint, RouteSettings
from onetrip.relay.server_link import Answer, ServerLink
from onetrip.relay.standing import Standing, Standings
from onetrip.relay.watch import Watch
from onetrip.tasks import Tasks
from onetrip.timing import Clock
from onetrip.wire.flips import Tally

RESET_SQL = "DISCARD ALL"

Grant = asyncio.Future[ServerLink | None]
"""What a session waits for: a link, or None for the right to open one."""


class Fleet:
    """All servers.

    Args:
        tally: counts set-up and query trips to the servers.
        timeout: longest time to open a connection, s.
    """

    def __init__(
        self,
        settings: RouteSettings,
        dial: Dial,
        clock: Clock,
        rng: Random,
        log: Log,
        tally: Tally,
        *,
        timeout: float,
    ) -> None:
        self.standings = Standings([endpoint.name for endpoint in settings.endpoints])
        self.opened = 0
        self.waits = FreshnessWaits()
        self._settings = settings
        self._endpoints = {endpoint.name: endpoint for endpoint in settings.endpoints}
        self._dial = dial
        self._clock = clock
        self._rng = rng
        self._log = log
        self._tally = tally
        self._timeout = timeout
        self._pools: dict[tuple[str, str, str], Pool[ServerLink, Grant]] = {}
        self._homes: dict[ServerLink, Pool[ServerLink, Grant]] = {}
        self._tasks = Tasks(self._task_failed)
        self._is_closing = False
        self._watch = Watch(
            self.standings,
            self._connect_watch,
            clock,
            log,
            interval=settings.check_interval,
            least=settings.check_least,
            timeout=timeout,
        )

    def start(self) -> None:
        """Begin to look after the servers."""
        self._watch.start(self._drop_idle)
        self._tasks.every(1.0, self._expire, "relay.expire", self._clock, self._rng)

    async def stop(self) -> None:
        """Close every connection."""
        self._is_closing = True
        await self._watch.stop()
        await self._tasks.cancel(timeout=5.0)
        for link in list(self._homes):
            link.owner = None
            link.abort()

    @property
    def pools(self) -> dict[tuple[str, str, str], Pool[ServerLink, Grant]]:
        """Pools by server, account and database."""
        return self._pools

    def figures(self) -> tuple[EndpointFigures, ...]:
        """Return what can be told of each server."""
        return tuple(self._figures(one) for one in self.standings.by_name.values())

    def _figures(self, one: Standing) -> EndpointFigures:
        pools = [pool for (name, _, _), pool in self._pools.items() if name == one.name]
        idle = sum(pool.idle for pool in pools)
        is_primary, is_replica = one.name == self.standings.primary, one.role is Role.REPLICA
        return EndpointFigures(
            one.name,
            one.role is not Role.UNKNOWN,
            is_primary,
            one.rtt,
            max(0, self.standings.floor - one.position) if is_replica else 0,
            sum(pool.size for pool in pools) - idle,
            idle,
            sum(pool.waiting for pool in pools),
        )

    def endpoint(self, name: str) -> DatabaseEndpoint:
        """Return a server as it was configured."""
        return self._endpoints[name]

    async def primary(self, within: float) -> str:
        """Return the name of the primary, waiting for one where none answers.

        Raises:
            UpstreamError: kind UNAVAILABLE.
        """
        deadline = self._clock.now() + within
        standings = self.standings
        while (name := standings.primary) is None or (
            standings.by_name[name].role is not Role.PRIMARY
        ):
            left = deadline - self._clock.now()
            if left <= 0:
                raise UpstreamError("no server answers as the primary", kind=Kind.UNAVAILABLE)
            await self._watch.look_at(list(self._endpoints), left)
        return name

    async def acquire_primary(self, account: Account, database: str, within: float) -> ServerLink:
        """Return a connection to the primary, whichever server that is by now.

        Raises:
            UpstreamError: there is none within `within` s, or it refuses.
        """
        deadline = self._clock.now() + within
        while True:
            name = await self.primary(deadline - self._clock.now())
            try:
                link = await self.acquire(name, account, database)
            except UpstreamError as error:
                is_absent = error.kind in (Kind.CONNECT, Kind.UNHEALTHY)
                if not is_absent or self._clock.now() >= deadline:
                    raise
                await self._watch.look_at([name], deadline - self._clock.now())
                continue
            if self.standings.primary == name:
                return link
            self.release(link)

    async def fresh_replica(self, within: float) -> str | None:
        """Return the nearest replica that has reached the floor, waiting for one to do so."""
        name = self.standings.nearest_fresh()
        if name is not None:
            self.waits.at_once += 1
            return name
        began_at = self._clock.now()
        name = await self._next_fresh(began_at + within)
        self.waits.duration += self._clock.now() - began_at
        if name is None:
            self.waits.stale += 1
        else:
            self.waits.waited += 1
        return name

    async def _next_fresh(self, deadline: float) -> str | None:
        while (name := self.standings.nearest_fresh()) is None:
            left = deadline - self._clock.now()
            names = [one.name for one in self.standings.replicas]
            if left <= 0 or not names:
                return None
            await self._watch.look_at(names, left)
        return name

    async def acquire(self, name: str, account: Account, database: str) -> ServerLink:
        """Return a connection to a server, from its pool or new.

        Raises:
            UpstreamError: none can be had: kind CONNECTION_LIMIT, QUEUE_LIMIT, CONNECT, DENIED...
        """
        key = name, account.name, database
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(self._settings.pool, lambda grant: not grant.done())
        link = pool.take(self._clock.now())
        if link is not None:
            return link
        if not pool.reserve():
            link = await self._wait_for(pool)
            if link is not None:
                return link
        return await self._open(pool, key, account)

    def release(self, link: ServerLink) -> None:
        """Give a connection back; one that holds a session's state is reset first."""
        link.owner = None
        if link.is_lost:
            return
        if self._is_closing or link.is_busy:
            link.abort()
        elif link.cancelling:
            # A cancellation that comes late must not hit the next session.
            done = asyncio.gather(*link.cancelling, return_exceptions=True)
            done.add_done_callback(lambda _: self.release(link))
        elif link.was_stateful:
            link.was_stateful = False
            link.settings.clear()
            link.prepared.clear()
            link.ask(RESET_SQL, lambda answer: self._reset(link, answer), is_counted=False)
        else:
            self._give(link)

    def _reset(self, link: ServerLink, answer: Answer) -> None:
        if answer.code:
            link.abort()
        else:
            self._give(link)

    def _give(self, link: ServerLink) -> None:
        pool = self._homes.get(link)
        waiter = pool.give(link, self._clock.now()) if pool is not None else None
        if waiter is not None:
            waiter.set_result(link)

    async def _wait_for(self, pool: Pool[ServerLink, Grant]) -> ServerLink | None:
        grant: Grant = asyncio.get_running_loop().create_future()
        pool.enqueue(grant)
        limit = self._settings.pool.wait
        try:
            async with asyncio.timeout(limit):
                return await grant
        except BaseException as error:
            if grant.done() and not grant.cancelled():
                self._give_back(pool, grant.result())
            if isinstance(error, TimeoutError):
                raise UpstreamError(
                    f"no connection of the pool became free within {limit:g} s",
                    kind=Kind.CONNECTION_LIMIT,
                ) from error
            raise

    def _give_back(self, pool: Pool[ServerLink, Grant], link: ServerLink | None) -> None:
        if link is not None:
            self.release(link)
        else:
            self._grant(pool.failed())

    async def _open(
        self, pool: Pool[ServerLink, Grant], key: tuple[str, str, str], account: Account
    ) -> ServerLink:
        name, _, database = key
        try:
            link = await self._connect(
                self._endpoints[name], account, database, self._tally, self._lost
            )
        except BaseException as error:
            self._grant(pool.failed())
            if isinstance(error, OnetripError):
                self._suspect(name)
            raise
        self.opened += 1
        pool.opened(link, self._clock.now())
        self._homes[link] = pool
        return link

    async def _connect_watch(self, name: str, on_lost: Callable[[ServerLink], None]) -> ServerLink:
        settings = self._settings
        account, database = settings.accounts[settings.watch], settings.watch_database
        # These are nobody's round trips.
        return await self._connect(self._endpoints[name], account, database, Tally(), on_lost)

    async def _connect(
        self,
        endpoint: DatabaseEndpoint,
        account: Account,
        database: str,
        tally: Tally,
        on_lost: Callable[[ServerLink], None],
    ) -> ServerLink:
        nonce = self._rng.randbytes(18)
        link = await open_link(
            endpoint,
            account,
            database,
            self._dial,
            self._clock,
            tally,
            nonce,
            on_lost,
            timeout=self._timeout,
        )
        # Read before its first use: a server that crashed may be back with less than it had.
        await self._watch.ask(link, is_new=True)
        tally.trips, tally.setup_trips = tally.trips - 1, tally.setup_trips + 1
        return link

    def _lost(self, link: ServerLink) -> None:
        pool = self._homes.pop(link, None)
        if pool is not None:
            self._grant(pool.remove(link))
            if not (self._is_closing or link.is_closed):
                self._suspect(link.name)

    def _grant(self, waiter: Grant | None) -> None:
        if waiter is not None:
            waiter.set_result(None)

    def _suspect(self, name: str) -> None:
        self.standings.doubt(name)
        self._watch.look(name)

    def _drop_idle(self, name: str) -> None:
        """A server does not answer: what is unused leads nowhere."""
        for key, pool in self._pools.items():
            if key[0] == name:
                for link in pool.drained():
                    link.abort()

    async def _expire(self) -> None:
        for pool in self._pools.values():
            for link in pool.expired(self._clock.now()):
                link.close()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._log.error("relay.task_failed", task=name, error=type(error).__name__)
