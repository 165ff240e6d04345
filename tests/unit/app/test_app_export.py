"""The gauges after a round: what is measured now, and nothing that is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onetrip.app.export import MAX_SAVINGS, Exporter
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import (
    EstimateState,
    MethodClass,
    RouteKey,
    RttEstimate,
    Target,
    TargetKind,
)
from onetrip.model.placement import Placement, PlacementSnapshot, Saving, Status
from onetrip.model.status import PeerStatus
from onetrip.model.topology import RegionId
from onetrip.observe.metrics import Metrics
from onetrip.observe.series import OTHER
from onetrip.place.placer import RouteInput

DEN, BOM = RegionId("den"), RegionId("bom")
KEY = RouteKey(EnvironmentId("shop", "production"), "/orders/{id}", MethodClass.READ)
ROUTE = RouteInput(KEY, False, None, (), Saving(2.0, 1.9, 2.1, 0.95, 30, 5), 35, 0, 1.0, 60.0)
PLACED = Placement(Status.PLACED, (BOM, DEN), DEN)


def snapshot(placement: Placement) -> PlacementSnapshot:
    return PlacementSnapshot(DEN, 7, {KEY: placement})


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_saving_is_told_while_placed_and_removed_afterwards() -> None:
    metrics = Metrics()
    exporter = Exporter(metrics, DEN)
    exporter.export(snapshot(PLACED), [ROUTE], {}, [])
    name = "onetrip_place_saving_seconds"
    assert value(metrics, name, route="shop/production") == 2.0
    off = replace(PLACED, status=Status.OFF, regions=(DEN,))
    exporter.export(snapshot(off), [ROUTE], {}, [])
    assert value(metrics, name, route="shop/production") is None


def test_only_the_busiest_savings_are_told_one_by_one() -> None:
    metrics = Metrics()
    exporter = Exporter(metrics, DEN)

    def export(counts: list[int]) -> dict[str, float]:
        keys = [KEY._replace(environment=EnvironmentId(f"p{n}", "x")) for n in range(len(counts))]
        savings = [Saving(n / 10, 0, 1, 0.95, count, 5) for n, count in enumerate(counts)]
        routes = [replace(ROUTE, key=k, saving=s) for k, s in zip(keys, savings, strict=True)]
        exporter.export(PlacementSnapshot(DEN, 1, dict.fromkeys(keys, PLACED)), routes, {}, [])
        (family,) = metrics.saving.collect()
        return {sample.labels["route"]: sample.value for sample in family.samples}

    told = export([300] * (MAX_SAVINGS - 1) + [100, 200])
    assert len(told) == MAX_SAVINGS
    first, second = (MAX_SAVINGS - 1) / 10, MAX_SAVINGS / 10
    assert told[OTHER] == pytest.approx((first * 100 + second * 200) / 300)
    a_bit_busier = export([300] * (MAX_SAVINGS - 1) + [100, 400])
    assert a_bit_busier.keys() == told.keys()
    twice_as_busy = export([300] * (MAX_SAVINGS - 1) + [100, 700])
    assert twice_as_busy.keys() - told.keys() == {f"p{MAX_SAVINGS}/x"}
    assert OTHER not in export([300] * MAX_SAVINGS)


def test_rtts_peers_and_statuses_are_told() -> None:
    metrics = Metrics()
    peer, backend = Target(TargetKind.PEER, "bom"), Target(TargetKind.BACKEND, "db")
    row = {
        t: RttEstimate(t, rtt, rtt, 0.0, 9, 0, 0.0, EstimateState.FRESH)
        for t, rtt in ((peer, 0.229), (backend, float("nan")))
    }
    peers = [PeerStatus(BOM, True, 0.5), PeerStatus(RegionId("fra"), False, float("inf"))]
    Exporter(metrics, DEN).export(snapshot(PLACED), [ROUTE], row, peers)
    rtt = "onetrip_estimate_rtt_seconds"
    assert value(metrics, rtt, source_region="den", target_region="bom") == 0.229
    backends = "onetrip_estimate_backend_rtt_seconds"
    assert value(metrics, backends, source_region="den", backend="db") is None
    assert value(metrics, "onetrip_cluster_peer_age_seconds", region="bom") == 0.5
    assert value(metrics, "onetrip_cluster_peer_age_seconds", region="fra") is None
    assert value(metrics, "onetrip_place_routes", status="placed") == 1
    assert value(metrics, "onetrip_place_snapshot_version") == 7


def test_what_left_the_configuration_leaves_the_metrics() -> None:
    metrics = Metrics()
    exporter = Exporter(metrics, DEN)
    targets = (Target(TargetKind.PEER, "bom"), Target(TargetKind.BACKEND, "db"))
    row = {t: RttEstimate(t, 0.2, 0.2, 0.0, 9, 0, 0.0, EstimateState.FRESH) for t in targets}
    exporter.export(snapshot(PLACED), [], row, [PeerStatus(BOM, True, 0.5)])
    gone = (
        ("onetrip_estimate_rtt_seconds", {"source_region": "den", "target_region": "bom"}),
        ("onetrip_estimate_backend_rtt_seconds", {"source_region": "den", "backend": "db"}),
        ("onetrip_cluster_peer_age_seconds", {"region": "bom"}),
    )
    names = {m.name for m in metrics.registry.collect() if any(s.value for s in m.samples)}
    assert {name for name, _ in gone} <= names
    exporter.export(snapshot(PLACED), [], {}, [])
    assert [value(metrics, name, **labels) for name, labels in gone] == [None] * 3
    exporter.export(snapshot(PLACED), [], row, [PeerStatus(BOM, True, 0.5)])
    assert value(metrics, gone[0][0], **gone[0][1]) == 0.2
