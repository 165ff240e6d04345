"""What a node probes, from the topology and the catalog."""

from dataclasses import replace

from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Forwarding,
    Instance,
    Policy,
    Project,
)
from onetrip.model.measure import Target, TargetKind
from onetrip.model.replica import Replica
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.probe.specs import PING_PATH, ProbeSpec, SpecTable, instance_target, specs_for

DEN, BOM, FRA = RegionId("den"), RegionId("bom"), RegionId("fra")

TOPOLOGY = Topology(
    {
        DEN: Region(DEN, "Denver", proxy=Endpoint("10.0.0.1", 8080)),
        BOM: Region(BOM, "Mumbai", proxy=Endpoint("10.0.0.2", 8080)),
        FRA: Region(FRA, "Frankfurt"),
    }
)


def environment(name: str, hosts: tuple[str, ...], *instances: Instance) -> Environment:
    return Environment(
        EnvironmentId("shop", name), hosts, instances, bindings={}, health_path="/healthz"
    )


def catalog(*environments: Environment) -> Catalog:
    backends = {
        "orders": Backend("orders", BackendKind.POSTGRES, Endpoint("db.bom", 5432)),
        "rates": Backend("rates", BackendKind.HTTP, Endpoint("r", 443, "rates.example"), "/up"),
    }
    project = Project("shop", Policy(), {e.id.environment: e for e in environments})
    return Catalog({"shop": project}, backends)


def by_target(specs: list[ProbeSpec]) -> dict[Target, ProbeSpec]:
    assert len({spec.target for spec in specs}) == len(specs)
    return {spec.target: spec for spec in specs}


def test_peers_are_the_other_regions_that_have_a_node() -> None:
    specs = by_target(specs_for(TOPOLOGY, Catalog(), DEN))
    assert list(specs) == [Target(TargetKind.PEER, "bom")]
    peer = specs[Target(TargetKind.PEER, "bom")]
    assert (peer.kind, peer.path) == (BackendKind.HTTP, PING_PATH)
    assert peer.endpoint == Endpoint("10.0.0.2", 8080)
    assert peer.host_header == "10.0.0.2:8080"
    assert not peer.is_health_check


def test_backends_are_probed_by_their_kind() -> None:
    specs = by_target(specs_for(TOPOLOGY, catalog(), DEN))
    orders = specs[Target(TargetKind.BACKEND, "orders")]
    assert orders.kind is BackendKind.POSTGRES
    rates = specs[Target(TargetKind.BACKEND, "rates")]
    assert (rates.kind, rates.path, rates.host_header) == (BackendKind.HTTP, "/up", "rates.example")
    assert not rates.is_health_check


def test_each_replica_is_probed_like_its_primary_under_its_own_name() -> None:
    replica = Replica("orders/den", Endpoint("db.den", 5433))
    orders = Backend("orders", BackendKind.POSTGRES, Endpoint("db.bom", 5432), replicas=(replica,))
    specs = by_target(specs_for(TOPOLOGY, Catalog({}, {"orders": orders}), DEN))
    primary = specs[Target(TargetKind.BACKEND, "orders")]
    spec = specs[Target(TargetKind.BACKEND, "orders/den")]
    assert (primary.endpoint.host, spec.endpoint) == ("db.bom", replica.endpoint)
    assert (spec.kind, spec.tls) == (primary.kind, primary.tls)
    assert spec.host_header == "db.den:5433"


def test_instances_of_every_region_get_a_health_check() -> None:
    here, there = Instance(DEN, Endpoint("10.0.0.1", 9000)), Instance(BOM, Endpoint("10.0.0.2", 9))
    specs = by_target(
        specs_for(TOPOLOGY, catalog(environment("p", ("a.x", "b.x"), here, there)), DEN)
    )
    assert instance_target(there) == Target(TargetKind.INSTANCE, "10.0.0.2:9")
    for instance in (here, there):
        spec = specs[instance_target(instance)]
        assert spec.is_health_check
        assert (spec.kind, spec.path, spec.host_header) == (BackendKind.HTTP, "/healthz", "a.x")
        assert not spec.needs_success


def test_declared_health_path_needs_a_success() -> None:
    here = Instance(DEN, Endpoint("10.0.0.1", 9000))
    declared = replace(environment("p", ("a.x",), here), needs_healthy_answer=True)
    assert by_target(specs_for(TOPOLOGY, catalog(declared), DEN))[
        instance_target(here)
    ].needs_success


def test_endpoint_of_two_environments_is_probed_once() -> None:
    shared = Instance(DEN, Endpoint("10.0.0.1", 9000))
    both = catalog(environment("p", ("a.x",), shared), environment("q", ("b.x",), shared))
    specs = by_target(specs_for(TOPOLOGY, both, DEN))
    assert specs[instance_target(shared)].host_header == "a.x"


def test_wildcard_host_becomes_one_that_it_matches() -> None:
    instance = Instance(DEN, Endpoint("10.0.0.1", 9000))
    specs = by_target(specs_for(TOPOLOGY, catalog(environment("p", ("*.x.y",), instance)), DEN))
    assert specs[instance_target(instance)].host_header == "probe.x.y"


def fleet(*, direct: bool = False) -> tuple[Topology, Catalog]:
    """Denver and three regions: one with a node, one whose node shares nothing, one without."""
    ams, nrt = RegionId("ams"), RegionId("nrt")
    topology = Topology(
        {
            DEN: Region(DEN, "Denver", proxy=Endpoint("10.0.0.1", 80), peer=Endpoint("p1", 81)),
            BOM: Region(BOM, "Mumbai", proxy=Endpoint("10.0.0.2", 80), peer=Endpoint("p2", 81)),
            ams: Region(ams, "Amsterdam", proxy=Endpoint("10.0.0.3", 80)),
            nrt: Region(nrt, "Tokyo"),
            FRA: Region(FRA, "Frankfurt"),
        }
    )
    instances = [Instance(r, Endpoint(f"{r}.test", 9)) for r in (DEN, BOM, ams, nrt)]
    near = replace(environment("p", ("a.x",), *instances), bindings={"db": "orders"})
    away = replace(environment("q", ("b.x",), *instances[1:]), bindings={"db": "rates"})
    made = catalog(near, away)
    if direct:
        policy = Policy(forwarding=Forwarding.DIRECT)
        made = replace(made, projects={"shop": replace(made.projects["shop"], policy=policy)})
    return topology, made


def test_own_probes_are_those_of_what_runs_here() -> None:
    table = SpecTable(*fleet(), DEN)
    names = {spec.target.name for spec in table.own}
    assert names == {"orders", "den.test:9"}, "the region's own instances, and their backends"


def test_region_is_probed_as_a_whole_only_where_nobody_else_tells_of_it() -> None:
    table = SpecTable(*fleet(), DEN)
    told = {region: {s.target.name for s in specs} for region, specs in table.remote.items()}
    assert told == {
        BOM: {"bom"},
        RegionId("ams"): {"ams", "ams.test:9"},
        RegionId("nrt"): {"nrt.test:9"},
    }, "Frankfurt has nothing to probe"


def test_instances_that_are_forwarded_to_directly_come_with_their_region() -> None:
    table = SpecTable(*fleet(direct=True), DEN)
    assert {s.target.name for s in table.remote[BOM]} == {"bom", "bom.test:9"}


def test_only_chosen_regions_are_probed_and_shared_endpoints_once() -> None:
    table = SpecTable(*fleet(direct=True), DEN)
    assert set(by_target(table.specs([]))) == {spec.target for spec in table.own}
    chosen = by_target(table.specs([BOM, FRA]))
    assert chosen.keys() - {spec.target for spec in table.own} == {
        Target(TargetKind.PEER, "bom"),
        Target(TargetKind.INSTANCE, "bom.test:9"),
    }
