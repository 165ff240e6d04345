"""The placer on the measured 3-region matrix: who moves, who stays, and what people are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.estimate.nearest import add_nearest, nearest_column
from onetrip.model.catalog import EnvironmentId, Mode, Policy
from onetrip.model.measure import Arm, MethodClass, RouteKey, ServiceSummary
from onetrip.model.placement import Saving, Status
from onetrip.model.topology import RegionId
from onetrip.place.arms import assign
from onetrip.place.defaults import EnvironmentInput
from onetrip.place.placer import Placer, RouteInput
from support.world import load_topology, matrix_of

BOM, DEN, FRA = (
    RegionId("azure:westindia"),
    RegionId("azure:westcentralus"),
    RegionId("azure:germanywestcentral"),
)
ENV = EnvironmentId("shop", "production")
ORDERS = RouteKey(ENV, "/orders/{id}", MethodClass.READ)
SMART = Policy(mode=Mode.SMART, dwell=30.0)
REGIONS, RTT = load_topology("3")


def world(**changes: object):  # type: ignore[no-untyped-def]
    return replace(matrix_of(REGIONS, RTT, {"db": BOM}), **changes)


def environment(policy: Policy = SMART, **ready: bool) -> EnvironmentInput:
    instances = {DEN: True, BOM: True, FRA: True} | {
        {"den": DEN, "bom": BOM, "fra": FRA}[k]: v for k, v in ready.items()
    }
    return EnvironmentInput(ENV, policy, ("db",), instances)


def served(region: RegionId, trips: float, count: int = 20, compute: float = 0.003):  # type: ignore[no-untyped-def]
    rtt = 0.0005 if region == BOM else float(RTT[REGIONS.index(region), REGIONS.index(BOM)])
    return ServiceSummary(region, count, compute + trips * rtt, 0.001, {"db": rtt})


def route(*services: ServiceSummary, key: RouteKey = ORDERS, **changes: object) -> RouteInput:
    base = RouteInput(
        key=key,
        is_local=False,
        declared=None,
        services=services,
        saving=None,
        requests=100,
        explored=0,
        upcoming=1.0,
        age=10.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def place(placer: Placer, item: RouteInput, env: EnvironmentInput, now: float = 1000.0):  # type: ignore[no-untyped-def]
    placer.decide(world(), [env], [item], now, now)
    return placer.snapshot.routes[item.key]


def test_chatty_route_moves_next_to_its_database() -> None:
    placer = Placer(DEN)
    found = place(placer, route(served(DEN, 11), served(FRA, 11)), environment())
    assert found.status is Status.PLACED
    assert found.regions == (BOM, FRA, DEN)
    assert found.default == DEN
    (decision,) = placer.decisions()
    assert decision.trips.round_trips["db"] == pytest.approx(11, abs=0.05)
    best = decision.candidates[0]
    assert (best.region, best.verdict) == (BOM, "chosen")
    assert best.score == pytest.approx(0.229 + 0.003 + 11 * 0.0005, abs=0.002)
    total = best.edge_rtt + best.compute + sum(term[3] for term in best.backend_trips)
    assert best.score == pytest.approx(total)


def test_the_same_route_stays_for_a_user_beside_the_database() -> None:
    found = place(Placer(BOM), route(served(DEN, 11), served(BOM, 11)), environment())
    assert found.status is Status.AT_EDGE
    assert found.regions[0] == BOM


@pytest.mark.parametrize("trips", [0, 1])
def test_route_that_gains_nothing_stays_at_the_edge(trips: int) -> None:
    services = (served(DEN, trips), served(BOM, trips), served(FRA, trips))
    found = place(Placer(DEN), route(*services), environment())
    assert found.status is Status.AT_EDGE
    assert found.regions[0] == DEN


def test_traffic_from_one_region_alone_settles_a_route_that_is_too_quick_to_gain() -> None:
    quick = ServiceSummary(DEN, 20, 0.004, 0.0005, {"db": 0.229})
    found = place(Placer(DEN), route(quick), environment())
    assert found.status is Status.AT_EDGE
    assert found.explore is None


def test_one_region_of_traffic_is_explored_where_it_could_help_most() -> None:
    found = place(Placer(DEN), route(served(DEN, 11)), environment())
    assert found.status is Status.ANALYZING
    assert found.regions[0] == DEN
    assert found.explore == BOM
    assert 0 < found.explore_ratio <= 0.34
    assert found.missing == f"needs 4 more requests run in {BOM}"


def test_exploration_stops_when_its_budget_is_spent() -> None:
    spent = route(served(DEN, 11), explored=6)
    assert place(Placer(DEN), spent, environment()).explore is None
    more_traffic = replace(spent, requests=10_000)
    assert place(Placer(DEN), more_traffic, environment()).explore == BOM


def test_writes_are_never_explored() -> None:
    write = RouteKey(ENV, "/orders/{id}", MethodClass.WRITE)
    found = place(Placer(DEN), route(served(DEN, 11), key=write), environment())
    assert found.explore is None
    assert "writes are never explored" in found.missing


def test_writes_are_explored_when_that_is_allowed() -> None:
    write = RouteKey(ENV, "/orders/{id}", MethodClass.WRITE)
    allowed = environment(replace(SMART, explore_writes=True))
    found = place(Placer(DEN), route(served(DEN, 11), key=write), allowed)
    assert found.explore == BOM
    assert assign(found, MethodClass.WRITE, 0.999) == (Arm.EXPLORE, BOM)
    careful = replace(found, explores_writes=False)
    assert assign(careful, MethodClass.WRITE, 0.999) == (Arm.DEFAULT, DEN)


def test_missing_says_how_many_requests_are_needed() -> None:
    found = place(Placer(DEN), route(served(DEN, 11, count=3)), environment())
    assert found.status is Status.ANALYZING
    assert found.missing == f"needs 5 more requests from {DEN}"


def test_a_route_that_stays_quiet_is_told_so() -> None:
    found = place(Placer(DEN), route(served(DEN, 11, count=3), age=500.0), environment())
    assert found.status is Status.INSUFFICIENT_TRAFFIC


def test_declared_round_trips_need_no_traffic() -> None:
    found = place(Placer(DEN), route(declared={"db": 11.0}), environment())
    assert found.status is Status.PLACED
    assert found.regions[0] == BOM


def test_off_leaves_everything_at_the_edge_and_takes_effect_at_once() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    assert place(placer, item, environment()).status is Status.PLACED
    off = place(placer, item, environment(replace(SMART, mode=Mode.OFF)), now=1001.0)
    assert (off.status, off.regions[0], off.control_ratio) == (Status.OFF, DEN, 0.0)


def test_what_if_tells_the_saving_while_the_toggle_is_off() -> None:
    placer = Placer(DEN)
    off = environment(replace(SMART, mode=Mode.OFF, hint=FRA))
    item = route(served(DEN, 11), served(FRA, 11))
    assert place(placer, item, off).regions[0] == DEN
    (row,) = placer.what_if()
    assert row.placement.status is Status.PLACED
    assert row.placement.regions[0] == BOM, "the hint does not count"
    assert row.saving == pytest.approx(row.default - row.predicted)
    assert 2.0 < row.low < row.saving < row.high
    assert placer.snapshot.routes[ORDERS].status is Status.OFF, "asking changes nothing"


def test_what_if_of_a_placed_route_is_what_was_decided_for_it() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    place(placer, item, environment())
    place(placer, item, environment(), now=1001.0)
    (row,) = placer.what_if()
    assert (row.placement.status, row.placement.regions[0]) == (Status.PLACED, BOM)
    assert row.saving > 2.0


def test_what_if_of_a_route_that_would_stay_saves_nothing() -> None:
    placer = Placer(DEN)
    item = route(served(DEN, 0), served(FRA, 0))
    place(placer, item, environment(replace(SMART, mode=Mode.OFF)))
    (row,) = placer.what_if()
    assert (row.placement.status, row.saving) == (Status.AT_EDGE, 0.0)


def test_hint_pins_whatever_the_score() -> None:
    item = route(served(DEN, 0), served(BOM, 0))
    found = place(Placer(DEN), item, environment(replace(SMART, hint=FRA)))
    assert (found.status, found.regions[0]) == (Status.PINNED, FRA)


def test_denied_region_is_never_chosen_nor_used_for_failover() -> None:
    item = route(served(DEN, 11), served(FRA, 11))
    found = place(Placer(DEN), item, environment(replace(SMART, deny=frozenset({BOM}))))
    assert found.regions == (FRA, DEN)


def test_region_down_fails_over_and_returns_without_a_move() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    place(placer, item, environment())
    down = place(placer, item, environment(bom=False), now=1001.0)
    assert down.status is Status.PLACED
    assert BOM not in down.regions
    assert down.regions[0] == FRA, "the next-best region by score, not the edge"
    back = place(placer, item, environment(), now=1002.0)
    assert back.regions[0] == BOM


def test_edge_without_an_instance_defaults_to_the_nearest_region() -> None:
    found = place(Placer(DEN), route(), environment(den=False))
    assert found.default == FRA


def test_nothing_ready_is_unreachable() -> None:
    found = place(Placer(DEN), route(), environment(den=False, bom=False, fra=False))
    assert (found.status, found.regions) == (Status.UNREACHABLE, ())


def test_after_one_undone_move_another_region_may_be_tried_and_after_two_none() -> None:
    placer = Placer(DEN)
    matrix = matrix_of(REGIONS, RTT, {"db-bom": BOM, "db-fra": FRA})
    env = EnvironmentInput(ENV, SMART, ("db-bom", "db-fra"), dict.fromkeys((DEN, BOM, FRA), True))
    harm = Saving(-0.05, -0.09, -0.01, 0.95, 500, 50)

    def decide(database: str, now: float, saving: Saving | None = None):  # type: ignore[no-untyped-def]
        item = route(declared={database: 11.0}, saving=saving)
        placer.decide(matrix, [env], [item], now, now)
        found = placer.snapshot.routes[ORDERS]
        return found.status, found.regions[0]

    assert decide("db-bom", 1000.0) == (Status.PLACED, BOM)
    assert decide("db-bom", 1060.0, harm) == (Status.NOT_HELPING, DEN)
    assert decide("db-bom", 1100.0) == (Status.NOT_HELPING, DEN)
    # New code asks another database.
    assert decide("db-fra", 1101.0) == (Status.PLACED, FRA)
    assert decide("db-fra", 1160.0, harm) == (Status.NOT_HELPING, DEN)
    assert decide("db-fra", 1300.0) == (Status.NOT_HELPING, DEN)
    assert decide("db-bom", 1300.0) == (Status.NOT_HELPING, DEN)


def test_harm_measured_by_the_control_group_reverts_and_blocks() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    place(placer, item, environment())
    harm = Saving(-0.05, -0.09, -0.01, 0.95, 500, 50)
    found = place(placer, replace(item, saving=harm), environment(), now=1050.0)
    assert (found.status, found.regions[0]) == (Status.NOT_HELPING, DEN)
    later = place(placer, item, environment(), now=1050.0 + 599)
    assert later.status is Status.NOT_HELPING
    again = place(placer, item, environment(), now=1050.0 + 601)
    assert again.status is Status.PLACED, "after the pause it may try again"


def test_harm_seen_while_new_code_was_not_yet_known_blocks_nothing() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    place(placer, item, environment())
    harm = replace(item, saving=Saving(-0.05, -0.09, -0.01, 0.95, 500, 50))
    assert place(placer, harm, environment(), now=1100.0).status is Status.NOT_HELPING
    placer.code_changed(ORDERS, 1200.0)
    assert place(placer, item, environment(), now=1201.0).status is Status.NOT_HELPING
    placer.code_changed(ORDERS, 1090.0)
    assert place(placer, item, environment(), now=1202.0).status is Status.PLACED
    assert placer.states()[ORDERS].reverts == 0


def split_unknown(method: MethodClass, **changes: object) -> RouteInput:
    # Both databases are far from DEN and FRA alike; BOM is beside one of them.
    key = RouteKey(ENV, "/checkout", method)
    services = tuple(
        ServiceSummary(region, 200, 8 * rtt + 0.01, 0.001, {"db": rtt, "cache": rtt + 0.002})
        for region, rtt in ((DEN, 0.229), (FRA, 0.117))
    )
    return route(*services, key=key, **changes)


@pytest.mark.parametrize(
    ("method", "explored", "status"),
    [
        (MethodClass.READ, 0, Status.ANALYZING),
        (MethodClass.READ, 6, Status.PLACED),
        (MethodClass.WRITE, 0, Status.PLACED),
    ],
)
def test_sure_region_is_for_those_who_cannot_explore(
    method: MethodClass, explored: int, status: Status
) -> None:
    two = matrix_of(REGIONS, RTT, {"db": BOM, "cache": BOM})
    far = two.backend_rtt.copy()
    far[REGIONS.index(DEN)], far[REGIONS.index(FRA)] = (0.229, 0.231), (0.117, 0.119)
    far[REGIONS.index(BOM)] = (0.0005, 0.205)
    env = replace(environment(), backends=("db", "cache"))
    item = split_unknown(method, explored=explored)
    placer = Placer(DEN)
    placer.decide(replace(two, backend_rtt=far), [env], [item], 1000.0, 1000.0)
    found = placer.snapshot.routes[item.key]
    assert found.status is status
    (row,) = placer.what_if()
    assert row.placement.status is status
    if status is Status.PLACED:
        assert found.regions[0] == FRA


def test_control_group_shrinks_once_the_saving_is_proven() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    policy = environment(replace(SMART, control_ratio=0.01))
    assert place(placer, item, policy).control_ratio == 0.01
    wide = replace(item, saving=Saving(2.2, 0.5, 3.9, 0.95, 100, 6))
    assert place(placer, wide, policy, now=1001.0).control_ratio == 0.01
    proven = replace(item, saving=Saving(2.2, 2.0, 2.4, 0.95, 900, 12))
    assert place(placer, proven, policy, now=1002.0).control_ratio == pytest.approx(0.001)
    unknown = Saving(2.2, float("nan"), float("nan"), 0.95, 100, 2)
    assert place(placer, replace(item, saving=unknown), policy, now=1003.0).control_ratio == 0.01


@pytest.mark.parametrize("share", [0.1, 0.5, 0.995])
def test_share_leaves_the_other_requests_at_the_default_as_control(share: float) -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    policy = environment(replace(SMART, share=share))
    found = place(placer, item, policy)
    assert (found.status, found.regions[0]) == (Status.PLACED, BOM)
    assert found.control_ratio == pytest.approx(max(0.01, 1 - share))
    step = 1 / 1000
    arms = [assign(found, MethodClass.READ, n * step) for n in range(1000)]
    placed = sum(arm is Arm.PLACED for arm, _ in arms)
    assert placed == pytest.approx(1000 * min(0.99, share), abs=1)
    assert set(arms) == {(Arm.PLACED, BOM), (Arm.CONTROL, DEN)}
    # A proven saving shrinks the control group, and never below those who are held back.
    proven = replace(item, saving=Saving(2.2, 2.0, 2.4, 0.95, 900, 12))
    found = place(placer, proven, policy, now=1002.0)
    assert found.control_ratio == pytest.approx(max(0.001, 1 - share))


def test_share_of_nothing_is_off_and_of_everything_changes_nothing() -> None:
    item = route(served(DEN, 11), served(FRA, 11))
    off = place(Placer(DEN), item, environment(replace(SMART, share=0.0)))
    assert (off.status, off.regions[0], off.explore) == (Status.OFF, DEN, None)
    whole = place(Placer(DEN), item, environment(replace(SMART, share=1.0)))
    assert whole == place(Placer(DEN), item, environment())


def test_share_of_a_pinned_project_is_pinned() -> None:
    policy = environment(replace(SMART, hint=FRA, share=0.2))
    found = place(Placer(DEN), route(served(DEN, 1)), policy)
    assert (found.status, found.regions[0]) == (Status.PINNED, FRA)
    assert assign(found, MethodClass.WRITE, 0.79) == (Arm.CONTROL, DEN)
    assert assign(found, MethodClass.WRITE, 0.81) == (Arm.HINT, FRA)


def test_exploration_stays_within_the_share() -> None:
    item = replace(route(served(DEN, 11)), upcoming=1.0)
    found = place(Placer(DEN), item, environment(replace(SMART, share=0.05)))
    assert found.explore is not None
    assert found.explore_ratio == pytest.approx(0.05)
    assert assign(found, MethodClass.READ, 0.94) == (Arm.DEFAULT, DEN)


def test_what_if_is_about_everybody() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    place(placer, item, environment(replace(SMART, mode=Mode.OFF, share=0.1)))
    (told,) = placer.what_if([ORDERS])
    assert told.placement.status is Status.PLACED


def test_placed_route_whose_default_is_unknown_measures_it_anew() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    place(placer, item, environment())
    # New code: what the default region served before it is forgotten.
    for count, share in ((0, 0.08), (3, 0.05)):
        services = (served(BOM, 1), *([served(DEN, 1, count=count)] if count else []))
        found = place(placer, replace(item, services=services, upcoming=100.0), environment())
        assert (found.status, found.regions[0]) == (Status.PLACED, BOM)
        assert found.control_ratio == pytest.approx(share)
        assert found.missing == f"needs {8 - count} more requests from {DEN}"
    busy = replace(item, services=(served(BOM, 1),), upcoming=0.1)
    assert place(placer, busy, environment()).control_ratio == 0.34
    known = replace(item, services=(served(BOM, 1), served(DEN, 1, count=8)))
    assert place(placer, known, environment(), now=1100.0).regions[0] == DEN


def test_without_a_control_group_a_route_goes_back_to_be_measured_anew() -> None:
    policy = environment(replace(SMART, control_ratio=0.0))
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    place(placer, item, policy)
    gone = replace(item, services=(served(BOM, 1),))
    found = place(placer, gone, policy, now=1100.0)
    assert (found.status, found.regions[0]) == (Status.AT_EDGE, DEN)


def test_gain_within_its_interval_of_the_least_gain_does_not_move() -> None:
    noisy = ServiceSummary(DEN, 8, 2.5, 2.0, {"db": 0.229})
    far = ServiceSummary(FRA, 8, 1.3, 2.0, {"db": 0.117})
    found = place(Placer(DEN), route(noisy, far), environment())
    assert found.status is Status.ANALYZING


def test_stale_rtt_keeps_a_placement_but_starts_no_move() -> None:
    stale = world(backend_is_stale=np.ones((3, 1), dtype=bool))
    item = route(served(DEN, 11), served(FRA, 11))
    fresh_placer, stale_placer = Placer(DEN), Placer(DEN)
    place(fresh_placer, item, environment())
    for placer in (fresh_placer, stale_placer):
        placer.decide(stale, [environment()], [item], 1100.0, 1100.0)
    assert fresh_placer.snapshot.routes[ORDERS].status is Status.PLACED
    assert stale_placer.snapshot.routes[ORDERS].status is Status.ANALYZING
    assert "fresh RTT" in stale_placer.snapshot.routes[ORDERS].missing


def test_database_never_measured_is_named() -> None:
    blind = world(backend_rtt=np.full((3, 1), np.nan))
    unknown = ServiceSummary(DEN, 20, 2.5, 0.01, {"db": float("nan")})
    placer = Placer(DEN)
    placer.decide(blind, [environment()], [route(unknown)], 1000.0, 1000.0)
    assert placer.snapshot.routes[ORDERS].missing == f"needs the RTT from {DEN} to db"


def test_move_waits_for_dwell_time_after_a_database_moved() -> None:
    placer, item = Placer(DEN), route(declared={"db": 11.0})
    place(placer, item, environment(), now=1000.0)
    moved = matrix_of(REGIONS, RTT, {"db": FRA})
    for at in (1010.0, 1020.0, 1029.0):
        placer.decide(moved, [environment()], [item], at, at)
        assert placer.snapshot.routes[ORDERS].regions[0] == BOM
    placer.decide(moved, [environment()], [item], 1031.0, 1031.0)
    assert placer.snapshot.routes[ORDERS].regions[0] == FRA


def test_move_waits_until_every_region_believes_that_the_database_moved() -> None:
    placer, item = Placer(DEN), route(declared={"db": 11.0})
    place(placer, item, environment(), now=1000.0)
    old, new = matrix_of(REGIONS, RTT, {"db": BOM}), matrix_of(REGIONS, RTT, {"db": FRA})
    # Mumbai knows first that it is far now; for a while the database seems far from everywhere.
    for at, knowing in ((1100.0, [BOM]), (1103.0, [BOM, DEN]), (1106.0, [BOM, DEN, FRA])):
        data = old.backend_rtt.copy()
        for region in knowing:
            data[REGIONS.index(region)] = new.backend_rtt[REGIONS.index(region)]
        placer.decide(replace(old, backend_rtt=data), [environment()], [item], at, at)
        assert placer.snapshot.routes[ORDERS].regions[0] == BOM
    placer.decide(new, [environment()], [item], 1115.0, 1115.0)
    assert placer.snapshot.routes[ORDERS].regions[0] == FRA


def test_harm_done_by_a_moved_database_blocks_nothing() -> None:
    placer, item = Placer(DEN), route(declared={"db": 11.0})
    place(placer, item, environment(), now=1000.0)
    harm = replace(item, saving=Saving(-0.05, -0.09, -0.01, 0.95, 500, 50))
    placer.decide(world(), [environment()], [harm], 1100.0, 1100.0)
    assert placer.snapshot.routes[ORDERS].status is Status.NOT_HELPING
    moved = matrix_of(REGIONS, RTT, {"db": FRA})
    for at in (1104.0, 1113.0, 1131.0):
        placer.decide(moved, [environment()], [item], at, at)
    assert placer.snapshot.routes[ORDERS].regions[0] == FRA


def test_noise_of_a_path_does_not_hold_a_route_that_gains_far_more() -> None:
    placer, item = Placer(DEN), route(served(DEN, 11), served(FRA, 11))
    off = environment(replace(SMART, mode=Mode.OFF))
    place(placer, item, off, now=1000.0)
    noisy = RTT.copy()
    noisy[REGIONS.index(DEN)] *= 1.15
    changed = matrix_of(REGIONS, noisy, {"db": BOM})
    still = replace(changed, backend_rtt=world().backend_rtt)
    placer.decide(still, [environment()], [item], 1001.0, 1001.0)
    assert placer.snapshot.routes[ORDERS].status is Status.PLACED


def test_rtts_that_never_settle_do_not_hold_a_route_for_ever() -> None:
    placer, item = Placer(DEN), route(declared={"db": 11.0})
    flapping = matrix_of(REGIONS, RTT, {"db": FRA})
    place(placer, item, environment(), now=1000.0)
    for second in range(30):
        at, shake = 1100.0 + second, 1.0 + 0.3 * (second % 2)
        moved = replace(flapping, backend_rtt=flapping.backend_rtt * shake)
        placer.decide(moved, [environment()], [item], at, at)
    assert placer.snapshot.routes[ORDERS].regions[0] == FRA


def test_scores_ignore_region_order() -> None:
    order = [2, 0, 1]
    regions = tuple(REGIONS[i] for i in order)
    shuffled = matrix_of(regions, RTT[np.ix_(order, order)], {"db": BOM})
    placer = Placer(DEN)
    item = route(served(DEN, 11), served(FRA, 11))
    placer.decide(shuffled, [environment()], [item], 1000.0, 1000.0)
    assert placer.snapshot.routes[ORDERS].regions == (BOM, FRA, DEN)


def test_environment_without_backends_is_left_alone() -> None:
    env = EnvironmentInput(ENV, SMART, (), {DEN: True, BOM: True})
    placer = Placer(DEN)
    placer.decide(world(), [env], [route()], 1000.0, 1000.0)
    assert placer.snapshot.routes[ORDERS].status is Status.AT_EDGE


def test_unseen_route_of_a_known_environment_runs_at_the_edge() -> None:
    placer = Placer(DEN)
    placer.decide(world(), [environment()], [], 1000.0, 1000.0)
    found = placer.snapshot.find(RouteKey(ENV, "/new", MethodClass.READ))
    assert found is not None
    assert found.regions[0] == DEN


def test_a_replica_keeps_reads_at_the_edge_while_writes_move_to_the_primary() -> None:
    placer = Placer(DEN)
    matrix = add_nearest(
        matrix_of(REGIONS, RTT, {"db": BOM, "db/den": DEN}),
        {nearest_column("db"): ("db", "db/den")},
    )
    env = replace(environment(), nearest={"db": nearest_column("db")})
    writes = ORDERS._replace(method=MethodClass.WRITE)
    routes = [route(declared={"db": 11.0}, key=key) for key in (ORDERS, writes)]
    placer.decide(matrix, [env], routes, 1000.0, 1000.0)
    found = placer.snapshot.routes
    assert (found[ORDERS].status, found[ORDERS].regions[0]) == (Status.AT_EDGE, DEN)
    assert (found[writes].status, found[writes].regions[0]) == (Status.PLACED, BOM)
    terms = {d.key: {c.region: c for c in d.candidates} for d in placer.decisions()}
    assert terms[ORDERS][DEN].endpoints == ("db/den",)
    assert terms[ORDERS][BOM].endpoints == terms[writes][DEN].endpoints == ("db",)
    assert terms[ORDERS][DEN].backend_trips[0][2] == 0.0005
    assert terms[writes][DEN].backend_trips[0][2] == pytest.approx(RTT[1, 0], rel=0.5)


def test_reads_move_when_the_replica_they_used_starts_to_fail() -> None:
    placer = Placer(DEN)
    both = matrix_of(REGIONS, RTT, {"db": BOM, "db/den": DEN})
    env = replace(environment(), nearest={"db": nearest_column("db")})
    item = route(declared={"db": 11.0})
    groups = {nearest_column("db"): ("db", "db/den")}
    placer.decide(add_nearest(both, groups), [env], [item], 1000.0, 1000.0)
    assert placer.snapshot.routes[ORDERS].regions[0] == DEN
    failing = both.backend_is_failing.copy()
    failing[:, 1] = True
    placer.decide(
        add_nearest(replace(both, backend_is_failing=failing), groups), [env], [item], 1e4, 1e4
    )
    for now in (1.01e4, 1.02e4):
        placer.decide(
            add_nearest(replace(both, backend_is_failing=failing), groups), [env], [item], now, now
        )
    assert placer.snapshot.routes[ORDERS].regions[0] == BOM


def test_a_route_never_leaves_its_own_regions_and_says_why() -> None:
    placer = Placer(DEN)
    free = ORDERS._replace(route="/free")
    routes = [
        route(served(DEN, 11), served(FRA, 11), deny=frozenset({BOM})),
        route(served(DEN, 11), served(FRA, 11), key=free),
    ]
    placer.decide(world(), [environment()], routes, 1000.0, 1000.0)
    found = placer.snapshot.routes
    assert set(found[ORDERS].regions) == {DEN, FRA}
    assert found[free].regions[0] == BOM, "the other routes of its environment are free"
    (decision,) = placer.decisions([ORDERS])
    verdicts = {c.region: c.verdict for c in decision.candidates}
    assert verdicts[BOM] == "not permitted by allow/deny"


def test_a_pinned_route_is_not_pinned_where_it_must_not_run() -> None:
    policy = replace(SMART, hint=BOM)
    found = place(Placer(DEN), route(served(DEN, 11), deny=frozenset({BOM})), environment(policy))
    assert BOM not in found.regions
    assert found.default == DEN


def test_a_route_whose_edge_is_denied_starts_in_the_nearest_region_that_is_not() -> None:
    found = place(Placer(DEN), route(served(FRA, 11), deny=frozenset({DEN})), environment())
    assert DEN not in found.regions
    assert found.default == FRA
    alone = route(served(FRA, 11), deny=frozenset({DEN, BOM, FRA}))
    assert place(Placer(DEN), alone, environment()).status is Status.UNREACHABLE
