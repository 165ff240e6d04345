"""Looks after the servers of a database: what each is, how far it is, how far away.

One link a server asks it at intervals, and when somebody waits; the answer's time is its RTT. A
server whose link breaks counts as unknown until it answers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onetrip.errors import Kind, OnetripError, UpstreamError
from onetrip.model.replication import Role
from onetrip.observe.logs import Log
from onetrip.relay.server_link import ServerLink
from onetrip.relay.standing import Standings
from onetrip.tasks import Tasks
from onetrip.timing import Clock

POSITION_SQL = (
    "SELECT pg_catalog.pg_is_in_recovery(), (CASE WHEN pg_catalog.pg_is_in_recovery()"
    " THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END"
    " OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.text,"
    " CASE WHEN NOT pg_catalog.pg_is_in_recovery()"
    " THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()) END"
)
"""Whether it replays, how far it is in bytes, and a file name that begins with its timeline."""

RETRY_INTERVAL = 0.1
"""Least time between two looks at a server that does not answer, s."""

Connect = Callable[[str, Callable[[ServerLink], None]], Awaitable[ServerLink]]
"""Opens a link to a server by its name; the second argument hears of its end."""


class Watch:
    """Keeps the standings of all servers.

    Args:
        interval: between two looks at each server, s.
        least: least time between two looks that somebody waits for, s.
        timeout: longest wait for an answer, s.
    """

    def __init__(
        self,
        standings: Standings,
        connect: Connect,
        clock: Clock,
        log: Log,
        *,
        interval: float,
        least: float,
        timeout: float,
    ) -> None:
        self._standings = standings
        self._connect = connect
        self._clock = clock
        self._log = log
        self._interval = interval
        self._least = least
        self._timeout = timeout
        self._links: dict[str, ServerLink] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._down: set[str] = set()
        self._tasks = Tasks(self._task_failed)
        self._on_down: Callable[[str], None] = lambda name: None
        self._is_stopping = False

    def start(self, on_down: Callable[[str], None]) -> None:
        """Begin; `on_down` is told the name of a server that does not answer."""
        self._on_down = on_down
        for name in self._standings.by_name:
            self._tasks.spawn(self._look_forever(name), f"relay.watch.{name}")

    async def stop(self) -> None:
        """Look no more."""
        self._is_stopping = True
        await self._tasks.cancel(timeout=5.0)
        for link in self._links.values():
            link.abort()

    async def ask(self, link: ServerLink, *, is_new: bool = False) -> None:
        """Ask a server over `link` what it is and how far.

        Args:
            is_new: the link has just been opened, so what it says replaces what was known.

        Raises:
            UpstreamError: it does not tell.
        """
        asked_at = self._clock.now()
        try:
            answer = await link.query(POSITION_SQL, self._timeout)
            in_recovery, position, file = answer.rows[0]
            found, timeline = int(position or ""), int((file or "0")[:8], 16)
        except (TimeoutError, IndexError, ValueError) as error:
            link.abort()
            raise UpstreamError(
                f"{link.name} does not tell its position", kind=Kind.UNHEALTHY
            ) from error
        now = self._clock.now()
        is_changed = self._standings.observe(
            link.name,
            in_recovery=in_recovery == "t",
            position=found,
            timeline=timeline,
            at=now,
            rtt=None if is_new else now - asked_at,
        )
        if is_changed:
            self._log.info("relay.primary_found", primary=self._standings.primary or "none")

    def look(self, name: str) -> asyncio.Task[None]:
        """Look at a server soon; return the look, which others may have asked for already."""
        running = self._looks.get(name)
        if running is None or running.done():
            running = self._looks[name] = self._tasks.spawn(self._look(name), f"relay.look.{name}")
        return running

    async def look_at(self, names: list[str], timeout: float) -> None:
        """Wait until one of the servers was looked at, at most `timeout` s."""
        looks = [self.look(name) for name in names]
        await asyncio.wait(looks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def _look(self, name: str) -> None:
        one = self._standings.by_name[name]
        least = self._least
        if one.role is Role.UNKNOWN:
            least = max(least, RETRY_INTERVAL)
        since = self._clock.now() - one.checked_at
        if since < least:
            await self._clock.sleep(least - since)
        try:
            link = self._links.get(name)
            if link is None:
                link = self._links[name] = await self._connect(name, self._lost)
            await self.ask(link)
        except OnetripError as error:
            self._failed(name, error)
        else:
            if name in self._down:
                self._down.discard(name)
                self._log.info("relay.endpoint_returned", endpoint=name)

    def _failed(self, name: str, error: OnetripError) -> None:
        self._standings.by_name[name].checked_at = self._clock.now()
        if name not in self._down:
            self._down.add(name)
            self._log.warning("relay.endpoint_lost", endpoint=name, reason=str(error))
        self._standings.lost(name)
        self._on_down(name)

    def _lost(self, link: ServerLink) -> None:
        if self._links.get(link.name) is link:
            del self._links[link.name]
            self._standings.lost(link.name)
            if not self._is_stopping:
                self.look(link.name)

    async def _look_forever(self, name: str) -> None:
        while True:
            await asyncio.wait([self.look(name)])
            await self._clock.sleep(self._interval)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._log.error("relay.task_failed", task=name, error=type(error).__name__)
