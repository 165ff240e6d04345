"""Rounds of questions: who is asked, what peers add, and what is told of it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest

from onetrip.app.replication_watch import FIND_INTERVAL, ReplicationWatch
from onetrip.cluster.messages import EndpointRow, Report
from onetrip.cluster.state import ClusterState
from onetrip.errors import Kind, ReplicationError
from onetrip.model.catalog import Backend, BackendKind, Catalog
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.replication import NOTHING, Role, lsn, offsets
from onetrip.model.topology import Endpoint, RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.probe.replication import ReplicationMonitor
from onetrip.probe.replication_base import Look, SeenReplica
from onetrip.tasks import Tasks
from support.clock import VirtualClock

DEN, BOM = RegionId("den"), RegionId("bom")
NAMES = ("db", "db/a", "db/b", "db/c", "db/d")
PLACES = {name: Endpoint("10.1.0.9", 5000 + n) for n, name in enumerate(NAMES)}
ACCESS = ReplicationAccess("u", "p", interval=1.0, max_lag=4.0)


def backend(access: ReplicationAccess = ACCESS, *replicas: str) -> Backend:
    return Backend(
        "db",
        BackendKind.POSTGRES,
        PLACES["db"],
        replicas=tuple(
            Replica(n, PLACES[n], DEN if n == "db/d" else None) for n in replicas or NAMES[1:]
        ),
        replication=access,
    )


class World:
    """A watch over databases that say what a test tells them to.

    Attributes:
        looks: what each endpoint says; one that is missing does not answer.
        asked: the endpoints asked since the last round.
    """

    def __init__(self, declared: Backend | None = None) -> None:
        self.clock = VirtualClock()
        self.cluster = ClusterState(DEN, frozenset({DEN, BOM}), 60.0)
        self.looks: dict[str, Look | ReplicationError] = {
            "db": Look(Role.PRIMARY, lsn(100), lsn(100))
        }
        self.looks |= {name: Look(Role.REPLICA, lsn(100)) for name in NAMES[1:]}
        self.seen: list[SeenReplica] = []
        self.asked: list[str] = []
        self.rtts: dict[Target, RttEstimate] = {}
        self.told: list[tuple[str, str, str]] = []
        self.found = 0
        self.metrics = Metrics()
        self.text = io.StringIO()
        self.watch = ReplicationWatch(
            DEN,
            rtts=lambda: self.rtts,
            cluster=self.cluster,
            clock=self.clock,
            rng=Random(2),
            metrics=self.metrics,
            log=Log(self.text, "info", self.clock.wall),
            tell=lambda *event: self.told.append(event),
            tasks=Tasks(lambda name, error: None),
            on_found=self.on_found,
            monitor=ReplicationMonitor(self.clock, Random(2), self.make),
        )
        self.catalog = Catalog({}, {"db": declared or backend()})

    def on_found(self) -> None:
        self.found += 1
        self.watch.follow(self.watch.with_found(self.catalog))

    def make(self, backend: Backend, endpoint: Endpoint) -> Client:
        known = {place: name for name, place in PLACES.items()}
        return Client(self, known.get(endpoint, str(endpoint)))

    def near(self, **rtts: float) -> None:
        """Let this node have RTTs to replicas, by the last part of their names."""
        for name, rtt in rtts.items():
            target = Target(TargetKind.BACKEND, f"db/{name}")
            state = EstimateState.FRESH
            self.rtts[target] = RttEstimate(target, rtt, rtt, 0.0, 9, 0, 1.0, state)

    async def round(self) -> set[str]:
        """Have one round; give who was asked."""
        self.clock.step(1.0)
        self.asked.clear()
        await self.watch.look("db")
        return set(self.asked)

    def samples(self, metric: str) -> Mapping[str, float]:
        found = self.metrics.registry.collect()
        return {
            s.labels["endpoint"]: s.value
            for each in found
            for s in each.samples
            if s.name == metric
        }

    def logged(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.text.getvalue().splitlines()]


class Client:
    """Says what its world says of its endpoint."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name

    async def look(self, timeout: float) -> Look:
        self.world.asked.append(self.name)
        found = self.world.looks.get(self.name, ReplicationError("no answer"))
        if isinstance(found, ReplicationError):
            raise found
        return found

    async def replicas(self, timeout: float) -> list[SeenReplica]:
        return self.world.seen

    async def close(self) -> None:
        pass


@pytest.fixture
async def world() -> World:
    world = World()
    await world.watch.monitor.follow([world.catalog.backends["db"]])
    world.watch.follow(world.catalog)
    return world


async def test_a_node_asks_the_primary_those_of_its_region_and_the_two_nearest(
    world: World,
) -> None:
    assert await world.round() == set(NAMES), "nobody says yet who is the primary"
    world.near(a=0.3, b=0.001, c=0.02)
    assert await world.round() == {"db", "db/b", "db/c", "db/d"}
    del world.looks["db"]
    await world.round()
    assert await world.round() >= set(NAMES) - {"db"}, "the primary is looked for"
    await world.watch.close()


async def test_lag_is_told_once_and_metrics_follow(world: World) -> None:
    await world.round()
    world.looks["db/a"] = Look(Role.REPLICA, lsn(48), told=9.0)
    world.looks["db"] = Look(Role.PRIMARY, lsn(200), lsn(200))
    world.looks["db/b"] = Look(Role.REPLICA, lsn(200))
    for _ in range(3):
        await world.round()
    assert world.watch.book.lagging >= {"db/a"}
    (event,) = [each for each in world.told if each[1] == "db/a"]
    assert event[0] == "probe.replica_lagging"
    assert "at most 4 s are allowed" in event[2]
    fresh = world.samples("onetrip_probe_replica_fresh")
    assert (fresh["db/a"], fresh["db/b"]) == (0, 1)
    assert world.samples("onetrip_probe_replica_lag_seconds")["db/b"] == 0
    assert world.samples("onetrip_probe_replica_lag_bytes")["db/a"] == 152
    world.looks["db/a"] = Look(Role.REPLICA, NOTHING, told=9.0)
    await world.round()
    assert "db/a" not in world.samples("onetrip_probe_replica_lag_bytes"), "not known any more"
    world.catalog = Catalog({}, {"db": backend(ACCESS, "db/b")})
    world.watch.follow(world.catalog)
    await world.watch.monitor.follow([world.catalog.backends["db"]])
    await world.round()
    assert set(world.samples("onetrip_probe_replica_fresh")) == {"db", "db/b"}
    world.watch.follow(Catalog({}, {}))
    assert not world.samples("onetrip_probe_replica_fresh")
    await world.watch.close()


async def test_what_peers_were_told_counts_where_it_is_newer(world: World) -> None:
    del world.looks["db/a"]
    await world.round()
    assert world.watch.statuses()[1].state is not None
    row = EndpointRow("db/a", Role.REPLICA, "0/20", 9.0, 80, age=0.5)
    world.cluster.merge(Report(BOM, 1.0, 1, endpoints=[row]), world.clock.now())
    await world.round()
    status = world.watch.statuses()[1]
    assert status.state is not None
    assert (status.state.lag, status.state.problem) == (9.0, "no answer")
    assert not status.is_read
    # It is not told on as this node's own word.
    assert "db/a" not in {row.endpoint for row in world.watch.rows()}
    await world.watch.close()


async def test_offsets_of_redis_are_not_told_to_peers_of_versions_that_refuse_them(
    world: World,
) -> None:
    world.looks["db"] = Look(Role.PRIMARY, offsets(("a" * 40, 7)))
    await world.round()
    rows = {row.endpoint: row.position for row in world.watch.rows()}
    assert (rows["db"], rows["db/a"]) == ("", "0/64")
    await world.watch.close()


async def test_a_promotion_that_a_peer_saw_moves_the_primary_here(world: World) -> None:
    await world.round()
    row = EndpointRow("db/c", Role.PRIMARY, "0/90", 0.0, 0, timeline=2)
    world.cluster.merge(Report(BOM, 1.0, 1, endpoints=[row]), world.clock.now() + 1.0)
    world.looks["db/c"] = Look(Role.PRIMARY, lsn(0x90), lsn(0x90), timeline=2)
    await world.round()
    assert world.watch.book.moved == {"db": "db/c"}
    assert ("probe.primary_moved", "db/c", "was db") in world.told
    assert await world.watch.monitor.position("db") == lsn(0x90)
    await world.watch.close()


async def test_a_refused_account_is_told_once_until_it_is_mended(world: World) -> None:
    good = world.looks["db"]
    world.looks["db"] = ReplicationError("backends.db.replication.password: no", kind=Kind.DENIED)
    for _ in range(3):
        await world.round()
    told = [each for each in world.told if each[0] == "probe.replica_silent"]
    assert told == [("probe.replica_silent", "db", "backends.db.replication.password: no")]
    assert not world.watch.book.moved
    world.looks["db"] = good
    for _ in range(40):
        await world.round()
    assert not world.watch.statuses()[0].state.problem  # type: ignore[union-attr]
    await world.watch.close()


async def test_replicas_are_looked_for_now_and_then_and_become_endpoints() -> None:
    access = replace(ACCESS, discover=((BOM, ("10.1.0.0/16",)),))
    declared = Backend("db", BackendKind.POSTGRES, PLACES["db"], replication=access)
    world = World(declared)
    await world.watch.monitor.follow([declared])
    world.watch.follow(world.catalog)
    await world.round()
    assert world.found == 0
    world.seen = [SeenReplica("a", "10.1.0.9", 5001), SeenReplica("x", "10.9.0.1", 1)]
    await world.round()
    assert world.found == 0, "not yet"
    world.clock.step(FIND_INTERVAL)
    await world.round()
    assert world.found == 1
    extended = world.watch.with_found(world.catalog).backends["db"]
    assert extended.places == {"db": None, "db/a": BOM}
    status = world.watch.statuses()[1]
    assert (status.endpoint, status.region, status.is_discovered) == ("db/a", BOM, True)
    assert "probe.replicas_changed" in world.logged()
    await world.watch.close()
