"""Spreads of a route: what is added up, and what is not."""

from __future__ import annotations

import math
from dataclasses import replace

from onetrip.control.distributions import distribution_row, spreads
from onetrip.model.distribution import BUCKETS, Distribution, add_up
from onetrip.model.measure import Arm
from onetrip.model.placement import Saving
from support.fake_view import FakeView

VIEW = FakeView()
DECISIONS = [d for d in VIEW.decisions("shop") if d.key.route == "/orders/{id}"]
LATENCIES = [r for r in VIEW.latencies("shop") if r.key.route == "/orders/{id}"]


def test_edges_with_both_arms_are_added_up_and_the_others_left_out() -> None:
    (found,) = spreads(LATENCIES, DECISIONS)
    # Mumbai is the database's own region: nothing is placed from there.
    assert found.edges == ("den", "fra")
    assert [arm for arm, _ in found.arms] == [Arm.PLACED, Arm.CONTROL]
    assert found.saving is not None
    arms = dict(found.arms)
    assert arms[Arm.PLACED].requests == found.saving.placed_requests
    assert arms[Arm.CONTROL].requests == found.saving.control_requests
    row = distribution_row(found)
    for arm in row.arms:
        assert sum(b.requests for b in arm.buckets) == arm.requests
        assert all(b.le_ms is not None and b.above_ms < b.le_ms for b in arm.buckets)


def test_edge_without_bounds_is_drawn_only_where_none_has_any() -> None:
    unsure = [
        replace(d, saving=Saving(2.0, math.nan, math.nan, 0.95, 40, 2)) if d.edge == "fra" else d
        for d in DECISIONS
    ]
    (found,) = spreads(LATENCIES, unsure)
    assert found.edges == ("den",)
    (found,) = spreads(LATENCIES, [d for d in unsure if d.edge != "den"])
    assert found.edges == ("fra",)
    assert distribution_row(found).saving is not None


def test_route_that_never_moved_tells_of_its_default_alone() -> None:
    rows = [r for r in LATENCIES if r.arm is Arm.DEFAULT]
    (found,) = spreads(rows, [])
    assert found.saving is None
    assert [arm for arm, _ in found.arms] == [Arm.DEFAULT]
    assert spreads([replace(r, trial=None) for r in rows], []) == []


def test_last_bucket_has_no_upper_bound_and_the_first_begins_at_nothing() -> None:
    wide = Distribution(3, 60.0, ((0, 1), (BUCKETS - 1, 2)))
    rows = [replace(r, trial=wide) for r in LATENCIES if r.arm is Arm.CONTROL][:1]
    (found,) = spreads(rows, [])
    buckets = distribution_row(found).arms[0].buckets
    assert (buckets[0].above_ms, buckets[0].le_ms) == (0.0, 0.1)
    assert (buckets[1].above_ms, buckets[1].le_ms) == (100_000.0, None)


def test_sum_is_of_all_requests() -> None:
    found = add_up([Distribution(1, 1.0, ((3, 1),)), Distribution(3, 2.0, ((2, 1), (3, 2)))])
    assert found == Distribution(4, 1.75, ((2, 1), (3, 3)))


def test_what_cannot_be_a_distribution_is_told() -> None:
    good = Distribution(3, 0.2, ((4, 1), (9, 2)))
    assert good.is_sound()
    for bad in (
        replace(good, requests=4),
        replace(good, mean=-1.0),
        replace(good, mean=math.nan),
        replace(good, counts=((9, 2), (4, 1))),
        replace(good, counts=((4, 1), (BUCKETS, 2))),
        replace(good, counts=((-1, 1), (9, 2))),
        replace(good, counts=((4, 3), (5, 0))),
        Distribution(0, 0.0, ()),
    ):
        assert not bad.is_sound(), bad
