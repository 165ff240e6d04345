"""Readiness: instances, the node before them, and drains that never take the last region."""

from __future__ import annotations

import pytest

from onetrip.app.readiness import Absence, Readiness
from onetrip.model.catalog import Environment, EnvironmentId, Instance
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import Endpoint, Region, RegionId, Topology

DEN, BOM, FRA = RegionId("den"), RegionId("bom"), RegionId("fra")
ENDPOINTS = {r: Endpoint(f"10.0.0.{i}", 9000) for i, r in enumerate((DEN, BOM, FRA))}
NODES = {r: Region(r, r, proxy=Endpoint(f"10.1.0.{i}", 80)) for i, r in enumerate((DEN, BOM))}
TOPOLOGY = Topology({**NODES, FRA: Region(FRA, FRA)})
ENV = Environment(
    EnvironmentId("shop", "production"),
    ("shop.test",),
    tuple(Instance(r, e) for r, e in ENDPOINTS.items()),
    {},
)


def failing(*targets: Target) -> dict[Target, RttEstimate]:
    down = EstimateState.FAILING
    return {t: RttEstimate(t, 0.1, 0.1, 0.0, 9, 3, 0.0, down) for t in targets}


def instance(region: RegionId) -> Target:
    return Target(TargetKind.INSTANCE, str(ENDPOINTS[region]))


def ready(
    rows: dict[RegionId, dict[Target, RttEstimate]],
    *draining: RegionId,
    silent: frozenset[RegionId] = frozenset(),
    unheard: frozenset[RegionId] = frozenset(),
) -> dict[RegionId, bool]:
    absence = Absence(silent, unheard)
    return Readiness(DEN, TOPOLOGY, rows, frozenset(draining), absence).instances(ENV)


def test_what_was_never_probed_counts_as_ready() -> None:
    assert ready({}) == {DEN: True, BOM: True, FRA: True}


def test_own_instance_that_fails_is_down() -> None:
    assert ready({DEN: failing(instance(DEN))})[DEN] is False


def test_remote_instance_is_judged_by_its_own_node() -> None:
    seen_from_here = failing(instance(BOM))
    alive = RttEstimate(instance(BOM), 0.001, 0.001, 0.0, 9, 0, 0.0, EstimateState.FRESH)
    rows = {DEN: seen_from_here, BOM: {instance(BOM): alive}}
    assert ready(rows)[BOM] is True
    assert ready({BOM: failing(instance(BOM))})[BOM] is False


def test_region_whose_node_does_not_answer_is_down() -> None:
    assert ready({DEN: failing(Target(TargetKind.PEER, BOM))})[BOM] is False


def test_region_without_a_node_is_judged_from_here() -> None:
    assert ready({DEN: failing(instance(FRA))})[FRA] is False
    assert ready({FRA: failing(instance(FRA))})[FRA] is True


@pytest.mark.parametrize("down", [BOM, FRA, DEN])
@pytest.mark.parametrize("draining", [(), (DEN,), (BOM, FRA)])
@pytest.mark.parametrize("silent", [frozenset[RegionId](), frozenset({BOM})])
def test_instance_of_somebody_else_that_fails_changes_nothing(
    down: RegionId, draining: tuple[RegionId, ...], silent: frozenset[RegionId]
) -> None:
    other = Target(TargetKind.INSTANCE, "10.9.9.9:1")
    cut = failing(Target(TargetKind.PEER, down))
    alone = ready({DEN: cut}, *draining, silent=silent)
    assert ready({DEN: cut | failing(other)}, *draining, silent=silent) == alone
    assert ready({DEN: cut, BOM: failing(other)}, *draining, silent=silent) == alone
    assert alone[BOM] is (down is not BOM and not silent and BOM not in draining)


def test_draining_region_is_out_unless_it_is_the_last() -> None:
    assert ready({}, BOM) == {DEN: True, BOM: False, FRA: True}
    rows = {DEN: failing(instance(DEN), instance(FRA))}
    assert ready(rows, BOM) == {DEN: False, BOM: True, FRA: False}


def test_region_that_is_not_probed_is_judged_by_its_reports() -> None:
    assert ready({}, silent=frozenset({BOM})) == {DEN: True, BOM: False, FRA: True}
    assert ready({BOM: failing(instance(BOM))}, silent=frozenset({FRA}))[BOM] is False


def test_region_of_which_nothing_is_known_serves_only_where_no_other_can() -> None:
    everywhere_else = frozenset({BOM, FRA})
    assert ready({}, unheard=everywhere_else) == {DEN: True, BOM: False, FRA: False}
    own_is_down = {DEN: failing(instance(DEN))}
    assert ready(own_is_down, unheard=everywhere_else) == {DEN: False, BOM: True, FRA: True}
    assert ready(own_is_down, unheard=frozenset({BOM})) == {DEN: False, BOM: False, FRA: True}
    gone = frozenset({FRA})
    assert ready(own_is_down, unheard=frozenset({BOM}), silent=gone) == {
        DEN: False,
        BOM: True,
        FRA: False,
    }
