"""Whole fleets on a virtual clock: bounds on regret, exploring, moves, failover and learning.

The worlds are small and seeded; `scripts/bars.py` runs the wide version of the same questions.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from onetrip.estimate.matrix import build_matrix
from onetrip.model.measure import Arm, MethodClass
from onetrip.model.placement import Status
from onetrip.model.topology import RegionId
from onetrip.probe.plan import ProbeSettings
from onetrip.simulate.engine import ARMS, Settings
from onetrip.simulate.probing import Probes
from onetrip.simulate.report import Result, measure, trip_errors
from onetrip.simulate.scenario import draw_world, home_matrix
from onetrip.simulate.timeline import timeline
from onetrip.simulate.trial import Plan, Trial, run_trial
from onetrip.simulate.world import (
    BackendMove,
    Deploy,
    Jitter,
    RegionFault,
    RouteTruth,
    World,
)
from support.world import load_topology

BOM, DEN, FRA = home_matrix()[0]
SETTINGS = Settings(score_interval=1.0)


def home_world(**changes: object) -> World:
    """Three regions, the database in Mumbai, clients in Denver and Frankfurt."""
    regions, rtt = home_matrix()
    world = World(
        regions=regions,
        rtt=rtt,
        backends={"db": BOM},
        routes=(
            RouteTruth("/assets", {}, compute=0.001),
            RouteTruth("/orders", {"db": 11}, compute=0.004),
            RouteTruth("/list", {"db": 4}, compute=0.004),
        ),
        edges={DEN: 1.0, FRA: 1.0},
    )
    return replace(world, **changes)  # type: ignore[arg-type]


def play(world: World, **changes: object) -> tuple[Trial, Result]:
    plan = Plan(world, seed=3, duration=240.0, count=8_000, warm_up=80.0, settings=SETTINGS)
    trial = run_trial(replace(plan, **changes))  # type: ignore[arg-type]
    return trial, measure(trial)


@pytest.fixture(scope="module")
def calm() -> tuple[Trial, Result]:
    regions, rtt = load_topology("12")
    return play(draw_world(regions, rtt, np.random.default_rng(5), edges=4), count=16_000)


def test_steady_state_is_close_to_the_oracle(calm: tuple[Trial, Result]) -> None:
    row = calm[1].policy("onetrip")
    assert row.steady_ratio < 1.03
    assert row.regret > 0
    assert row.ratio < calm[1].policy("single best region").ratio


def test_other_policies_stand_where_theory_puts_them(calm: tuple[Trial, Result]) -> None:
    means = {row.policy: row.mean for row in calm[1].policies}
    assert min(means, key=lambda name: means[name]) == "oracle"
    assert means["single best region"] <= means["static primary"] + 1e-9
    assert means["p2c peak-ewma"] < means["round robin"]


def test_no_edge_pays_for_the_others(calm: tuple[Trial, Result]) -> None:
    assert calm[1].worst_edge <= 1.02


def test_exploring_stays_within_one_request_in_a_hundred(calm: tuple[Trial, Result]) -> None:
    assert calm[1].explored <= 0.01
    arms = calm[0].run.arm == ARMS.index(Arm.EXPLORE)
    writes = np.array([r.method is MethodClass.WRITE for r in calm[0].plan.world.routes])
    assert not np.any(arms & writes[calm[0].requests.route])


def test_nothing_moves_under_pure_jitter(calm: tuple[Trial, Result]) -> None:
    assert sum(row.late_moves for row in calm[1].routes) == 0


def test_round_trips_are_learned_within_half_a_trip() -> None:
    routes = tuple(RouteTruth(f"/t{n}", {"db": n}) for n in (3, 8, 20, 50))
    _, result = play(home_world(routes=routes))
    errors = trip_errors(result.routes)
    assert len(errors) == 8
    assert max(errors) <= 0.5


def test_one_user_in_one_city_is_placed_within_fifty_requests() -> None:
    route = RouteTruth("/only", {"db": 11})
    world = home_world(routes=(route,), edges={DEN: 1.0})
    _, result = play(world, duration=100.0, count=100, settings=Settings())
    (row,) = result.routes
    assert row.chosen == BOM
    assert 8 < row.first_right <= 50


def test_route_without_round_trips_never_leaves_the_edge() -> None:
    trial, result = play(home_world())
    rows = [row for row in result.routes if row.route == "/assets"]
    assert [row.moves for row in rows] == [0, 0]
    mine = trial.requests.route == 0
    own = np.array([trial.plan.world.regions.index(e) for e in (DEN, FRA)])
    assert np.array_equal(trial.run.region[mine], own[trial.requests.edge[mine]])


def test_dead_region_is_left_within_a_minute_and_taken_again_when_it_is_back() -> None:
    faults = (RegionFault(100.0, BOM), RegionFault(160.0, BOM, is_up=True))
    trial, _ = play(home_world(events=faults))
    index = trial.plan.world.regions.index(BOM)
    at, region = trial.requests.at, trial.run.region
    chatty = trial.requests.route > 0
    assert np.all(region[chatty & (at > 100) & (at < 160)] != index)
    assert np.mean(region[chatty & (at > 200)] == index) > 0.95
    lost = (at > 100) & (at < 160) & (trial.run.latency > SETTINGS.connect_timeout)
    assert np.all(at[lost] < 100 + 15)


def test_request_is_not_sent_to_a_region_again_while_it_is_left_alone() -> None:
    trial, _ = play(home_world(events=(RegionFault(100.0, BOM),)))
    times = trial.requests.at[trial.run.latency > 2.9]
    mine = trial.requests.edge[trial.run.latency > 2.9]
    for edge in (0, 1):
        waits = np.diff(times[(mine == edge) & (times > 100) & (times < 112)])
        assert np.all(waits >= SETTINGS.connect_timeout)


def test_clients_of_a_dead_edge_are_nobodys_requests() -> None:
    trial, result = play(home_world(events=(RegionFault(100.0, DEN),)))
    gone = (trial.requests.edge == 0) & (trial.requests.at >= 100)
    assert np.all(np.isnan(trial.run.latency[gone]))
    assert all(np.all(np.isnan(times[gone])) for times in trial.latencies.values())
    assert {row.edge for row in result.routes} == {FRA}


def test_one_backend_that_moves_is_followed() -> None:
    world = home_world(events=(BackendMove(100.0, "db", DEN),))
    trial, result = play(world)
    mine = [row for row in result.routes if row.route == "/orders"]
    assert {row.chosen for row in mine} == {DEN}
    assert all(row.replaced <= 60 for row in mine)
    assert trial.line.starts.tolist() == [0.0, 100.0]


def test_new_code_is_learned() -> None:
    # Seen where the route runs now, and then learned anew at every edge.
    world = home_world(events=(Deploy(100.0, "/orders", {"db": 0}),))
    _, result = play(world, duration=400.0, count=12_000)
    rows = [row for row in result.routes if row.route == "/orders"]
    assert all(row.is_right and row.replaced <= 80 for row in rows)
    assert any(row.replaced > 0 for row in rows)


def test_new_code_that_changes_little_where_it_runs_is_left_to_the_control_group() -> None:
    world = home_world(events=(Deploy(100.0, "/list", {"db": 0}),))
    _, result = play(world, duration=400.0, count=12_000)
    assert all(row.is_right for row in result.routes if row.route == "/list")


def test_pinned_by_policy_means_no_move_at_all() -> None:
    policy = replace(SETTINGS.policy, hint=BOM)
    trial, _ = play(home_world(), settings=replace(SETTINGS, policy=policy))
    assert np.all(trial.run.region == trial.plan.world.regions.index(BOM))
    assert all(not change.is_move for change in trial.run.changes)


def test_instances_bound_where_requests_run() -> None:
    world = home_world(instances=frozenset({FRA}))
    trial, _ = play(world)
    assert np.all(trial.run.region == trial.plan.world.regions.index(FRA))


def test_declared_routes_are_placed_with_their_first_requests() -> None:
    route = RouteTruth("/only", {"db": 11}, is_declared=True)
    _, result = play(home_world(routes=(route,)), count=480)
    assert all(row.first_right <= 5 for row in result.routes)


def test_same_seed_same_run_and_other_seed_other_run() -> None:
    short = {"duration": 90.0, "count": 3_000}
    one, two = play(home_world(), **short)[0], play(home_world(), **short)[0]
    assert np.array_equal(one.run.latency, two.run.latency)
    assert one.run.changes == two.run.changes
    other = play(home_world(), seed=4, **short)[0]
    assert not np.array_equal(one.run.latency, other.run.latency)


def test_order_of_the_regions_does_not_matter() -> None:
    regions, rtt = load_topology("12")
    order = np.random.default_rng(1).permutation(len(regions))
    shuffled = tuple(regions[i] for i in order)
    worlds = [
        draw_world(regions, rtt, np.random.default_rng(9), edges=3),
        draw_world(shuffled, rtt[np.ix_(order, order)], np.random.default_rng(9), edges=3),
    ]
    one, two = (play(world, duration=60.0, count=3_000)[0] for world in worlds)
    assert np.allclose(one.run.latency, two.run.latency, rtol=1e-9)
    for name in ("oracle", "p2c peak-ewma", "round robin", "static primary"):
        assert np.allclose(one.latencies[name], two.latencies[name], rtol=1e-9)


def test_simulated_matrix_is_what_the_node_would_build() -> None:
    world = home_world()
    world = replace(world, edges=dict.fromkeys(world.regions, 1.0))
    line = timeline(world)
    rng = np.random.default_rng(2)
    probes = Probes(world, line, ProbeSettings(), SETTINGS.filters, 5.0, rng)
    for start in range(0, 60, 3):
        probes.run(start, start + 3)
    mine = probes.matrix(60.0)
    theirs = build_matrix(probes.estimates(60.0), world.regions, tuple(world.backends))
    for name in ("rtt", "is_stale", "is_failing", "backend_rtt", "backend_is_stale"):
        assert np.array_equal(getattr(mine, name), getattr(theirs, name), equal_nan=True)
    assert mine.rtt[0, 1] == pytest.approx(0.229, abs=0.001)


def test_perfect_network_gives_the_expected_latency() -> None:
    quiet = Jitter(mean=0.0, spike_ratio=0.0)
    route = RouteTruth("/only", {"db": 11}, sigma=0.0)
    trial, _ = play(home_world(routes=(route,), jitter=quiet))
    own, far = 0.004 + 11 * 0.229, 0.229 + 0.004 + 11 * 0.0005
    den = trial.requests.edge == 0
    placed = trial.run.arm == ARMS.index(Arm.PLACED)
    assert trial.latencies["edge execution"][den] == pytest.approx(own)
    assert trial.run.latency[den & placed] == pytest.approx(far)
    assert trial.latencies["oracle"][den] == pytest.approx(far)


def test_run_without_any_region_that_serves_says_unreachable() -> None:
    world = home_world(instances=frozenset({BOM}), events=(RegionFault(100.0, BOM),))
    trial, result = play(world, duration=160.0, count=3000)
    last = [c for c in trial.run.changes if c.edge == 0][-1]
    assert last.status is Status.UNREACHABLE
    assert last.region == -1
    assert all(math.isinf(row.loss) for row in result.routes)
    assert RegionId("bom") == BOM


def test_placed_route_with_a_rare_control_group_stays_where_it_is() -> None:
    # Longer than the age of what was learned: the default region is then known by a few requests.
    world = home_world(edges={DEN: 1.0}, routes=(RouteTruth("/orders", {"db": 11}),))
    _, result = play(world, duration=2100.0, count=2100)
    (row,) = result.routes
    assert (row.chosen, row.moves) == (BOM, 1)
