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


def eject(rig: BalanceRig, *endpoints: Endpoint) -> None:
    for endpoint in endpoints:
        for _ in range(5):
            rig.outliers.note_status(rig.pool.at(endpoint), 503)


def test_region_whose_instances_are_all_ejected_is_passed_over():
    rig = BalanceRig({DEN: [A, D], FRA: [B], BOM: [C]}, proxies=PROXIES)
    eject(rig, A, D)
    choice = choose(rig, placement=AT_HOME)
    assert (choice.arm, choice.region, choice.via_peer) == (Arm.FAILOVER, FRA, True)
    assert [v.instance for v in rig.verdicts] == [str(A), str(D)]
    rig.clock.step(30.0)
    rig.outliers.tick()
    choice = choose(rig, placement=AT_HOME)
    assert (choice.arm, choice.region) == (Arm.DEFAULT, DEN)


def test_ejected_instance_is_the_last_resort():
    rig = BalanceRig({DEN: [A], FRA: [B]}, proxies=PROXIES)
    eject(rig, A)
    rig.down.add(Target(TargetKind.PEER, FRA))
    choice = choose(rig, placement=AT_HOME)
    assert (choice.arm, choice.region, choice.pool.endpoint) == (Arm.DEFAULT, DEN, A)


def test_the_only_instance_is_not_ejected():
    rig = BalanceRig({DEN: [A]})
    eject(rig, A)
    assert rig.verdicts == []
    assert choose(rig, placement=None).pool.endpoint == A
    kept = rig.metrics.registry.get_sample_value(
        "onetrip_proxy_ejections_kept_total", {"reason": "gateway_errors"}
    )
    assert kept == 1


def test_node_whose_instances_are_ejected_refuses_a_hop_once():
    rig = BalanceRig({DEN: [A], FRA: [B]}, proxies=PROXIES)
    eject(rig, A)
    with pytest.raises(UpstreamError) as caught:
        rig.balancer.choose_own(rig.match(), Arm.PLACED, ())
    assert caught.value.kind is Kind.UNAVAILABLE
    choice = rig.balancer.choose_own(rig.match(), Arm.FAILOVER, ())
    assert choice.pool.endpoint == A, "another region has refused it already"


def test_failures_of_a_peer_eject_nobody():
    rig = BalanceRig(EVERYWHERE, proxies=PROXIES)
    eject(rig, PROXIES[FRA])
    assert choose(rig).region == FRA


def test_full_region_spills_even_when_one_of_its_instances_is_down():
    rig = BalanceRig({DEN: [A, D], FRA: [B]}, capacity=1)
    rig.down.add(instance(D))
    regions = []
    for _ in range(3):
        choice = choose(rig, placement=AT_HOME)
        choice.pool.outstanding += 1
        regions.append((choice.arm, choice.region))
    assert regions == [(Arm.DEFAULT, DEN), (Arm.SPILL, FRA), (Arm.DEFAULT, DEN)]


def test_instance_that_joins_others_starts_slowly_and_first_ones_do_not():
    rig = BalanceRig({DEN: [A]})
    assert rig.pool.at(A).health.warm_from == 0.0
    other = BalanceRig({DEN: [A, B], FRA: [C]})
    rig.balancer.update(other.catalog, rig_topology(), can_hop=True)
    assert rig.pool.at(A).health.warm_from == 0.0
    assert rig.pool.at(B).health.warm_from == rig.clock.now()
    assert rig.pool.at(C).health.warm_from == 0.0, "a region of its own has nobody to spare it"


def test_instance_that_returns_starts_slowly():
    rig = BalanceRig({DEN: [A, B]})
    eject(rig, A)
    rig.clock.step(30.0)
    rig.outliers.tick()
    assert rig.pool.at(A).health.warm_from == rig.clock.now()
