"""What a node of a large cluster probes, and how that follows its placements."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from onetrip.app.probing import Probing
from onetrip.app.scoring import Scorer
from onetrip.app.vetting import Vetting
from onetrip.cluster.messages import Report
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
    RouteRule,
)
from onetrip.model.measure import (
    Arm,
    EstimateState,
    MethodClass,
    Observation,
    RouteKey,
    RttEstimate,
    Sample,
    SampleKind,
    Target,
    TargetKind,
)
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.net.dial import TcpDialer
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from onetrip.probe.peers import KEPT, SHORTLIST
from onetrip.probe.plan import ProbeSettings
from onetrip.probe.runner import ProbeRunner
from support.clock import VirtualClock

COUNT = 60
REGIONS = [RegionId(f"r{number:02}") for number in range(COUNT)]
OWN, HOME = REGIONS[0], REGIONS[-1]
ENV = EnvironmentId("shop", "production")
KEY = RouteKey(ENV, "/orders", MethodClass.READ)
SILENT_AFTER = 5.0


def topology(count: int = COUNT) -> Topology:
    def region(number: int) -> Region:
        name, address = REGIONS[number], f"10.0.0.{number}"
        return Region(name, name, proxy=Endpoint(address, 80), peer=Endpoint(address, 81))

    return Topology({REGIONS[number]: region(number) for number in range(count)})


def catalog(count: int = COUNT) -> Catalog:
    instances = tuple(Instance(r, Endpoint(f"{r}.test", 9000)) for r in REGIONS[:count])
    rule = RouteRule("/orders", round_trips={"db": 5.0})
    environment = Environment(ENV, ("shop.test",), instances, {"db": "orders"}, rules=(rule,))
    project = Project("shop", Policy(mode=Mode.SMART), {"production": environment})
    orders = Backend("orders", BackendKind.POSTGRES, Endpoint("db.test", 5432))
    return Catalog({"shop": project}, {"orders": orders})


def rtt(a: int, b: int) -> float:
    """Regions on a line, 5 ms from one to the next."""
    return 0.005 * abs(a - b) + 0.001


def peer(region: RegionId) -> Target:
    return Target(TargetKind.PEER, region)


class Fleet:
    """One node among sixty, whose prober is told what to probe and is answered at once."""

    def __init__(self, count: int = COUNT) -> None:
        self.clock = VirtualClock()
        self.metrics = Metrics()
        self.rtts = RttBook()
        self.traffic = TrafficBook(OWN)
        self.cluster = ClusterState(OWN, frozenset(REGIONS[:count]), SILENT_AFTER)
        self.scorer = Scorer(
            OWN,
            rtts=self.rtts,
            traffic=self.traffic,
            cluster=self.cluster,
            vetting=Vetting(
                OWN, 4.0, metrics=self.metrics, log=silent_log(), tell=lambda *event: None
            ),
            clock=self.clock,
            metrics=self.metrics,
            log=silent_log(),
            publish=lambda snapshot: None,
            on_move=lambda move: None,
            on_drift=lambda drift: None,
        )
        rng = Random(2)
        self.prober = ProbeRunner(
            OWN,
            TcpDialer(),
            self.clock,
            rng,
            self.metrics,
            silent_log(),
            ProbeSettings(),
            lambda sample: None,
            lambda target, error: None,
        )
        self.probing = Probing(
            OWN,
            prober=self.prober,
            scorer=self.scorer,
            rtts=self.rtts,
            cluster=self.cluster,
            clock=self.clock,
            rng=rng,
            metrics=self.metrics,
        )
        self.dead: set[RegionId] = set()
        self.seq = 0
        self.apply(count)

    def apply(self, count: int, peers: int | None = None) -> None:
        self.scorer.update(topology(count), catalog(count))
        self.probing.update(topology(count), catalog(count), peers)

    def peers(self) -> set[RegionId]:
        return {RegionId(t.name) for t in self.prober.targets if t.kind is TargetKind.PEER}

    async def run(self, rounds: int, step: float = 1.0) -> None:
        """Probe, hear the others and score, again and again."""
        for _ in range(rounds):
            self.clock.step(step)
            self.answer()
            self.report()
            await self.scorer.run_once()

    def answer(self) -> None:
        now = self.clock.now()
        for target in self.prober.targets:
            if target.kind is TargetKind.INSTANCE:
                continue
            is_peer = target.kind is TargetKind.PEER
            name = RegionId(target.name) if is_peer else HOME
            if is_peer and name in self.dead:
                self.rtts.fail(target, now)
            else:
                true = rtt(0, REGIONS.index(name))
                self.rtts.record(Sample(target, true, SampleKind.HTTP, now))

    def report(self) -> None:
        self.seq += 1
        for number, region in enumerate(REGIONS):
            if region == OWN or region in self.dead:
                continue
            # Each measured some of the others, and the database.
            others = [n for n in range(1, COUNT) if abs(n - number) in (1, 2, 3, 7, 17, 37)]
            rows = [(peer(REGIONS[n]), rtt(number, n)) for n in others]
            rows.append((Target(TargetKind.BACKEND, "orders"), rtt(number, COUNT - 1)))
            told = [
                RttEstimate(target, time, time, 0.001, 9, 0, 0.1, EstimateState.FRESH)
                for target, time in rows
            ]
            self.cluster.merge(Report(region, 1.0, self.seq, rtts=told), self.clock.now())

    def serve(self, count: int) -> None:
        for _ in range(count):
            now = self.clock.now()
            seen = Observation(KEY, OWN, OWN, Arm.DEFAULT, 1.6, 1.5, False, False, now)
            self.scorer.observe(seen)


async def test_small_cluster_is_probed_whole() -> None:
    fleet = Fleet(count=31)
    await fleet.run(2)
    assert fleet.peers() == set(REGIONS[1:31])
    assert fleet.scorer.placer.guesses is None
    kinds = [target.kind for target in fleet.prober.targets]
    assert kinds.count(TargetKind.INSTANCE) == 31, "and so are the instances of all regions"
    told = fleet.metrics.registry.get_sample_value("onetrip_probe_peers", {"part": "all"})
    assert told == 30


async def test_large_cluster_is_probed_in_part_and_the_own_region_whole() -> None:
    fleet = Fleet()
    await fleet.run(3)
    kinds = [target.kind for target in fleet.prober.targets]
    assert kinds.count(TargetKind.PEER) <= 16 + SHORTLIST
    assert [t for t in fleet.prober.targets if t.kind is TargetKind.BACKEND] == [
        Target(TargetKind.BACKEND, "orders")
    ]
    assert [t.name for t in fleet.prober.targets if t.kind is TargetKind.INSTANCE] == [
        f"{OWN}.test:9000"
    ]
    assert set(REGIONS[1:5]) <= fleet.peers(), "its neighbours are among them"
    value = fleet.metrics.registry.get_sample_value
    assert value("onetrip_probe_peers", {"part": "near"}) == 8
    assert value("onetrip_probe_peers", {"part": "far"}) == 8


async def test_region_is_measured_before_a_route_moves_there() -> None:
    fleet = Fleet()
    await fleet.run(3)
    fleet.serve(20)
    for _ in range(30):
        before = fleet.peers()
        await fleet.run(1)
        placement = fleet.scorer.placer.snapshot.routes[KEY]
        if placement.regions[0] != OWN:
            break
    assert placement.regions[0] == HOME
    assert HOME in before


async def test_region_that_a_project_is_pinned_to_is_probed_before_its_first_request() -> None:
    fleet = Fleet()
    pinned = next(r for r in REGIONS[1:] if r not in fleet.peers())
    made = catalog()
    policy = replace(made.projects["shop"].policy, hint=pinned)
    made = replace(made, projects={"shop": replace(made.projects["shop"], policy=policy)})
    fleet.probing.update(topology(), made, None)
    assert pinned in fleet.peers()


@pytest.mark.parametrize("count", [31, COUNT])
async def test_what_placement_is_told_to_do_changes_no_probe_but_that_of_a_hint(count: int) -> None:
    fleet, same = Fleet(count), topology(count)
    fleet.probing.update(same, catalog(count), None)
    probed = fleet.prober.targets
    other = next((r for r in REGIONS[1:count] if r not in fleet.peers()), REGIONS[1])
    shop = catalog(count).projects["shop"]
    for policy, added in (
        (Policy(mode=Mode.OFF), frozenset[Target]()),
        (Policy(hint=other), {peer(other)}),
    ):
        told = replace(catalog(count), projects={"shop": replace(shop, policy=policy)}, version=7)
        fleet.probing.update(same, told, None)
        assert fleet.prober.targets == probed | added
    # Anything else does: here an instance that nobody had.
    environment = shop.environments["production"]
    more = replace(environment, instances=(Instance(OWN, Endpoint("new.test", 1)),))
    new = replace(shop, environments={"production": more})
    fleet.probing.update(same, replace(catalog(count), projects={"shop": new}), None)
    assert Target(TargetKind.INSTANCE, "new.test:1") in fleet.prober.targets
    # And where the regions are, also with the same projects.
    fleet.probing.update(topology(9), replace(catalog(count), projects={"shop": new}), None)
    assert fleet.peers() == set(REGIONS[1:9])


async def test_region_in_use_stays_probed_and_others_make_room() -> None:
    fleet = Fleet()
    await fleet.run(3)
    fleet.serve(20)
    for _ in range(40):
        await fleet.run(1, step=10.0)
        fleet.serve(1)
    assert HOME in fleet.peers()
    assert len(fleet.peers()) < 16 + SHORTLIST


async def test_last_rtt_of_a_dropped_peer_is_kept_for_a_while_and_a_failing_one_is_not() -> None:
    fleet = Fleet()
    await fleet.run(3)
    dropped, failing = sorted(set(REGIONS[1:]) - fleet.peers())[:2]
    now = fleet.clock.now()
    fleet.rtts.record(Sample(peer(dropped), 0.1, SampleKind.HTTP, now))
    for _ in range(3):
        fleet.rtts.fail(peer(failing), now)
    fleet.apply(COUNT)
    kept = fleet.rtts.estimates(now)
    assert peer(dropped) in kept
    assert peer(failing) not in kept
    fleet.clock.step(KEPT)
    fleet.apply(COUNT)
    if dropped not in fleet.peers():
        assert peer(dropped) not in fleet.rtts.estimates(fleet.clock.now())


async def test_silent_region_that_is_not_probed_takes_no_requests_until_it_is_heard_again() -> None:
    fleet = Fleet()
    await fleet.run(3)
    gone = next(r for r in REGIONS[20:] if r not in fleet.peers())
    assert gone in fleet.scorer.placer.snapshot.environments[ENV].regions
    fleet.dead.add(gone)
    await fleet.run(8)
    assert gone not in fleet.peers()
    assert gone not in fleet.scorer.placer.snapshot.environments[ENV].regions
    assert fleet.probing.is_silent(peer(gone))
    assert fleet.probing.silent() == {peer(gone)}
    fleet.dead.clear()
    await fleet.run(2)
    assert gone in fleet.scorer.placer.snapshot.environments[ENV].regions
    assert fleet.probing.silent() == frozenset()


async def test_number_of_peers_can_be_changed_by_a_reload() -> None:
    fleet = Fleet()
    await fleet.run(3)
    fleet.apply(COUNT, peers=59)
    assert fleet.peers() == set(REGIONS[1:])
    assert fleet.scorer.placer.guesses is None
    fleet.apply(COUNT, peers=20)
    await fleet.run(2)
    assert 20 <= len(fleet.peers()) <= 20 + SHORTLIST
    assert fleet.scorer.placer.guesses is not None


async def test_node_alone_probes_a_few_peers_and_waits_to_hear_of_the_rest() -> None:
    fleet = Fleet()
    assert len(fleet.peers()) == 16
    absence = fleet.scorer.absence
    assert absence.unheard == set(REGIONS[1:]) - fleet.peers()
    assert absence == replace(absence, silent=frozenset())
