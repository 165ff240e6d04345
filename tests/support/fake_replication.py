"""Replication in memory: endpoints that have what a test says, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from onetrip.errors import ReplicationError
from onetrip.model.replication import NOTHING, EndpointState, Position, Role


@dataclass(slots=True)
class FakeReplication:
    """Implements `model.replication.Replication`.

    Attributes:
        known: endpoints by backend; an endpoint that is missing does not answer.
        waiting: how many wait for an endpoint now.
    """

    known: dict[str, dict[str, EndpointState]] = field(default_factory=dict)
    waiting: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, backend: str, endpoint: str, position: Position, *, lag: float = 0.0) -> None:
        """Let an endpoint have a position; the backend's own name is its primary."""
        role = Role.PRIMARY if endpoint == backend else Role.REPLICA
        self.known.setdefault(backend, {})[endpoint] = EndpointState(role, position, lag)
        self._news.set()
        self._news = asyncio.Event()

    def lose(self, backend: str, endpoint: str) -> None:
        """Let an endpoint answer no more."""
        del self.known[backend][endpoint]

    async def position(self, backend: str) -> Position:
        """See `Replication`."""
        for state in self.known.get(backend, {}).values():
            if state.role is Role.PRIMARY:
                return state.position
        raise ReplicationError(f"no endpoint of {backend} is its primary")

    async def shown(self, backend: str, endpoint: str) -> Position:
        """See `Replication`."""
        state = self.known.get(backend, {}).get(endpoint)
        if state is None:
            raise ReplicationError(f"{endpoint} does not answer")
        return state.position

    async def reached(self, backend: str, endpoint: str, position: Position, within: float) -> bool:
        """See `Replication`."""
        self.waiting += 1
        try:
            async with asyncio.timeout(within):
                while not self._has(backend, endpoint).covers(position):
                    await self._news.wait()
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return endpoint in self.known.get(backend, {})

    def primary(self, backend: str) -> str:
        """See `Replication`."""
        leads = [n for n, s in self.known.get(backend, {}).items() if s.role is Role.PRIMARY]
        return leads[0] if leads else backend

    def states(self, backend: str) -> Mapping[str, EndpointState]:
        """See `Replication`."""
        return self.known.get(backend, {})

    def _has(self, backend: str, endpoint: str) -> Position:
        state = self.known.get(backend, {}).get(endpoint)
        return NOTHING if state is None else state.position
