"""What holds for every sequence of states, refusals and lost connections; and for every path."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from onetrip.model.measure import Arm, MethodClass
from onetrip.model.placement import Placement, Status
from onetrip.model.topology import RegionId
from onetrip.place.arms import assign
from onetrip.proxy.router import template
from onetrip.xds.orders import SCALE, split
from onetrip.xds.patterns import class_regex
from onetrip.xds.session import Session, State, Type
from support.xds_client import XdsClient, state

NAMES = "abcd"
REGIONS = [RegionId(name) for name in ("den", "fra", "sin", "syd")]


@st.composite
def states(draw: st.DrawFn) -> State:
    clusters = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from("123"), min_size=1))
    routes = draw(st.sets(st.sampled_from(sorted(clusters)), min_size=1))
    poison = draw(st.sampled_from(["", "", "", *NAMES]))
    if poison:  # a bad body has a version of its own
        clusters = {n: v + "!" if n == poison else v for n, v in clusters.items()}
    return state(clusters, sorted(routes), draw(st.sampled_from("12")), poison)


@given(st.lists(st.tuples(states(), st.integers(0, 6), st.booleans()), max_size=8), states())
def test_routes_never_refer_to_what_is_missing_and_the_last_state_wins(
    steps: list[tuple[State, int, bool]], last: State
) -> None:
    session = Session()
    client = XdsClient(session)
    client.connect()
    for wanted, turns, is_lost in steps:
        if is_lost:
            session = Session()
            session.offer(wanted)
            client.connect(session)
        session.offer(wanted)
        for _ in range(turns):
            client.turn()
    session.offer(last)
    client.settle()
    assert client.broken == []
    poisoned = {n for n, r in last[Type.CLUSTER].items() if r.body.get("poison")}
    assert {name for _, name in session.refused} == poisoned
    if not poisoned:
        assert session.is_current
        for kind, wanted_of_kind in last.items():
            assert client.has[kind] == wanted_of_kind


SEGMENTS = st.one_of(
    st.text(st.sampled_from("abzAZ019_=~+-.{}%@"), min_size=1, max_size=70),
    st.uuids().map(str),
    st.integers(0, 10**14).map(str),
    st.sampled_from(["users", "v1", "0a" * 6, "x" * 64, "x" * 65]),
)


@given(st.lists(SEGMENTS, max_size=15), st.sampled_from(["", "/"]))
def test_path_matches_the_expression_of_its_class(segments: list[str], end: str) -> None:
    path = "/" + "/".join(segments) + (end if segments else "")
    route = template(path)
    assert re.fullmatch(class_regex(route), path)


@given(st.lists(SEGMENTS, max_size=15), st.lists(SEGMENTS, max_size=15))
def test_expression_of_a_class_matches_no_path_of_another(one: list[str], two: list[str]) -> None:
    first, second = ("/" + "/".join(each) for each in (one, two))
    matches = re.fullmatch(class_regex(template(first)), second) is not None
    literal = "{id}" in first + second  # such text looks like a class already
    assert matches is (template(first) == template(second)) or literal


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    regions = draw(st.permutations(REGIONS))[: draw(st.integers(1, 4))]
    return Placement(
        draw(st.sampled_from(list(Status))),
        tuple(regions),
        draw(st.sampled_from(REGIONS)),
        control_ratio=draw(st.sampled_from([0.0, 0.01, 0.25, 0.5])),
        explore=draw(st.sampled_from([None, *REGIONS])),
        explore_ratio=draw(st.sampled_from([0.0, 0.01, 0.25, 0.5])),
        explores_writes=draw(st.booleans()),
    )


@given(placements(), st.sampled_from(list(MethodClass)), st.sets(st.sampled_from(REGIONS)))
def test_shares_are_those_that_arms_assigns(
    placement: Placement, method: MethodClass, permitted: set[RegionId]
) -> None:
    allowed = [region for region in REGIONS if region in permitted]
    shares = split(REGIONS[0], placement, allowed, method)
    assert all(set(share.order) == permitted for share in shares)
    assert sum(share.weight for share in shares) == (SCALE if permitted else 0)
    if len(permitted) < len(REGIONS):
        return  # then several arms may end in one region
    steps = 1000
    wanted: dict[RegionId | None, int] = {}
    for step in range(steps):
        _, region = assign(placement, method, (step + 0.5) / steps)
        wanted[region] = wanted.get(region, 0) + 1
    found = {share.order[0]: share.weight * steps // SCALE for share in shares}
    assert found == wanted


def test_arm_is_the_one_that_arms_assigns() -> None:
    placement = Placement(Status.PLACED, (REGIONS[1],), REGIONS[0], 0.1, REGIONS[2], 0.05)
    arms = {s.order[0]: s.arm for s in split(REGIONS[0], placement, REGIONS, MethodClass.READ)}
    assert arms == {
        REGIONS[1]: Arm.PLACED,
        REGIONS[0]: Arm.CONTROL,
        REGIONS[2]: Arm.EXPLORE,
    }
