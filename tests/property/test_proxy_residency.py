"""No choice of an instance leaves the regions that a route may run in, whatever fails."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import Kind, UpstreamError
from onetrip.model.catalog import Policy, RouteRule
from onetrip.model.measure import Arm, Target, TargetKind
from onetrip.model.placement import Placement, Status
from onetrip.model.topology import Endpoint, RegionId
from onetrip.proxy.balance import Choice
from onetrip.proxy.router import Match
from support.proxy_parts import BalanceRig

REGIONS = tuple(RegionId(name) for name in ("den", "fra", "bom", "ams"))
SPOTS = {r: [Endpoint(f"10.{n}.0.{i}", 80) for i in (1, 2)] for n, r in enumerate(REGIONS)}
NODES = {r: Endpoint(f"10.9.0.{n}", 80) if n else None for n, r in enumerate(REGIONS)}
MOST_ATTEMPTS = 12

some_regions = st.frozensets(st.sampled_from(REGIONS))
placements = st.none() | st.builds(
    Placement,
    status=st.sampled_from([Status.PLACED, Status.PINNED, Status.AT_EDGE, Status.OFF]),
    regions=st.permutations(REGIONS).map(tuple),
    default=st.sampled_from(REGIONS),
    control_ratio=st.sampled_from([0.0, 0.3]),
    explore=st.none() | st.sampled_from(REGIONS),
    explore_ratio=st.just(0.3),
)


def attempts(rig: BalanceRig, match: Match, placement: Placement | None, share: float):  # type: ignore[no-untyped-def]
    """Yield the choices of a request whose attempts all fail: retries, failover and hedges."""
    tried: list = []  # type: ignore[type-arg]
    for _ in range(MOST_ATTEMPTS):
        try:
            choice: Choice = rig.balancer.choose(match, placement, share, tried)
        except UpstreamError as error:
            if error.kind in (Kind.UNAVAILABLE, Kind.RESIDENCY, Kind.REQUEST_LIMIT):
                return
            raise
        yield choice
        tried.append(choice.pool)


@given(
    denied=some_regions,
    of_bindings=some_regions,
    of_project=some_regions,
    placement=placements,
    share=st.floats(0, 1, exclude_max=True),
    has_rule=st.booleans(),
    is_local=st.booleans(),
    can_hop=st.booleans(),
    down=some_regions,
    full=some_regions,
    ejected=some_regions,
)
def test_every_attempt_stays_where_project_route_and_bindings_permit(
    denied: frozenset[RegionId],
    of_bindings: frozenset[RegionId],
    of_project: frozenset[RegionId],
    placement: Placement | None,
    share: float,
    has_rule: bool,
    is_local: bool,
    can_hop: bool,
    down: frozenset[RegionId],
    full: frozenset[RegionId],
    ejected: frozenset[RegionId],
) -> None:
    policy = Policy(deny=of_project)
    rig = BalanceRig(SPOTS, proxies=NODES, policy=policy, can_hop=can_hop, capacity=2)
    rule = RouteRule("/a", is_local=is_local, deny=denied) if has_rule else None
    base = rig.match(rule)
    match = replace(base, environment=replace(base.environment, deny=of_bindings))
    for region in REGIONS:
        pools = [rig.pool.at(endpoint) for endpoint in SPOTS[region]]
        for pool in pools:
            pool.outstanding = 2 if region in full else 0
            for _ in range(3 if region in ejected else 0):
                failure = UpstreamError("reset", kind=Kind.CONNECT)
                rig.outliers.note_error(pool, failure, was_sent=False)
        if region in down:
            rig.down.update(pool.target for pool in pools)
            rig.down.add(Target(TargetKind.PEER, region))
    forbidden = of_project | (denied if has_rule else of_bindings)
    choices = list(attempts(rig, match, placement, share))
    assert forbidden.isdisjoint(choice.region for choice in choices)
    permitted = set(REGIONS) - forbidden
    if permitted - down - full - ejected:
        assert choices, "a region that is permitted and well takes the request"
    if REGIONS[0] in forbidden:
        with pytest.raises(UpstreamError) as caught:
            rig.balancer.choose_own(match, Arm.FAILOVER, [])
        assert caught.value.kind is Kind.UNAVAILABLE


@pytest.mark.parametrize(
    ("denied", "kind"),
    [(REGIONS, Kind.RESIDENCY), (REGIONS[:2], Kind.RESIDENCY), ((), Kind.UNAVAILABLE)],
)
def test_refusal_says_whether_residency_is_why(denied: tuple[RegionId, ...], kind: Kind) -> None:
    rig = BalanceRig(SPOTS)
    for region in REGIONS if not denied else REGIONS[2:]:
        rig.down.update(rig.pool.at(endpoint).target for endpoint in SPOTS[region])
    match = rig.match(RouteRule("/a", deny=frozenset(denied)))
    with pytest.raises(UpstreamError) as caught:
        rig.balancer.choose(match, None, 0.5, [])
    assert caught.value.kind is kind


def test_the_rig_does_eject() -> None:
    rig = BalanceRig(SPOTS)
    pool = rig.pool.at(SPOTS[REGIONS[0]][0])
    for _ in range(3):
        rig.outliers.note_error(pool, UpstreamError("x", kind=Kind.CONNECT), was_sent=False)
    assert pool.health.is_ejected
