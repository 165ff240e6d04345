"""A database with copies in virtual time: they lag, stop, crash, lose some of it, and take over.

Changes are numbered by bytes of a log, as PostgreSQL's are. A copy shows every change that is older
than its delay, unless it is paused; after a crash it comes back with less than it showed before.
The primary answers for a change once a copy has received it, so a failover loses nothing that was
answered for.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Mapping
from random import Random

from onetrip.errors import ReplicationError
from onetrip.model.replication import EndpointState, Position, Role, lsn
from onetrip.timing import Clock

TRIP = 0.002
"""Mean round trip to a copy, s."""


class UnansweredError(Exception):
    """The copy is down."""


class _Copy:
    """One server. `shown` is the number of the first change that it does not show."""

    def __init__(self) -> None:
        self.shown = 0
        self.delay = 0.0
        self.is_paused = False
        self.is_up = True


class SimulatedDatabase:
    """Implements `model.replication.Replication` for one backend, `db`; answers reads and writes.

    Args:
        copies: names of the replicas; the first primary is called `db`.

    Attributes:
        leader: the copy that takes writes, as everybody knows.
    """

    def __init__(self, copies: list[str], clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._copies = {name: _Copy() for name in ("db", *copies)}
        self._times: list[float] = []
        self._ends: list[int] = []
        self._versions: dict[str, tuple[list[int], list[int]]] = {}
        self.leader = "db"

    @property
    def names(self) -> list[str]:
        """Names of all copies."""
        return list(self._copies)

    # --- what applications do ---------------------------------------------------------------

    async def write(self, key: str) -> int:
        """Make the next version of a register; `UnansweredError` leaves open whether it is."""
        await self._trip()
        copy = self._up(self.leader)
        number = len(self._ends)
        self._times.append(self._clock.now())
        self._ends.append((self._ends[-1] if self._ends else 0) + self._rng.randrange(32, 4096, 8))
        numbers, versions = self._versions.setdefault(key, ([], []))
        numbers.append(number)
        versions.append(number + 1)
        copy.shown = number + 1
        await self._trip()
        self._up(self.leader)
        return number + 1

    async def read(self, endpoint: str, key: str) -> int:
        """Return the version of a register that a copy shows; raises `UnansweredError`."""
        await self._trip()
        shown = self._shown(endpoint)
        await self._trip()
        numbers, versions = self._versions.get(key, ([], []))
        place = bisect_right(numbers, shown - 1)
        return versions[place - 1] if place else 0

    # --- what happens to copies -------------------------------------------------------------

    def pause(self, name: str, *, is_paused: bool) -> None:
        """Have a copy show nothing new, or go on."""
        self._refresh(name)
        self._copies[name].is_paused = is_paused

    def delay(self, name: str, delay: float) -> None:
        """Have a copy show changes only when they are `delay` s old."""
        self._refresh(name)
        self._copies[name].delay = delay

    def crash(self, name: str) -> None:
        """Have a copy answer nobody."""
        self._copies[name].is_up = False

    def restart(self, name: str) -> None:
        """Bring a copy back, with less than it showed."""
        copy = self._copies[name]
        copy.is_up = True
        if name != self.leader:
            copy.shown = max(0, copy.shown - self._rng.randrange(50))

    def promote(self, name: str) -> None:
        """Make a copy the primary, with every change that was answered for."""
        self._copies[name] = copy = _Copy()
        copy.shown = len(self._ends)
        old, self.leader = self.leader, name
        self._copies[old].delay = 0.01

    # --- Replication ------------------------------------------------------------------------

    async def position(self, backend: str) -> Position:
        """See `Replication`."""
        return await self.shown(backend, self.leader)

    async def shown(self, backend: str, endpoint: str) -> Position:
        """See `Replication`."""
        await self._trip()
        try:
            shown = self._shown(endpoint)
        except UnansweredError as error:
            raise ReplicationError(f"{endpoint} does not answer") from error
        await self._trip()
        return self._position(shown)

    async def reached(self, backend: str, endpoint: str, position: Position, within: float) -> bool:
        """See `Replication`."""
        try:
            async with asyncio.timeout(within):
                while not (await self.shown(backend, endpoint)).covers(position):
                    await self._clock.sleep(0.01)
        except (TimeoutError, ReplicationError):
            return False
        return True

    def primary(self, backend: str) -> str:
        """See `Replication`."""
        return self.leader

    def states(self, backend: str) -> Mapping[str, EndpointState]:
        """See `Replication`; everybody knows the roles, and nobody the positions."""
        return {
            name: EndpointState(Role.PRIMARY if name == self.leader else Role.REPLICA)
            for name in self._copies
        }

    # --- inside -----------------------------------------------------------------------------

    async def _trip(self) -> None:
        await asyncio.sleep(self._rng.expovariate(2 / TRIP))

    def _up(self, name: str) -> _Copy:
        copy = self._copies[name]
        if not copy.is_up:
            raise UnansweredError(name)
        return copy

    def _shown(self, name: str) -> int:
        copy = self._up(name)
        self._refresh(name)
        return copy.shown

    def _refresh(self, name: str) -> None:
        copy = self._copies[name]
        if name == self.leader:
            copy.shown = len(self._ends)
        elif not copy.is_paused and copy.is_up:
            old = bisect_right(self._times, self._clock.now() - copy.delay)
            copy.shown = max(copy.shown, old)

    def _position(self, shown: int) -> Position:
        return lsn(self._ends[shown - 1] if shown else 0)
