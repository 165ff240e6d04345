"""Nodes that share rows over a store in memory (`cluster/shared_rows`)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from random import Random

from onetrip.cluster.messages import PolicyRow
from onetrip.cluster.shared_rows import Row, SharedRows, Thing, is_newer, thing_of
from onetrip.errors import PeerError
from onetrip.model.resource import Resource, ResourceKey, ResourceKind
from onetrip.model.topology import RegionId
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.clock import VirtualClock
from support.fake_bus import FakeBucket, Stored


def resource(
    name: str, version: int = 1, origin: str = "den", body: bytes = b"{}", at: float = 0.0
) -> Resource:
    """Return a statement about a deployment."""
    key = ResourceKey(ResourceKind.DEPLOYMENT, "shop", name)
    return Resource(key, version, RegionId(origin), at, body)


def policy(version: int, origin: str = "den", hint: str | None = None) -> PolicyRow:
    """Return an override of the policy of `shop`."""
    return PolicyRow("shop", version, RegionId(origin), hint=hint)


class Ledger:
    """Rows in a dictionary."""

    def __init__(self) -> None:
        self.known: dict[Thing, Row] = {}
        self.takes: list[list[Row]] = []
        self.over: set[Thing] = set()

    def rows(self) -> Iterable[Row]:
        return list(self.known.values())

    def find(self, thing: Thing) -> Row | None:
        return self.known.get(thing)

    def is_over(self, row: Row) -> bool:
        return thing_of(row) in self.over

    async def take(self, rows: Sequence[Row]) -> None:
        self.takes.append(list(rows))
        await asyncio.sleep(0)
        for row in rows:
            known = self.known.get(thing_of(row))
            if known is None or is_newer(row, known):
                self.known[thing_of(row)] = row


class Sharer:
    """One node of them."""

    def __init__(
        self, name: str, stored: Stored, clock: VirtualClock, secret: bytes = b"shared"
    ) -> None:
        self.name = name
        self.bucket = FakeBucket(stored)
        self.ledger = Ledger()
        self.metrics = Metrics()
        self.wakes = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.shared = SharedRows(
            RegionId(name),
            secret,
            self.bucket,
            self.ledger,
            clock=clock,
            rng=Random(name),
            metrics=self.metrics,
            log=silent_log(),
            wake=self._woken,
            spawn=self._spawn,
        )

    async def declare(self, *rows: Row) -> None:
        """Take statements at this node."""
        await self.ledger.take(rows)
        self.shared.offer(rows)

    async def tick(self) -> None:
        """Work, and let what that started end; the store may be out of reach."""
        try:
            await self.shared.tick()
        except PeerError:
            self.bucket.leave()
        await self.settle()

    async def open(self) -> None:
        """Begin, or begin again after a loss."""
        await self.shared.open()
        await self.settle()

    async def settle(self) -> None:
        """Wait for every task."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def rows_counted(self, outcome: str) -> float:
        """Return a count of the metrics."""
        return float(self.metrics.nats_rows.labels(outcome)._value.get())

    def _woken(self) -> None:
        self.wakes += 1

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)
