"""The other policies: each chooses as its rule says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.simulate.policies import Judge
from onetrip.simulate.scenario import home_matrix
from onetrip.simulate.timeline import timeline
from onetrip.simulate.traffic import Draws, Requests, draw, latencies, poisson
from onetrip.simulate.world import BackendMove, RegionFault, RouteTruth, World

BOM, DEN, FRA = home_matrix()[0]
B, D, F = 0, 1, 2


def world(**changes: object) -> World:
    regions, rtt = home_matrix()
    base = World(
        regions=regions,
        rtt=rtt,
        backends={"db": BOM},
        routes=(RouteTruth("/chatty", {"db": 9}), RouteTruth("/assets", {})),
        edges={DEN: 1.0, FRA: 1.0},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def judge(truth: World, count: int = 2_000) -> tuple[Judge, Requests, Draws]:
    line = timeline(truth)
    requests = poisson(truth, count, 100.0, np.random.default_rng(1))
    draws = draw(truth, line, requests, np.random.default_rng(2))
    return Judge(truth, line, requests, draws, np.random.default_rng(3)), requests, draws


def test_edge_execution_stays_and_oracle_goes_where_it_is_best() -> None:
    found, requests, _ = judge(world())
    own = np.where(requests.edge == 0, D, F)
    assert np.array_equal(found.edge(), own)
    assert np.array_equal(found.oracle(), np.where(requests.route == 0, B, own))


def test_edge_without_an_instance_uses_the_nearest_region() -> None:
    found, requests, _ = judge(world(instances=frozenset({BOM, FRA})))
    assert set(found.edge()[requests.edge == 0].tolist()) == {F}


def test_static_primary_stays_when_the_database_moves_and_the_oracle_follows() -> None:
    found, requests, _ = judge(world(events=(BackendMove(50.0, "db", DEN),)))
    assert set(found.primary().tolist()) == {B}
    late = (requests.at >= 50) & (requests.route == 0)
    assert set(found.oracle()[late].tolist()) == {D}


def test_dead_region_is_nobodys_choice() -> None:
    found, requests, _ = judge(world(events=(RegionFault(50.0, BOM),)))
    late = requests.at >= 50
    for name, choose in found.policies().items():
        assert B not in choose()[late], name


def test_nothing_runs_while_every_region_is_down() -> None:
    only = world(instances=frozenset({BOM}), events=(RegionFault(50.0, BOM),))
    found, requests, _ = judge(only)
    for name, choose in found.policies().items():
        assert np.array_equal(choose() < 0, requests.at >= 50), name


def test_round_robin_takes_turns_at_each_edge() -> None:
    found, requests, _ = judge(world())
    mine = found.round_robin()[requests.edge == 0]
    assert mine[:6].tolist() == [B, D, F, B, D, F]


def test_single_best_region_is_the_best_of_the_fixed_choices() -> None:
    found, requests, draws = judge(world())
    line = timeline(world())
    means = [
        latencies(line, requests, draws, np.full(len(requests), region)).mean()
        for region in range(3)
    ]
    (chosen,) = set(found.single_best().tolist())
    assert chosen == int(np.argmin(means))


def test_peak_ewma_beats_taking_turns_and_knows_no_routes() -> None:
    found, requests, draws = judge(world(), count=6_000)
    line = timeline(world())
    turns = latencies(line, requests, draws, found.round_robin()).mean()
    chosen = found.peak_ewma()
    assert latencies(line, requests, draws, chosen).mean() < turns
    assert len(set(chosen.tolist())) > 1


def test_one_region_leaves_no_choice() -> None:
    regions, rtt = home_matrix()
    alone = world(regions=regions[:1], rtt=rtt[:1, :1], edges={BOM: 1.0})
    found, _, _ = judge(alone, count=50)
    assert all(set(choose().tolist()) == {0} for choose in found.policies().values())


def test_oracle_is_never_beaten_in_expectation() -> None:
    found, requests, _ = judge(world())
    stretch = np.zeros(len(requests), dtype=int)
    best = found.expected[stretch, requests.edge, requests.route, found.oracle()]
    for choose in found.policies().values():
        other = found.expected[stretch, requests.edge, requests.route, choose()]
        assert np.all(best <= other + 1e-12)
    assert best.mean() == pytest.approx(found.expected.min(axis=3)[0].mean(), rel=0.1)
