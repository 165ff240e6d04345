"""Placements on their way to the workers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.app.worker_messages import Placements, decode_to_worker, encode
from onetrip.app.worker_placements import PlacementFeed, patched
from onetrip.errors import ProtocolError
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.topology import RegionId

DEN, BOM = RegionId("den"), RegionId("bom")
SHOP = EnvironmentId("shop", "production")


def key(name: str) -> RouteKey:
    return RouteKey(SHOP, name, MethodClass.READ)


def placed(region: RegionId, reason: str = "scored") -> Placement:
    return Placement(Status.PLACED, (region,), DEN, reason=reason)


def sent(news: Placements) -> Placements:
    message = decode_to_worker(encode(news))
    assert isinstance(message, Placements)
    return message


TABLES = st.dictionaries(
    st.sampled_from("abcd").map(key), st.sampled_from([placed(DEN), placed(BOM)])
)


@given(st.lists(st.tuples(TABLES, st.booleans()), min_size=1, max_size=6))
def test_worker_that_follows_has_what_one_that_starts_anew_has(
    rounds: list[tuple[dict[RouteKey, Placement], bool]],
) -> None:
    feed, follower = PlacementFeed(), PlacementSnapshot(DEN)
    for version, (routes, has_environment) in enumerate(rounds, 1):
        environments = {SHOP: placed(DEN)} if has_environment else {}
        made = PlacementSnapshot(DEN, version, routes, environments)
        before = replace(follower, routes=dict(follower.routes))
        follower_then = follower
        follower = patched(follower, sent(feed.advance(made)))
        newcomer = patched(PlacementSnapshot(DEN), sent(feed.whole()))
        assert follower == newcomer
        assert follower.version == version
        assert {k: p.regions for k, p in follower.routes.items()} == {
            k: p.regions for k, p in routes.items()
        }
        assert follower.environments.keys() == environments.keys()
        assert follower_then == before  # readers of the old one see no change


def test_round_in_which_only_a_reason_changed_sends_nothing() -> None:
    feed = PlacementFeed()
    feed.advance(PlacementSnapshot(DEN, 1, {key("a"): placed(BOM, "saves 12 ms")}))
    news = feed.advance(PlacementSnapshot(DEN, 2, {key("a"): placed(BOM, "saves 13 ms")}))
    assert news == Placements(1, 2, [], [], [], [])


def test_news_about_another_version_are_refused() -> None:
    with pytest.raises(ProtocolError, match="news about placements 4, not 0"):
        patched(PlacementSnapshot(DEN), Placements(4, 5, [], [], [], []))
