"""Which connection of a pool is used, kept, opened or closed: decisions without I/O.

The most recently used connection is taken first, so that those a quiet time does not need grow
old and go. Whoever waits is served in order. A *slot* is the right to have a connection, taken
before it is opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from onetrip.errors import Kind, UpstreamError
from onetrip.relay.route_settings import PoolLimits

Member = TypeVar("Member", bound=Hashable)
Waiter = TypeVar("Waiter")


class Pool(Generic[Member, Waiter]):
    """The connections of one account to one database of one server.

    Args:
        is_waiting: tells whether a waiter still waits.
    """

    def __init__(self, limits: PoolLimits, is_waiting: Callable[[Waiter], bool]) -> None:
        self._limits = limits
        self._is_waiting = is_waiting
        self._idle: deque[tuple[Member, float]] = deque()
        self._members: dict[Member, float] = {}
        self._opening = 0
        self._waiters: deque[Waiter] = deque()

    @property
    def size(self) -> int:
        """Connections, those being opened included."""
        return len(self._members) + self._opening

    @property
    def idle(self) -> int:
        """Connections that nobody uses."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Sessions that wait for a connection."""
        return sum(map(self._is_waiting, self._waiters))

    def take(self, now: float) -> Member | None:
        """Return a connection to use, or None where none is free."""
        while self._idle:
            member, _ = self._idle.pop()
            if self._is_young(member, now):
                return member
            self._idle.append((member, 0.0))  # for `expired`
            return None
        return None

    def reserve(self) -> bool:
        """Take a slot to open a connection, where there is one."""
        if self.size >= self._limits.size:
            return False
        self._opening += 1
        return True

    def opened(self, member: Member, now: float) -> None:
        """Use a slot: its connection is open, and in use."""
        self._opening -= 1
        self._members[member] = now

    def failed(self) -> Waiter | None:
        """Give a slot back unused; return the waiter that has it now."""
        self._opening -= 1
        return self._next_opener()

    def enqueue(self, waiter: Waiter) -> None:
        """Wait.

        Raises:
            UpstreamError: kind QUEUE_LIMIT.
        """
        limit = self._limits.waiting
        if len(self._waiters) >= limit:
            self._waiters = deque(filter(self._is_waiting, self._waiters))
        if len(self._waiters) >= limit:
            raise UpstreamError(
                f"{limit} sessions wait for a connection already", kind=Kind.QUEUE_LIMIT
            )
        self._waiters.append(waiter)

    def give(self, member: Member, now: float) -> Waiter | None:
        """Take a connection back; return the waiter that has it now."""
        if member not in self._members:
            return None
        if self._is_young(member, now):
            while self._waiters:
                waiter = self._waiters.popleft()
                if self._is_waiting(waiter):
                    return waiter
        self._idle.append((member, now))
        return None

    def remove(self, member: Member) -> Waiter | None:
        """Forget a connection that is closed; return the waiter that has its slot now."""
        if self._members.pop(member, None) is None:
            return None
        self._idle = deque(pair for pair in self._idle if pair[0] != member)
        return self._next_opener()

    def expired(self, now: float) -> list[Member]:
        """Return the unused connections that must be closed now; none of them is given out."""
        since = now - self._limits.idle
        old = [m for m, at in self._idle if at <= since or not self._is_young(m, now)]
        self._idle = deque(pair for pair in self._idle if pair[0] not in old)
        return old

    def drained(self) -> list[Member]:
        """Return all unused connections; none of them is given out."""
        found = [member for member, _ in self._idle]
        self._idle.clear()
        return found

    def _is_young(self, member: Member, now: float) -> bool:
        return now - self._members.get(member, 0.0) < self._limits.lifetime

    def _next_opener(self) -> Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if self._is_waiting(waiter):
                self._opening += 1
                return waiter
        return None
