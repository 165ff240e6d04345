"""Advice on routes: what is told, in which order, and what is said to be missing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from onetrip.cli.route_advice import route_advice
from onetrip.control.convert import RegionOrder
from onetrip.control.route_advice import RouteAdviceBody, RouteAdvisor
from onetrip.model.catalog import Catalog
from onetrip.model.placement import Candidate, Decision, Status, WhatIf
from support.fake_view import FakeView

VIEW = FakeView()


def pair(
    status: Status, route: str, requests: int = 10, saving: float = 0.0
) -> tuple[WhatIf, Decision]:
    """Return what is known of one route of the shop in Denver."""
    decision = next(d for d in VIEW.decisions("shop") if d.edge == "den" and d.trips.round_trips)
    key = decision.key._replace(route=route)
    placement = replace(decision.placement, status=status, missing="", reason="why")
    row = WhatIf(key, decision.edge, requests, 0.5, placement, 0.1, saving, saving / 2, saving)
    return row, replace(decision, key=key, placement=placement)


def advice(
    pairs: Iterable[tuple[WhatIf, Decision]],
    catalog: Catalog | None = None,
    limit: int = 100,
    start: int = 0,
    *,
    is_advising: bool = True,
) -> RouteAdviceBody:
    found = list(pairs)
    order = RegionOrder(VIEW.topology.regions)
    advisor = RouteAdvisor(catalog or Catalog(), order, is_advising=is_advising)
    return advisor.body([w for w, _ in found], [d for _, d in found], None, limit, start)


def unknown_edge(found: tuple[WhatIf, Decision]) -> tuple[WhatIf, Decision]:
    row, decision = found
    blind = [_blind(c) for c in decision.candidates]
    return row, replace(decision, candidates=tuple(blind))


def _blind(each: Candidate) -> Candidate:
    trips = tuple((name, n, math.nan, math.nan) for name, n, _, _ in each.backend_trips)
    edge = 0.0 if each.region == "den" else math.nan
    verdict = "no instance there" if each.region == "fra" else each.verdict
    return replace(each, edge_rtt=edge, backend_trips=trips, verdict=verdict)


def test_what_saves_most_time_goes_first_then_what_lacks_something() -> None:
    body = advice(
        [
            pair(Status.AT_EDGE, "/stays", 9_000),
            pair(Status.ANALYZING, "/unknown", 5),
            pair(Status.PLACED, "/rare", 10, 2.0),
            pair(Status.PLACED, "/often", 1_000, 0.1),
        ]
    )
    assert [r.route for r in body.routes] == ["/often", "/rare", "/unknown", "/stays"]
    assert [r.advice for r in body.routes] == ["move", "move", "unknown", "stay"]
    assert (body.routes[1].saving_ms, body.routes[1].low_ms) == (2000.0, 1000.0)
    assert body.routes[3].saving_ms is None
    assert body.mode == "advise"


def test_missing_rtts_are_named_and_those_of_regions_that_cannot_run_it_are_not() -> None:
    (row,) = advice([unknown_edge(pair(Status.AT_EDGE, "/orders"))]).routes
    assert row.advice == "unknown"
    (text,) = row.missing
    assert text.startswith("needs RTTs: ")
    assert "den to bom" in text
    assert "bom to orders-db" in text
    assert "fra" not in text


def test_missing_round_trips_say_how_to_give_them_where_no_traffic_teaches_them() -> None:
    (row,) = advice([pair(Status.ANALYZING, "/orders")]).routes
    assert "needs round trips of read /orders: declare them" in row.missing[0]
    serving = pair(Status.ANALYZING, "/orders")
    told = replace(serving[0].placement, missing="needs 3 more requests from den")
    serving = (replace(serving[0], placement=told), serving[1])
    (row,) = advice([serving], is_advising=False).routes
    assert row.missing == ["needs 3 more requests from den"]


def test_environments_without_a_route_are_told_apart() -> None:
    body = advice([pair(Status.AT_EDGE, "/orders")], VIEW.catalog)
    told = {(row.project, row.environment) for row in body.waiting}
    assert ("blog", "production") in told
    assert ("shop", "production") not in told
    assert all("access log" in row.missing for row in body.waiting)


def test_a_page_is_a_part_of_all_and_names_the_next() -> None:
    pairs = [pair(Status.PLACED, f"/{n}", 1, 1.0 / (n + 1)) for n in range(5)]
    first = advice(pairs, limit=2)
    assert (first.total, len(first.routes), first.next) == (5, 2, "2")
    last = advice(pairs, limit=2, start=4)
    assert ([r.route for r in last.routes], last.next) == (["/4"], None)


def test_text_says_what_to_do_and_what_is_missing() -> None:
    text = route_advice(
        advice([pair(Status.PLACED, "/orders", 10, 2.0), pair(Status.ANALYZING, "/a\x1b[2J")])
    )
    assert "takes no traffic" in text
    assert "2000.0" in text
    assert "1000.0..2000.0" in text
    assert "needs round trips of read" in text
    assert "\x1b" not in text
    assert route_advice(advice([])).endswith("no environment is declared")
