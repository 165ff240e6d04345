"""Model values to API bodies: milliseconds, nulls for NaN, and the figures of the example."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest

from onetrip.control import convert, schemas
from onetrip.model.catalog import Mode
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.placement import Decision, Saving, Status
from onetrip.model.status import PeerStatus, PolicyChange
from onetrip.model.topology import RegionId
from support.fake_view import FakeView


def orders_from_den(view: FakeView) -> Decision:
    return next(d for d in view.decisions("shop") if d.key.route == "/orders/{id}")


def test_decision_holds_every_term_in_milliseconds() -> None:
    body = convert.decision_body(orders_from_den(FakeView()))
    best = body.candidates[0]
    assert (best.region, best.edge_rtt_ms, best.compute_ms, best.score_ms) == (
        "bom",
        229.0,
        3.1,
        237.6,
    )
    assert best.backends == [schemas.TermRow("orders-db", 11.0, 0.5, 5.5, "orders-db")]
    assert best.is_chosen
    assert not best.is_default
    assert [c.region for c in body.candidates if c.is_default] == ["den"]
    assert (body.status, body.regions[0], body.default) == ("placed", "bom", "den")


def test_unknown_figures_become_null_and_never_nan() -> None:
    decision = orders_from_den(FakeView())
    unknown = replace(
        decision.candidates[0],
        edge_rtt=math.nan,
        score=math.inf,
        backend_trips=(("orders-db", math.nan, math.nan, math.nan),),
    )
    saving = Saving(math.nan, math.nan, math.nan, 0.95, 3, 0)
    body = convert.decision_body(replace(decision, candidates=(unknown,), saving=saving))
    text = msgspec.json.encode(body)
    row = msgspec.json.decode(text)["candidates"][0]
    assert (row["edge_rtt_ms"], row["score_ms"], row["backends"][0]["rtt_ms"]) == (None,) * 3
    assert b"NaN" not in text
    assert msgspec.json.decode(text)["saving"]["low_ms"] is None


def test_route_that_never_moved_has_no_move_time() -> None:
    decision = replace(orders_from_den(FakeView()), moved_at=0.0)
    assert convert.decision_body(decision).moved_at is None


def test_missing_of_the_trips_is_told_when_the_placement_has_none() -> None:
    decision = orders_from_den(FakeView())
    trips = replace(decision.trips, missing="needs 14 more requests from den")
    body = convert.decision_body(replace(decision, trips=trips))
    assert body.missing == "needs 14 more requests from den"


def test_mean_saving_is_weighted_by_placed_requests() -> None:
    decision = orders_from_den(FakeView())
    savings = [Saving(2.0, 1.9, 2.1, 0.95, 300, 3), Saving(1.0, 0.9, 1.1, 0.95, 100, 3), None]
    assert convert.mean_saving([replace(decision, saving=s) for s in savings]) == 1750.0
    assert convert.mean_saving([replace(decision, saving=None)]) is None


def test_route_that_was_moved_back_saves_nothing_now() -> None:
    decision = orders_from_den(FakeView())
    back = replace(decision.placement, status=Status.OFF)
    assert convert.mean_saving([replace(decision, placement=back)]) is None


async def test_etag_changes_with_the_policy_and_with_nothing_else() -> None:
    view, other = FakeView(), FakeView(now=FakeView().now + 60)

    def tag(of: FakeView) -> str:
        return convert.etag_of(
            convert.project_body(of.catalog.projects["shop"], of.catalog.backends)
        )

    before = tag(view)
    assert before == tag(other)
    await view.change_policy("shop", PolicyChange(mode=Mode.OFF))
    assert tag(view) != before


def test_backends_are_nearest_to_the_region_they_are_in() -> None:
    assert convert.nearest_backends(FakeView().rtt_rows()) == {
        "bom": ["orders-db"],
        "fra": ["blog-db", "sessions"],
    }


def test_anycast_backend_has_no_home_and_is_marked_in_every_row() -> None:
    rtts, anycast = FakeView().rtt_rows(), frozenset({"sessions", "den"})
    assert convert.nearest_backends(rtts, anycast)[RegionId("fra")] == ["blog-db"]
    rows = convert.rtt_rows(rtts, convert.RegionOrder(rtts), anycast)
    # A region that shares its name with such a backend is no backend.
    assert {(r.kind, r.target) for r in rows if r.is_anycast} == {("backend", "sessions")}


def test_instances_are_counted_once_and_judged_by_their_own_region() -> None:
    view, den, bom = FakeView(), RegionId("den"), RegionId("bom")
    assert convert.instance_counts(view.catalog, view.rtt_rows(), den)[bom] == (1, 1)
    target = Target(TargetKind.INSTANCE, "127.0.0.1:9000")
    down = RttEstimate(target, math.nan, math.nan, math.nan, 0, 5, 0.0, EstimateState.FAILING)
    up = replace(down, rtt=0.01, failures=0, state=EstimateState.FRESH)
    rows = {den: {target: up}, bom: {target: down}}
    counts = convert.instance_counts(view.catalog, rows, den)
    assert (counts[den], counts[bom]) == ((1, 1), (1, 0))
    # Where the region says nothing, this node's own probes decide.
    assert convert.instance_counts(view.catalog, {den: {target: down}}, den)[bom] == (1, 0)


def test_backend_without_any_rtt_is_near_nothing() -> None:
    target = Target(TargetKind.BACKEND, "lost")
    nan = math.nan
    estimate = RttEstimate(target, nan, nan, nan, 0, 5, 0.0, EstimateState.FAILING)
    assert convert.nearest_backends({RegionId("den"): {target: estimate}}) == {}


@pytest.mark.parametrize(
    ("peer", "is_alive", "age"),
    [
        (None, None, None),
        (PeerStatus(RegionId("bom"), True, 0.6), True, 0.6),
        (PeerStatus(RegionId("bom"), False, math.inf), False, None),
    ],
)
def test_region_tells_whether_its_node_is_alive(
    peer: PeerStatus | None, is_alive: bool | None, age: float | None
) -> None:
    region = FakeView().topology.regions[RegionId("bom")]
    row = convert.region_row(region, own=RegionId("den"), peer=peer, backends=[])
    assert (row.is_alive, row.age, row.is_self) == (is_alive, age, False)
