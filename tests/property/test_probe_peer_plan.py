"""The peers of a node under any history of distances, silence and wishes: bounded, and fair."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.model.topology import RegionId
from onetrip.probe.peers import REVIEW, SHORTLIST, PeerPlan

NAMES = [RegionId(f"r{number}") for number in range(60)]
REGION = st.sampled_from(NAMES)
REGIONS = st.lists(REGION, max_size=60)
DISTANCE = st.one_of(st.just(math.nan), st.floats(0.0005, 0.4))
STEP = st.tuples(
    st.floats(0.0, 2 * REVIEW),
    st.dictionaries(REGION, DISTANCE, min_size=1),
    st.frozensets(REGION),
    REGIONS,
    REGIONS,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(8, 24), st.integers(0, 9), st.lists(STEP, max_size=12))
def test_what_is_probed_is_known_and_bounded(most: int, seed: int, steps: list) -> None:
    plan, now = PeerPlan(most, Random(seed)), 0.0
    for wait, distances, silent, used, guesses in steps:
        now += wait
        plan.follow(now, distances, silent=silent, used=used, guesses=guesses)
        assert plan.chosen <= distances.keys()
        assert len(plan.near) + len(plan.far) <= most
        assert len(plan.shortlist) <= SHORTLIST
        assert len(plan.chosen) == len(plan.near) + len(plan.far) + len(plan.shortlist)
        live = distances.keys() - silent
        assert len(plan.near) + len(plan.far) >= min(most, len(live)), "no peer is left unused"
        wanted = [r for r in dict.fromkeys([*used, *guesses]) if r in distances]
        if len(wanted) <= 16:
            assert plan.chosen >= set(wanted)


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 16), st.integers(0, 99), st.integers(20, 60))
def test_every_region_is_reached_in_as_many_reviews_as_there_are(
    most: int, seed: int, count: int
) -> None:
    rng = Random(seed)
    distances = {name: rng.uniform(0.001, 0.3) for name in NAMES[:count]}
    plan, seen = PeerPlan(most, Random(seed)), set[RegionId]()
    for number in range(count):
        plan.follow(number * REVIEW, distances)
        seen |= plan.chosen
    assert seen == distances.keys()
