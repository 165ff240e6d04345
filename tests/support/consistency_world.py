"""Two nodes over a real database with two replicas, clients that go from one to the other, faults.

Region `den` reads `db/r1` and region `bom` reads `db/r2`, wherever the primary is. The nodes are
real proxies that forward to each other, and ask the servers with the node's own monitor. What the
clients saw is a history of lists, for the checker.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from random import Random

import aiohttp
from aiohttp import web

from onetrip.model.catalog import Backend, BackendKind, Catalog
from onetrip.model.consistency import Carry, Consistency
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.topology import Endpoint, RegionId
from onetrip.probe.replication import ReplicationMonitor
from onetrip.timing import MonotonicClock
from support.database_trouble import Wait
from support.fake_guide import FakeGuide
from support.histories import ListOp
from support.listed_databases import Lists, list_application
from support.proxy_rig import SHOP, ProxyRig, make_catalog, make_topology
from support.waits import soon

DEN, BOM = RegionId("den"), RegionId("bom")
NEAREST = {DEN: "db/r1", BOM: "db/r2"}
TERMS = Consistency((b"k" * 32,), wait=0.2, carry=Carry.HEADER)
CLIENTS = 8
LISTS = 6
APPENDS = 0.4
AWAY = 0.25
"""Share of requests that the edge sends to the other region."""


@dataclass(slots=True)
class Seen:
    """What came of a run.

    Attributes:
        outcomes: how reads with a token were kept fresh.
        failures: answers that were none, by status.
    """

    history: list[ListOp] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)


class _Guide(FakeGuide):
    """Where applications read; the primary is where the monitor found it."""

    def primary(self, backend: str) -> str:
        return self.replication.primary(backend)

    def home(self, backend: str) -> RegionId | None:
        primary = self.primary(backend)
        return next((region for region, name in NEAREST.items() if name == primary), None)


class ConsistencyWorld:
    """Nodes, applications and clients; use as an async context manager.

    Args:
        backend: the database, as its nodes know it.
        keeps: whether the nodes promise anything.
    """

    def __init__(self, backend: Backend, lists: Lists, *, keeps: bool, seed: int = 7) -> None:
        self._backend = backend
        self._lists = lists
        self._keeps = keeps
        self._rng = Random(seed)
        self._values = count(1)
        self._names = [f"{'kept' if keeps else 'open'}{n}" for n in range(LISTS)]
        self._stack = AsyncExitStack()
        self._rigs: list[ProxyRig] = []
        self._is_over = False
        self.seen = Seen()

    async def __aenter__(self) -> ConsistencyWorld:
        instances = {region: [await self._serve(region)] for region in NEAREST}
        catalog = make_catalog(
            instances,
            consistency=TERMS if self._keeps else None,
            reads_nearest=frozenset({"db"}),
        )
        nowhere = make_topology(dict.fromkeys(NEAREST))
        for region in NEAREST:
            guide = await self._guide(region)
            rig = ProxyRig(catalog, nowhere, region=region, guide=guide)
            self._rigs.append(await self._stack.enter_async_context(rig))
        self._connect(catalog)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run(self, trouble: Callable[[Wait], object], pace: float, least: int) -> Seen:
        """Let clients read and append while `trouble` runs in a thread, and look once more.

        Args:
            pace: time that its `Wait` takes, s, and
            least: requests that are over by then.
        """

        def go_on() -> None:
            before = len(self.seen.history)
            time.sleep(pace)
            soon(lambda: len(self.seen.history) >= before + least)

        async with asyncio.TaskGroup() as group:
            for session in range(CLIENTS):
                group.create_task(self._live(session))
            try:
                await asyncio.to_thread(trouble, go_on)
            finally:
                self._is_over = True
        for name in self._names:
            text = await self._lists.read(self._lists.primary, name)
            self.seen.history.append(ListOp(-1, name, shown=_values(text)))
        for rig in self._rigs:
            for outcome in ("fresh", "waited", "moved", "primary"):
                labels = {"outcome": outcome}
                value = rig.metrics.registry.get_sample_value("onetrip_consistency_total", labels)
                self.seen.outcomes[outcome] += int(value or 0)
        return self.seen

    async def _serve(self, region: RegionId) -> Endpoint:
        runner = web.AppRunner(list_application(self._lists, NEAREST[region]))
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return Endpoint("127.0.0.1", int(runner.addresses[0][1]))

    async def _guide(self, region: RegionId) -> FakeGuide:
        monitor = ReplicationMonitor(MonotonicClock(), self._rng)
        await monitor.follow([self._backend])
        self._stack.push_async_callback(monitor.close)
        return _Guide(monitor, {"db": NEAREST[region]})

    def _connect(self, catalog: Catalog) -> None:
        topology = make_topology(
            {region: rig.endpoint for region, rig in zip(NEAREST, self._rigs, strict=True)}
        )
        for region, rig in zip(NEAREST, self._rigs, strict=True):
            (other,) = set(NEAREST) - {region}
            placement = Placement(Status.PLACED, (region, other), region, 0.0, other, AWAY)
            rig.server.update(catalog, topology)
            rig.server.snapshot = PlacementSnapshot(region, 1, {}, {SHOP: placement})

    async def _live(self, session: int) -> None:
        token = ""
        while not self._is_over:
            rig = self._rng.choice(self._rigs)
            key = self._rng.choice(self._names)
            value = next(self._values) if self._rng.random() < APPENDS else 0
            status, text, answer = await self._ask(rig, key, value, token)
            token = answer or token
            is_answered = status == 200
            if not is_answered:
                self.seen.failures[status] += 1
            shown = _values(text) if is_answered and not value else ()
            self.seen.history.append(ListOp(session, key, value, shown, is_answered))
            await asyncio.sleep(0)

    async def _ask(self, rig: ProxyRig, key: str, value: int, token: str) -> tuple[int, str, str]:
        path = f"/lists/{key}/{value}" if value else f"/lists/{key}"
        headers = {"Host": "shop.test"} | ({"onetrip-consistency": token} if token else {})
        url = f"http://127.0.0.1:{rig.port}{path}"
        try:
            asking = self._session.request("POST" if value else "GET", url, headers=headers)
            async with asking as reply:
                text = await reply.text()
                return reply.status, text, reply.headers.get("onetrip-consistency", "")
        except aiohttp.ClientError:
            return 0, "", ""


def backend_of(kind: BackendKind, ports: list[int], user: str, password: str) -> Backend:
    """Return a group of servers as the backend `db`, the primary first."""
    primary, *others = (Endpoint("127.0.0.1", port) for port in ports)
    replicas = tuple(Replica(f"db/r{n}", each) for n, each in enumerate(others, 1))
    access = ReplicationAccess(user, password)
    return Backend("db", kind, primary, replicas=replicas, replication=access)


def _values(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(",")) if text else ()
