"""Many clients of several nodes over a simulated database: the proxy's own code keeps the promise.

What is real: tokens, their signing and reading, and all of `proxy/consistency`. What is simulated
is what is around it: databases, networks, applications, and time (`virtual_loop`). Clients go from
node to node, each of which reads its own copy, so without the promise they see the past.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from onetrip.model.catalog import Catalog, Environment, EnvironmentId, Policy, Project
from onetrip.model.consistency import Carry, Consistency, Freshness
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId
from onetrip.observe.metrics import Metrics
from onetrip.proxy.consistency import ConsistencyBook, Guide
from onetrip.proxy.pledge import Pledge
from onetrip.proxy.router import Match
from onetrip.wire.http1 import Fields
from support.histories import RegisterCheck, RegisterOp
from support.linked_workers import LinkedWorkers
from support.simulated_database import SimulatedDatabase, UnansweredError
from support.virtual_loop import LoopClock, run_virtually

WRITES = 0.3
KEYS = 8
THINKS = 0.02
"""Mean time between two requests of a client, s."""

CALM = 0.2
"""Mean time from the end of one fault to the next, s."""

_SHOP = EnvironmentId("shop", "production")
_TERMS = Consistency((b"k" * 32,), wait=0.05, carry=Carry.HEADER)


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        operations: answered ones.
        unanswered: requests that failed because a copy was down.
        outcomes: how reads with a token were kept fresh.
        repeated: answers that were not passed on, and asked for again.
        faults: what happened to the copies.
        violations: by promise.
        elapsed: virtual time, s.
    """

    operations: int = 0
    unanswered: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    elapsed: float = 0.0


class _Guide:
    """One node's `proxy.consistency.Guide`: it reads the copy beside it."""

    def __init__(self, replication: SimulatedDatabase, own: str) -> None:
        self.replication = replication
        self._own = own

    def nearest(self, environment: Environment, backend: str, region: RegionId) -> str:
        return self._own

    def primary(self, backend: str) -> str:
        return self.replication.primary(backend)

    def relays(self, backend: str, region: RegionId) -> None:
        return None

    def home(self, backend: str) -> RegionId | None:
        return None

    def backends(self) -> list[str]:
        return ["db"]

    def columns(self) -> list[tuple[EnvironmentId, str, str]]:
        return [(_SHOP, "db", "db (nearest)")]

    def nearest_in(self, column: str) -> dict[RegionId, str]:
        return {RegionId(self._own.partition("/")[2]): self._own}


class SimulatedSessions:
    """Clients, nodes and a database; see the module.

    Args:
        keeps: whether the promise is kept, or reads just go to the nearest copy.
        mends: whether a node looks after an answer as well; without, restarts are not noticed.
        workers: processes of each node, of which any takes a request; 1 is the node's own.
    """

    def __init__(
        self,
        seed: int,
        *,
        keeps: bool,
        mends: bool = True,
        nodes: int = 3,
        clients: int = 60,
        workers: int = 1,
    ) -> None:
        self._rng = Random(seed)
        self._keeps = keeps
        self._mends = mends
        self._clients = clients
        self._workers = workers
        self._regions = [RegionId(f"r{n}") for n in range(nodes)]
        environment = Environment(
            _SHOP,
            ("shop.test",),
            (),
            {"orders": "db"},
            consistency=_TERMS,
            reads_nearest=frozenset({"db"}),
        )
        self._catalog = Catalog({"shop": Project("shop", Policy(), {"production": environment})})
        self._matches = {
            method: Match(environment, None, RouteKey(_SHOP, "/", method)) for method in MethodClass
        }
        self._outcome = Outcome()
        self._check = RegisterCheck()

    def run(self, operations: int) -> Outcome:
        """Carry out about as many operations, and tell what came of them."""
        run_virtually(self._run(operations))
        return self._outcome

    async def _run(self, operations: int) -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        database = SimulatedDatabase([f"db/{r}" for r in self._regions], clock, self._rng)
        self._database, metrics = database, Metrics()
        self._books: list[list[ConsistencyBook]] = []
        for region in self._regions:
            guide = _Guide(database, f"db/{region}")
            guides: list[Guide] = [guide]
            if self._workers > 1:
                plane = LinkedWorkers(guide, self._catalog, self._rng, self._workers)
                guides = list(plane.guides)
            books = [ConsistencyBook(each, clock, metrics) for each in guides]
            for book in books:
                book.update(self._catalog)
            self._books.append(books)
        trouble = asyncio.create_task(self._make_trouble())
        each = -(-operations // self._clients)
        async with asyncio.TaskGroup() as group:
            for session in range(self._clients):
                group.create_task(self._live(session, each))
        trouble.cancel()
        outcome, check = self._outcome, self._check
        outcome.operations, outcome.violations = check.operations, check.counts
        outcome.elapsed = loop.time()
        for freshness in Freshness:
            value = metrics.registry.get_sample_value(
                "onetrip_consistency_total", {"outcome": freshness.value}
            )
            outcome.outcomes[freshness.value] = int(value or 0)

    async def _live(self, session: int, operations: int) -> None:
        rng, token = self._rng, b""
        for _ in range(operations):
            await asyncio.sleep(rng.expovariate(1 / THINKS))
            is_write = rng.random() < WRITES
            key = f"k{rng.randrange(KEYS)}"
            node = rng.randrange(len(self._books))
            try:
                version, token = await self._request(node, key, token, is_write=is_write)
            except UnansweredError:
                self._outcome.unanswered += 1
                continue
            self._check.add(RegisterOp(session, key, is_write, version))

    async def _request(
        self, node: int, key: str, token: bytes, *, is_write: bool
    ) -> tuple[int, bytes]:
        """Do as `proxy/consistent` does with one request; return what it shows and its token."""
        own = self._database.names[node + 1]
        if not self._keeps:
            return await self._apply(own, key, is_write=is_write), b""
        match = self._matches[MethodClass.WRITE if is_write else MethodClass.READ]
        fields: Fields = [(b"onetrip-consistency", token)] if token else []
        book = self._rng.choice(self._books[node]) if self._workers > 1 else self._books[node][0]
        pledge = book.open(match, fields, from_peer=False)
        assert pledge is not None
        region = self._regions[node]
        await pledge.settle(region, 10.0)
        pledge.note(pledge.freshness)
        version = await self._apply(_endpoint(pledge, region), key, is_write=is_write)
        if not await pledge.conclude(region) and self._mends:
            self._outcome.repeated += 1
            pledge.use_primary(region)
            version = await self._apply(_endpoint(pledge, region), key, is_write=is_write)
            await pledge.conclude(region)
        line = pledge.answer_line(is_secure=False)
        return version, line.partition(b": ")[2].strip() or token

    async def _apply(self, endpoint: str, key: str, *, is_write: bool) -> int:
        if is_write:
            return await self._database.write(key)
        return await self._database.read(endpoint, key)

    async def _make_trouble(self) -> None:
        rng, database = self._rng, self._database
        kinds = [self._pause, self._delay, self._crash, self._crash, self._fail_over]
        for name in database.names[1:]:
            database.delay(name, rng.uniform(0.0, 0.05))
        while True:
            await asyncio.sleep(rng.expovariate(1 / CALM))
            copies = [name for name in database.names if name != database.leader]
            await rng.choice(kinds)(rng.choice(copies))

    async def _pause(self, name: str) -> None:
        self._outcome.faults["paused"] += 1
        self._database.pause(name, is_paused=True)
        await asyncio.sleep(self._rng.uniform(0.05, 1.0))
        self._database.pause(name, is_paused=False)

    async def _delay(self, name: str) -> None:
        self._outcome.faults["delayed"] += 1
        self._database.delay(name, self._rng.choice([0.0, 0.01, 0.1, 0.5]))

    async def _crash(self, name: str) -> None:
        self._outcome.faults["restarted"] += 1
        self._database.crash(name)
        await asyncio.sleep(self._rng.choice([0.0, 0.0, 0.001, 0.2]))
        self._database.restart(name)

    async def _fail_over(self, name: str) -> None:
        self._outcome.faults["failed over"] += 1
        old = self._database.leader
        self._database.crash(old)
        await asyncio.sleep(self._rng.uniform(0.01, 0.3))
        self._database.promote(name)
        await asyncio.sleep(self._rng.uniform(0.0, 0.5))
        self._database.restart(old)


def _endpoint(pledge: Pledge, region: RegionId) -> str:
    """Return where an application reads that obeys the field which it is given."""
    return pledge.read_line(region).decode().rpartition("=")[2].strip()
