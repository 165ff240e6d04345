"""The loop around the placer: deployments, and new code that a peer noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onetrip.app.scoring import Scorer
from onetrip.app.vetting import Vetting
from onetrip.cluster.messages import CodeChange, Report
from onetrip.cluster.state import ClusterState
from onetrip.estimate.filters import RttBook
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Instance,
    Mode,
    Policy,
    Project,
)
from onetrip.model.measure import (
    Arm,
    MethodClass,
    Observation,
    RouteKey,
    Sample,
    SampleKind,
    Target,
    TargetKind,
)
from onetrip.model.replica import Replica
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.claims import estimate
from support.clock import VirtualClock

DEN, BOM = RegionId("den"), RegionId("bom")
ENV = EnvironmentId("shop", "production")
KEY = RouteKey(ENV, "/orders/{id}", MethodClass.READ)


def catalog(deployment: str, share: float = 1.0) -> Catalog:
    instances = tuple(Instance(region, Endpoint("127.0.0.1", 80)) for region in (DEN, BOM))
    environment = Environment(
        ENV, ("shop.example",), instances, {"db": "orders"}, deployment=deployment
    )
    project = Project("shop", Policy(mode=Mode.SMART, share=share), {"production": environment})
    orders = Backend("orders", BackendKind.POSTGRES, Endpoint("127.0.0.1", 5432))
    return Catalog({"shop": project}, {"orders": orders})


class Parts:
    """A scorer with what it reads."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.traffic = TrafficBook(DEN)
        self.cluster = ClusterState(DEN, frozenset({DEN, BOM}), 60.0)
        self.topology = Topology({DEN: Region(DEN, "Denver"), BOM: Region(BOM, "Mumbai")})
        self.rtts = RttBook()
        self.vetting = Vetting(
            DEN, 4.0, metrics=Metrics(), log=silent_log(), tell=lambda *event: None
        )
        self.scorer = Scorer(
            DEN,
            rtts=self.rtts,
            traffic=self.traffic,
            cluster=self.cluster,
            vetting=self.vetting,
            clock=self.clock,
            metrics=Metrics(),
            log=silent_log(),
            publish=lambda snapshot: None,
            on_move=lambda move: None,
            on_drift=lambda drift: None,
        )
        self.deploy("v1")

    def deploy(self, label: str) -> None:
        self.scorer.update(self.topology, catalog(label))

    def serve(self, count: int) -> None:
        for _ in range(count):
            at = self.clock.now()
            seen = Observation(KEY, DEN, DEN, Arm.CONTROL, 2.5, 2.4, False, False, at)
            self.scorer.observe(seen)


def test_savings_are_proven_anew_after_a_deployment() -> None:
    parts = Parts()
    parts.serve(10)
    route = parts.traffic.get(KEY)
    assert route is not None
    parts.deploy("v1")
    assert route.trial.moments(Arm.CONTROL).count == 10, "a reload is no deployment"
    parts.deploy("v2")
    assert route.trial.moments(Arm.CONTROL).count == 0
    ((row,),) = parts.traffic.services(parts.clock.now()).values()
    assert row.count == 10, "what was learned survives it"


def test_another_share_begins_the_comparison_anew() -> None:
    parts = Parts()
    parts.serve(10)
    route = parts.traffic.get(KEY)
    assert route is not None
    for share, count in ((1.0, 10), (0.1, 0)):
        parts.scorer.update(parts.topology, catalog("v1", share))
        assert route.trial.moments(Arm.CONTROL).count == count


async def test_new_code_noticed_by_a_peer_is_learned_anew_here() -> None:
    parts = Parts()
    parts.serve(10)
    await parts.clock.advance(50.0)
    parts.serve(3)
    change = CodeChange(KEY, 20.0)
    parts.cluster.merge(Report(BOM, 1.0, 1, code_changes=[change]), parts.clock.now())
    await parts.scorer.run_once()
    ((row,),) = parts.traffic.services(parts.clock.now()).values()
    assert row.count == 3
    await parts.clock.advance(5.0)
    parts.cluster.merge(
        Report(BOM, 1.0, 2, code_changes=[replace(change, age=25.0)]), parts.clock.now()
    )
    await parts.scorer.run_once()
    ((row,),) = parts.traffic.services(parts.clock.now()).values()
    assert row.count == pytest.approx(3)


async def test_reads_are_filed_with_the_rtt_to_the_nearest_endpoint() -> None:
    parts = Parts()
    found = catalog("v1")
    replica = Replica("orders/den", Endpoint("127.0.0.1", 5433))
    orders = replace(found.backends["orders"], replicas=(replica,))
    project = found.projects["shop"]
    near = replace(project.environments["production"], reads_nearest=frozenset({"orders"}))
    project = replace(project, environments={"production": near})
    parts.scorer.update(parts.topology, Catalog({"shop": project}, {"orders": orders}))
    for name, rtt in (("orders", 0.2), ("orders/den", 0.001)):
        target = Target(TargetKind.BACKEND, name)
        parts.rtts.record(Sample(target, rtt, SampleKind.CONNECT, parts.clock.now()))
    await parts.scorer.run_once()
    for method in MethodClass:
        key = KEY._replace(method=method)
        parts.scorer.observe(
            Observation(key, DEN, DEN, Arm.DEFAULT, 0.1, 0.1, False, False, parts.clock.now())
        )
    services = parts.traffic.services(parts.clock.now())
    rtts = {key.method: row.rtts for key, (row,) in services.items()}
    assert rtts[MethodClass.READ] == pytest.approx({"orders": 0.001})
    assert rtts[MethodClass.WRITE] == pytest.approx({"orders": 0.2})
    await parts.scorer.run_once()
    decisions = {d.key.method: d for d in parts.scorer.placer.decisions()}
    endpoints = {m: d.candidates[0].endpoints for m, d in decisions.items()}
    assert endpoints == {MethodClass.READ: ("orders/den",), MethodClass.WRITE: ("orders",)}


async def test_a_lagging_replica_is_not_read_from_and_a_promoted_one_is_written_to() -> None:
    parts = Parts()
    found = catalog("v1")
    here = Endpoint("127.0.0.1", 5433)
    replicas = (Replica("orders/den", here), Replica("orders/fra", replace(here, port=5434)))
    orders = replace(found.backends["orders"], replicas=replicas)
    project = found.projects["shop"]
    near = replace(project.environments["production"], reads_nearest=frozenset({"orders"}))
    project = replace(project, environments={"production": near})
    parts.scorer.update(parts.topology, Catalog({"shop": project}, {"orders": orders}))
    for name, rtt in (("orders", 0.2), ("orders/den", 0.001), ("orders/fra", 0.05)):
        target = Target(TargetKind.BACKEND, name)
        parts.rtts.record(Sample(target, rtt, SampleKind.CONNECT, parts.clock.now()))
    standing: tuple[frozenset[str], dict[str, str]] = (frozenset({"orders/den"}), {})
    parts.scorer.standing = lambda: standing

    async def rtts() -> dict[MethodClass, float]:
        await parts.scorer.run_once()
        parts.traffic.forget({KEY.environment})
        for method in MethodClass:
            key = KEY._replace(method=method)
            at = parts.clock.now()
            seen = Observation(key, DEN, DEN, Arm.DEFAULT, 0.1, 0.1, False, False, at)
            parts.scorer.observe(seen)
        services = parts.traffic.services(parts.clock.now())
        return {key.method: row.rtts["orders"] for key, (row,) in services.items()}

    async def endpoints() -> dict[MethodClass, tuple[str, ...]]:
        await parts.scorer.run_once()
        decisions = {d.key.method: d for d in parts.scorer.placer.decisions()}
        return {m: d.candidates[0].endpoints for m, d in decisions.items()}

    read, write = MethodClass.READ, MethodClass.WRITE
    assert await rtts() == pytest.approx({read: 0.05, write: 0.2})
    assert await endpoints() == {read: ("orders/fra",), write: ("orders",)}
    standing = (frozenset(), {"orders": "orders/fra"})
    assert await rtts() == pytest.approx({read: 0.001, write: 0.05})
    assert await endpoints() == {read: ("orders/den",), write: ("orders/fra",)}
    # An endpoint that a reload took away meanwhile must not stop the scoring.
    standing = (frozenset({"orders/gone"}), {"orders": "orders/gone", "gone": "orders"})
    assert await rtts() == pytest.approx({read: 0.001, write: 0.2})


async def test_calls_of_another_project_are_filed_with_what_they_take_and_learned() -> None:
    parts, stock = Parts(), EnvironmentId("stock", "production")
    base = catalog("1")
    shop = base.projects["shop"].environments["production"]
    instances = shop.instances
    called = Environment(stock, ("stock.example",), instances, {"db": "orders"})
    caller = replace(shop, bindings={}, calls={"stock": stock})
    both = {
        "shop": replace(base.projects["shop"], environments={"production": caller}),
        "stock": Project("stock", Policy(), {"production": called}),
    }
    parts.scorer.update(parts.scorer.topology, replace(base, projects=both))
    parts.rtts.record(
        Sample(Target(TargetKind.BACKEND, "orders"), 0.2, SampleKind.CONNECT, parts.clock.now())
    )
    await parts.scorer.run_once()
    inner = RouteKey(stock, "/", MethodClass.READ)
    for key, service in ((inner, 0.410), (KEY, 4 * 0.410 + 0.002)):
        for _ in range(30):
            at = parts.clock.now()
            seen = Observation(key, DEN, DEN, Arm.DEFAULT, service, service, False, False, at)
            parts.scorer.observe(seen)
        await parts.scorer.run_once()
    name = "call stock/production"
    (summary,) = parts.traffic.services(parts.clock.now())[KEY]
    assert summary.rtts == {name: pytest.approx(0.410, rel=0.05)}
    (decision,) = parts.scorer.placer.decisions([KEY])
    assert list(decision.trips.round_trips) == [name]


async def test_a_claim_that_cannot_be_true_is_not_scored() -> None:
    parts = Parts()
    parts.scorer.update(parts.topology, catalog("1"))
    now = parts.clock.now()
    for kind, name, rtt in ((TargetKind.BACKEND, "orders", 0.229), (TargetKind.PEER, BOM, 0.010)):
        parts.rtts.record(Sample(Target(kind, name), rtt, SampleKind.CONNECT, now))
    # 229 ms from here, Mumbai 10 ms from here, and 1 ms from Mumbai?
    claim = estimate(TargetKind.BACKEND, "orders", 0.001)
    parts.cluster.merge(Report(BOM, 1.0, 1, rtts=[claim]), now)
    await parts.scorer.run_once()
    assert parts.scorer.matrix is not None
    assert parts.scorer.matrix.to_backend(BOM, "orders") == pytest.approx(0.239)
    assert parts.scorer.matrix.backend_is_stale.tolist() == [[False], [True]]
