"""Asks the endpoints of databases for their positions: round by round, and whenever someone waits.

One connection an endpoint and process, one question at a time on it. Whoever asks while a question
is under way gets the answer of the next one, together with all others who do: an answer counts
only if the question was sent after it was asked for. So any number of requests costs one question
after another, and no more.

An endpoint that does not answer is left alone for a while that doubles; who asks meanwhile is told
at once what it said last.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from random import Random

from onetrip.errors import Kind, ReplicationError
from onetrip.estimate.lag import LagMeter
from onetrip.model.catalog import Backend
from onetrip.model.replication import EndpointState, Position, Role
from onetrip.probe.replication_base import (
    LOOK_TIMEOUT,
    Look,
    MakeClient,
    ReplicationClient,
    SeenReplica,
    make_client,
)
from onetrip.timing import Clock, Deadline

FIRST_PAUSE = 0.25
"""Pause after a first failure, s."""

LONGEST_PAUSE = 30.0
"""Longest pause of an endpoint that does not answer, s."""

FIRST_WAIT, LONGEST_WAIT = 0.002, 0.05
"""Between two questions of someone who waits for a position, s: it doubles."""


class EndpointWatch:
    """One endpoint of a backend, as far as this process has asked it."""

    def __init__(self, client: ReplicationClient, clock: Clock, rng: Random) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._running: asyncio.Task[Look] | None = None
        self._next: asyncio.Task[Look] | None = None
        self._error: ReplicationError | None = None
        self._pause = 0.0
        self._paused_until = -math.inf
        self._is_closed = False
        self.last: Look | None = None
        self.looked_at = -math.inf
        """When the question of `last` was sent, monotonic, s."""

    @property
    def problem(self) -> str:
        """Why the last question had no answer, "" when it had."""
        return str(self._error) if self._error is not None else ""

    async def look(self) -> Look:
        """Ask now; see the module.

        Raises:
            ReplicationError: no answer, or it is left alone for a while.
        """
        if self._is_closed:
            raise ReplicationError("it is asked no more")
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._after(self._running))
            self._next.add_done_callback(_note_error)
        asked = self._next
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            if asked.cancelled() and not _is_cancelled():
                raise ReplicationError("it is asked no more") from None
            raise

    async def replicas(self) -> list[SeenReplica]:
        """Ask a primary which replicas it has.

        Raises:
            ReplicationError: as above.
        """
        return await self._client.replicas(LOOK_TIMEOUT)

    async def close(self) -> None:
        """End what is under way and drop the connection."""
        self._is_closed = True
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.close()

    async def _after(self, other: asyncio.Task[Look] | None) -> Look:
        if other is not None:
            await asyncio.wait([other])
        self._running, self._next = self._next, None
        try:
            return await self._ask()
        finally:
            self._running = None

    async def _ask(self) -> Look:
        asked_at = self._clock.now()
        if self._error is not None and asked_at < self._paused_until:
            raise ReplicationError(str(self._error), kind=self._error.kind)
        try:
            look = await self._client.look(LOOK_TIMEOUT)
        except ReplicationError as error:
            self._error = error
            self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self._pause))
            self._paused_until = self._clock.now() + self._pause * (0.5 + self._rng.random() / 2)
            raise
        self._error, self._pause = None, 0.0
        self.last, self.looked_at = look, asked_at
        return look


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _note_error(task: asyncio.Task[Look]) -> None:
    """Take note of how a question ended: whoever asked may have stopped waiting."""
    if not task.cancelled():
        task.exception()


class _Group:
    """The endpoints of one backend."""

    def __init__(self, backend: Backend, endpoints: dict[str, EndpointWatch]) -> None:
        self.backend = backend
        self.endpoints = endpoints
        self.meter = LagMeter()
        self.primary = backend.name


class ReplicationMonitor:
    """Implements `model.replication.Replication` by asking the endpoints themselves.

    Args:
        make: makes the client of an endpoint.
    """

    def __init__(self, clock: Clock, rng: Random, make: MakeClient = make_client) -> None:
        self._clock = clock
        self._rng = rng
        self._make = make
        self._groups: dict[str, _Group] = {}

    async def follow(self, backends: Collection[Backend]) -> None:
        """Know exactly these backends from now on, those with an account; the rest is closed."""
        old, self._groups = self._groups, {}
        dropped: list[EndpointWatch] = []
        for backend in backends:
            if backend.replication is None:
                continue
            before = old.pop(backend.name, None)
            kept = self._kept(before, backend) if before is not None else {}
            dropped += [e for n, e in before.endpoints.items() if n not in kept] if before else []
            group = _Group(backend, {})
            if before is not None:
                group.meter = before.meter
                group.primary = before.primary if before.primary in kept else backend.name
            group.endpoints = {
                name: kept.get(name)
                or EndpointWatch(self._make(backend, place), self._clock, self._rng)
                for name, place in backend.addresses.items()
            }
            self._groups[backend.name] = group
        dropped += [each for group in old.values() for each in group.endpoints.values()]
        await _close(dropped)

    @staticmethod
    def _kept(before: _Group, backend: Backend) -> dict[str, EndpointWatch]:
        old, new = before.backend, backend
        if (old.replication, old.kind, old.tls, old.ca_file) != (
            new.replication,
            new.kind,
            new.tls,
            new.ca_file,
        ):
            return {}
        now, known = new.addresses, old.addresses
        return {n: e for n, e in before.endpoints.items() if now.get(n) == known[n]}

    async def close(self) -> None:
        """Drop every connection."""
        await self.follow([])

    # --- rounds -----------------------------------------------------------------------------

    async def look(self, backend: str, endpoints: Collection[str]) -> None:
        """Ask these endpoints of a backend, at once; `states` tells what came of it."""
        group = self._groups.get(backend)
        if group is not None:
            await asyncio.gather(*(self._look_at(group, n) for n in endpoints))

    async def replicas(self, backend: str) -> list[SeenReplica]:
        """Ask the primary of a backend which replicas it has; none where it does not tell.

        Raises:
            ReplicationError: it does not answer, or may not tell.
        """
        group = self._group(backend)
        return await group.endpoints[group.primary].replicas()

    def states(self, backend: str) -> Mapping[str, EndpointState]:
        """See `Replication`; only endpoints that this process has asked."""
        group = self._groups.get(backend)
        if group is None:
            return {}
        found = {name: self._state(group, each) for name, each in group.endpoints.items()}
        return {name: state for name, state in found.items() if state is not None}

    def primary(self, backend: str) -> str:
        """See `Replication`."""
        group = self._groups.get(backend)
        return group.primary if group is not None else backend

    def primary_is(self, backend: str, endpoint: str) -> None:
        """Note which endpoint others found to be the primary."""
        group = self._groups.get(backend)
        if group is not None and endpoint in group.endpoints:
            group.primary = endpoint

    def _state(self, group: _Group, each: EndpointWatch) -> EndpointState | None:
        look, now = each.last, self._clock.now()
        if look is None:
            return EndpointState(Role.UNKNOWN, problem=each.problem) if each.problem else None
        is_primary = look.role is Role.PRIMARY
        at = each.looked_at
        return EndpointState(
            role=look.role,
            position=look.position,
            lag=0.0 if is_primary else group.meter.lag(look.position, at, look.told),
            lag_bytes=0 if is_primary else group.meter.lag_bytes(look.position),
            is_replicating=look.is_replicating,
            age=now - at,
            timeline=look.timeline,
            problem=each.problem,
        )

    async def _look_at(self, group: _Group, name: str) -> Look | None:
        each = group.endpoints.get(name)
        if each is None:
            return None
        try:
            look = await each.look()
        except ReplicationError:
            return None
        if look.role is Role.PRIMARY and name == group.primary:
            group.meter.primary_has(look.position, each.looked_at)
        return look

    # --- on demand --------------------------------------------------------------------------

    async def position(self, backend: str) -> Position:
        """See `Replication`."""
        group = self._group(backend)
        look = await self._look_at(group, group.primary)
        if look is None or look.role is not Role.PRIMARY:
            look = await self._find_primary(group)
        if not look.answered.ranges:
            raise ReplicationError(f"the primary of {backend} tells no position: it keeps no log")
        return look.answered

    async def shown(self, backend: str, endpoint: str) -> Position:
        """See `Replication`."""
        each = self._group(backend).endpoints.get(endpoint)
        if each is None:
            raise ReplicationError(f"{endpoint} is none of {backend}'s", kind=Kind.NOT_FOUND)
        look = await each.look()
        return look.answered if look.answered.ranges else look.position

    async def reached(self, backend: str, endpoint: str, position: Position, within: float) -> bool:
        """See `Replication`."""
        group = self._groups.get(backend)
        if group is None or endpoint not in group.endpoints:
            return False
        deadline, wait = Deadline.after(within, self._clock), FIRST_WAIT
        try:
            async with asyncio.timeout(within):
                while True:
                    look = await self._look_at(group, endpoint)
                    if look is None:
                        return False
                    if look.position.covers(position) or look.answered.covers(position):
                        return True
                    await self._clock.sleep(min(wait, deadline.remaining(self._clock)))
                    wait = min(LONGEST_WAIT, 2 * wait)
        except TimeoutError:
            return False

    async def _find_primary(self, group: _Group) -> Look:
        names = list(group.endpoints)
        looks = await asyncio.gather(*(self._look_at(group, name) for name in names))
        leads = {
            name: look
            for name, look in zip(names, looks, strict=True)
            if look is not None and look.role is Role.PRIMARY
        }
        if not leads:
            raise ReplicationError(
                f"no endpoint of {group.backend.name} says that it is the primary"
            )
        group.primary = max(leads, key=lambda name: leads[name].timeline)
        return leads[group.primary]

    def _group(self, backend: str) -> _Group:
        group = self._groups.get(backend)
        if group is None:
            raise ReplicationError(f"{backend} has no replication account", kind=Kind.NOT_FOUND)
        return group


async def _close(endpoints: Sequence[EndpointWatch]) -> None:
    if endpoints:
        await asyncio.gather(*(each.close() for each in endpoints))
