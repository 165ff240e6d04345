"""Which peers are probed: few, the near and some far ones, and those that placement asks for."""

from __future__ import annotations

import math
from random import Random

import pytest

from onetrip.model.topology import RegionId
from onetrip.probe.peers import (
    ALL_UP_TO,
    MOST_PEERS,
    PINNED,
    REVIEW,
    SHORTLIST,
    TURN,
    PeerPlan,
    limit_of,
)

COUNT = 100
REGIONS = [RegionId(f"r{number:03}") for number in range(COUNT)]
DISTANCES = {region: 0.001 * (number + 1) for number, region in enumerate(REGIONS)}
UNKNOWN = dict.fromkeys(REGIONS, math.nan)


def plan(most: int = 16, seed: int = 3) -> PeerPlan:
    return PeerPlan(most, Random(seed))


def placed(seed: int = 3) -> PeerPlan:
    """A plan of a node that knows where it is."""
    made = plan(seed=seed)
    made.follow(0.0, DISTANCES)
    return made


@pytest.mark.parametrize(
    ("wanted", "others", "limit"),
    [
        (None, ALL_UP_TO, None),
        (None, ALL_UP_TO + 1, MOST_PEERS),
        (None, 329, MOST_PEERS),
        (20, 20, None),
        (20, 21, 20),
        (200, 100, None),
    ],
)
def test_every_peer_is_probed_unless_there_are_many(
    wanted: int | None, others: int, limit: int | None
) -> None:
    assert limit_of(wanted, others) == limit


def test_peers_are_anywhere_until_the_node_knows_where_it_is() -> None:
    made = plan()
    made.follow(0.0, UNKNOWN)
    assert (len(made.near), len(made.far)) == (0, 16)
    made.follow(1.0, UNKNOWN | {r: DISTANCES[r] for r in made.far})
    assert made.near == [], "the 16 it happens to measure are not its neighbours"
    made.follow(2.0, DISTANCES)
    assert sorted(made.near) == REGIONS[:8]
    assert len(made.far) == 8


def test_choice_stays_between_reviews() -> None:
    made = placed()
    before = list(made.near), list(made.far)
    shaken = {r: rtt * (1.3 if i % 2 else 0.7) for i, (r, rtt) in enumerate(DISTANCES.items())}
    for second in range(1, int(REVIEW)):
        made.follow(float(second), shaken)
    assert (made.near, made.far) == before


def test_review_replaces_one_near_and_one_far_peer_at_most() -> None:
    made = placed()
    near, far = set(made.near), list(made.far)
    made.follow(REVIEW, {r: DISTANCES[REGIONS[-1 - i]] for i, r in enumerate(REGIONS)})
    assert len(near - set(made.near)) == 1
    assert len(set(far) - set(made.far)) <= 2, "one had its turn, one may have become near"
    assert far[0] not in made.far


def test_near_peer_is_not_replaced_for_a_little() -> None:
    made = placed()
    near = set(made.near)
    worst = max(near, key=DISTANCES.__getitem__)
    made.follow(REVIEW, DISTANCES | {REGIONS[50]: 0.95 * DISTANCES[worst]})
    assert set(made.near) == near
    made.follow(2 * REVIEW, DISTANCES | {REGIONS[50]: 0.85 * DISTANCES[worst]})
    assert set(made.near) == near - {worst} | {REGIONS[50]}


def test_every_region_becomes_a_far_peer_in_its_turn() -> None:
    made, seen = placed(), set[RegionId]()
    for number in range(COUNT):
        made.follow(number * REVIEW, DISTANCES)
        seen |= made.chosen
    assert seen == set(REGIONS)


def test_silent_peers_are_replaced_by_a_review_and_come_back() -> None:
    made = placed()
    gone = {*made.near[:3], *made.far[:3]}
    made.follow(1.0, DISTANCES, silent=gone)
    assert gone <= made.chosen
    made.follow(REVIEW, DISTANCES, silent=gone)
    assert not gone & made.chosen
    assert (len(made.near), len(made.far)) == (8, 8)
    for number in range(2, 8):
        made.follow(number * REVIEW, DISTANCES)
    assert set(made.near) == set(REGIONS[:8])


def test_peers_stay_when_everybody_falls_silent() -> None:
    made = placed()
    before = made.chosen
    made.follow(REVIEW, DISTANCES, silent=set(REGIONS))
    assert made.chosen == before, "it is this node that is cut off, and it has to notice its return"


def test_regions_in_use_are_probed_and_linger() -> None:
    made = placed()
    wanted = [r for r in REGIONS if r not in made.chosen][:3]
    made.follow(1.0, DISTANCES, used=wanted)
    assert set(made.shortlist) == set(wanted)
    made.follow(TURN, DISTANCES)
    assert set(made.shortlist) == set(wanted)
    made.follow(1.0 + TURN, DISTANCES)
    assert set(made.shortlist) == set()


def test_shortlist_holds_nobody_twice() -> None:
    made = placed()
    made.follow(1.0, DISTANCES, used=[*made.near, *made.far], guesses=made.near)
    assert set(made.shortlist) == set()


def test_busiest_regions_are_pinned_and_the_others_take_turns() -> None:
    made = placed()
    used = [r for r in REGIONS if r not in {*made.near, *made.far}]
    seen, now = set[RegionId](), 0.0
    while now < 20 * TURN:
        now += 5.0
        pinned = [r for r in used if r not in {*made.near, *made.far}][:PINNED]
        made.follow(now, DISTANCES, used=used)
        if now % REVIEW:
            assert set(pinned) <= made.chosen
        seen |= made.chosen
    assert set(used) <= seen
    assert len(made.shortlist) == SHORTLIST


def test_guesses_find_room_beside_many_regions_in_use() -> None:
    made = placed()
    free = [r for r in REGIONS if r not in made.chosen]
    made.follow(1.0, DISTANCES, used=free[:70], guesses=free[70:])
    assert len(set(free[70:]) & made.chosen) >= (SHORTLIST - PINNED) // 2


def test_guess_makes_room_when_its_turn_is_over() -> None:
    made = placed()
    free = [r for r in REGIONS if r not in made.chosen]
    made.follow(1.0, DISTANCES, guesses=free[:SHORTLIST])
    first = set(made.shortlist)
    assert first == set(free[:SHORTLIST])
    made.follow(2.0, DISTANCES, guesses=free)
    assert set(made.shortlist) == first
    made.follow(1.0 + TURN, DISTANCES, guesses=free)
    assert not first & set(made.shortlist)


def test_regions_that_leave_the_configuration_are_dropped_at_once() -> None:
    made = placed()
    made.follow(1.0, DISTANCES, used=REGIONS[60:80])
    rest = {r: DISTANCES[r] for r in REGIONS[::2]}
    made.follow(2.0, rest)
    assert made.chosen <= set(rest)
    assert (len(made.near), len(made.far)) == (8, 8)


def test_equal_luck_gives_equal_choices() -> None:
    plans = plan(seed=5), plan(seed=5)
    for number in range(20):
        for made in plans:
            made.follow(number * REVIEW, DISTANCES, used=REGIONS[40:45])
        assert plans[0].chosen == plans[1].chosen
    assert plan(seed=6).far == [], "nothing is chosen before it is asked for"
