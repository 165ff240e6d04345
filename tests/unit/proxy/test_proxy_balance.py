"""Choice of arm, region and endpoint."""

from __future__ import annotations

from collections import Counter

import pytest

from onetrip.errors import Kind, UpstreamError
from onetrip.model.catalog import Forwarding, Policy, RouteRule
from onetrip.model.measure import Arm, Target, TargetKind
from onetrip.model.placement import Placement, Status
from onetrip.model.topology import Endpoint, RegionId
from support.proxy_parts import BalanceRig

DEN, FRA, BOM = RegionId("den"), RegionId("fra"), RegionId("bom")
A, B, C, D = (Endpoint(f"10.0.0.{i}", 80) for i in range(1, 5))
PROXIES = {DEN: None, FRA: Endpoint("10.9.0.1", 80), BOM: Endpoint("10.9.0.2", 80)}
EVERYWHERE = {DEN: [A], FRA: [B], BOM: [C]}
PLACED = Placement(Status.PLACED, (FRA, BOM, DEN), DEN, control_ratio=0.1)


def instance(endpoint: Endpoint) -> Target:
    return Target(TargetKind.INSTANCE, str(endpoint))


def choose(rig: BalanceRig, placement=PLACED, share=0.5, tried=(), rule=None):
    return rig.balancer.choose(rig.match(rule), placement, share, tried)


def test_placed_region_is_reached_through_its_node():
    choice = choose(BalanceRig(EVERYWHERE, proxies=PROXIES))
    assert (choice.arm, choice.region, choice.via_peer) == (Arm.PLACED, FRA, True)
    assert choice.pool.endpoint == PROXIES[FRA]


@pytest.mark.parametrize(
    "options",
    [
        {"policy": Policy(forwarding=Forwarding.DIRECT), "proxies": PROXIES},
        {"proxies": {DEN: None, FRA: None, BOM: None}},
        {"proxies": PROXIES, "can_hop": False},
    ],
    ids=["policy", "no node", "no secret"],
)
def test_region_is_reached_directly_when_no_node_may_be_used(options):
    choice = choose(BalanceRig(EVERYWHERE, **options))
    assert (choice.region, choice.via_peer, choice.is_own) == (FRA, False, False)
    assert choice.pool.endpoint == B


def test_control_group_runs_at_the_default():
    choice = choose(BalanceRig(EVERYWHERE, proxies=PROXIES), share=0.05)
    assert (choice.arm, choice.region, choice.is_own) == (Arm.CONTROL, DEN, True)


def test_regions_are_tried_in_order_when_the_first_is_down():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    regions = []
    for down in (FRA, BOM):
        rig.down.add(Target(TargetKind.PEER, down))
        choice = choose(rig)
        regions.append((choice.arm, choice.region))
    assert regions == [(Arm.FAILOVER, BOM), (Arm.FAILOVER, DEN)]


def test_endpoint_that_failed_for_this_request_is_not_tried_again():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    first = choose(rig)
    assert choose(rig, tried=[first.pool]).region == BOM


def test_endpoint_whose_connect_failed_is_avoided_for_a_moment():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    choose(rig).pool.avoid_until = rig.clock.now() + 1.0
    assert choose(rig).region == BOM
    rig.clock.step(1.0)
    assert choose(rig).region == FRA


def test_region_that_refused_is_avoided_for_a_moment():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    rig.balancer.note_refusal(rig.match(), FRA)
    assert choose(rig).region == BOM
    rig.clock.step(1.0)
    assert choose(rig).region == FRA


@pytest.mark.parametrize(
    "policy", [Policy(deny=frozenset((FRA,))), Policy(allow=frozenset((DEN, BOM)))]
)
def test_forbidden_region_is_never_chosen(policy):
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES, policy=policy)
    assert choose(rig).region == BOM
    assert choose(rig, placement=None).region == DEN


def test_nothing_permitted_is_unavailable_even_when_others_are_ready():
    rig = BalanceRig({FRA: [B]}, proxies=PROXIES, policy=Policy(deny=frozenset((FRA,))))
    with pytest.raises(UpstreamError) as caught:
        choose(rig)
    assert caught.value.kind is Kind.UNAVAILABLE


def test_cold_start_prefers_the_edge_and_then_any_region():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    choice = choose(rig, placement=None)
    assert (choice.arm, choice.region) == (Arm.DEFAULT, DEN)
    rig.down.add(instance(A))
    choice = choose(rig, placement=None)
    assert (choice.arm, choice.region) == (Arm.DEFAULT, FRA)


def test_local_rule_stays_at_the_edge_while_the_edge_can_serve():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    rule = RouteRule("/static/**", is_local=True)
    choice = choose(rig, rule=rule)
    assert (choice.arm, choice.region) == (Arm.DEFAULT, DEN)
    rig.down.add(instance(A))
    assert choose(rig, rule=rule).arm is Arm.FAILOVER


def test_local_rule_of_an_edge_without_instances_uses_the_default_region():
    rig = BalanceRig({FRA: [B], BOM: [C]}, proxies=PROXIES)
    placement = Placement(Status.PLACED, (FRA, BOM), BOM)
    choice = choose(rig, placement, rule=RouteRule("/static/**", is_local=True))
    assert (choice.arm, choice.region) == (Arm.DEFAULT, BOM)


def test_hopped_request_uses_own_instances_only():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    choice = rig.balancer.choose_own(rig.match(), Arm.PLACED, [])
    assert (choice.pool.endpoint, choice.is_own) == (A, True)
    rig.down.add(instance(A))
    with pytest.raises(UpstreamError, match="shop/production is ready in den"):
        rig.balancer.choose_own(rig.match(), Arm.PLACED, [])


def test_less_loaded_of_two_random_instances_is_chosen():
    rig = BalanceRig({DEN: [A, B, C, D]})
    loads = {A: 9, B: 5, C: 1, D: 1}
    for endpoint, load in loads.items():
        rig.pool.at(endpoint).outstanding = load
    picks = Counter(choose(rig, placement=None).pool.endpoint for _ in range(600))
    assert picks[A] == 0
    assert picks[C] + picks[D] > picks[B] * 3
    assert min(picks[C], picks[D]) > 150


def test_update_keeps_the_pools_of_endpoints_that_stay():
    rig = BalanceRig({DEN: [A, B]})
    kept, gone = rig.pool.at(A), rig.pool.at(B)
    other = BalanceRig({DEN: [A]})
    rig.balancer.update(other.catalog, rig_topology(), can_hop=True)
    assert rig.pool.at(A) is kept
    assert rig.pool.at(B) is not gone


def rig_topology():
    from support.proxy_rig import make_topology

    return make_topology({DEN: None})


AT_HOME = Placement(Status.AT_EDGE, (DEN, FRA, BOM), DEN)


def test_full_region_spills_over_to_the_next_best():
    rig = BalanceRig({DEN: [A, D], FRA: [B], BOM: [C]}, capacity=2)
    taken = []
    for _ in range(9):
        choice = choose(rig, placement=AT_HOME)
        choice.pool.outstanding += 1
        taken.append((choice.arm, choice.region))
    home, spilled = (Arm.DEFAULT, DEN), Arm.SPILL
    assert taken[:8] == [home] * 4 + [(spilled, FRA)] * 2 + [(spilled, BOM)] * 2
    assert taken[8] == home, "when every region is full, the wanted one keeps a queue"


def test_instance_with_room_is_chosen_again_once_a_request_ends():
    rig = BalanceRig({DEN: [A], FRA: [B]}, capacity=1)
    first = choose(rig, placement=AT_HOME)
    first.pool.outstanding += 1
    assert choose(rig, placement=AT_HOME).region == FRA
    first.pool.outstanding -= 1
    assert choose(rig, placement=AT_HOME).region == DEN


def test_full_node_refuses_what_a_peer_forwards():
    rig = BalanceRig({DEN: [A], FRA: [B]}, proxies=PROXIES, capacity=1)
    rig.balancer.choose_own(rig.match(), Arm.PLACED, ()).pool.outstanding += 1
    with pytest.raises(UpstreamError) as caught:
        rig.balancer.choose_own(rig.match(), Arm.PLACED, ())
    assert caught.value.kind is Kind.UNAVAILABLE


def test_denied_region_is_not_spilled_into():
    policy = Policy(deny=frozenset({FRA}))
    rig = BalanceRig({DEN: [A], FRA: [B], BOM: [C]}, policy=policy, capacity=1)
    choose(rig, placement=AT_HOME).pool.outstanding += 1
    assert choose(rig, placement=AT_HOME).region == BOM
