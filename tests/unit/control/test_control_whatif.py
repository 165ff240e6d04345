"""What-if bodies: ranked by time saved, totals weighted by requests, the unknown kept apart."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest

from onetrip.control.convert import RegionOrder
from onetrip.control.whatif import total_of, what_if_body
from onetrip.model.placement import Status, WhatIf
from support.fake_view import FakeView


def rows_of(project: str = "shop") -> list[WhatIf]:
    return FakeView().what_if(project)


def row(
    status: Status = Status.PLACED, requests: int = 100, saving: float = 1.0, route: str = "/a"
) -> WhatIf:
    """Return a row with bounds of ± 0.1 s."""
    base = rows_of()[0]
    return replace(
        base,
        key=base.key._replace(route=route),
        placement=replace(base.placement, status=status),
        requests=requests,
        saving=saving,
        low=saving - 0.1,
        high=saving + 0.1,
    )


def test_rows_are_ranked_by_time_saved_then_unknown_then_those_that_stay() -> None:
    rows = [
        row(Status.AT_EDGE, 9_000, 0.0, "/stays"),
        row(Status.ANALYZING, 5, 0.0, "/unknown"),
        row(Status.PLACED, 10, 2.0, "/rare"),
        row(Status.INSUFFICIENT_TRAFFIC, 7, 0.0, "/quiet"),
        row(Status.PLACED, 1_000, 0.1, "/often"),
    ]
    body = what_if_body("shop", "off", rows, RegionOrder(()), 100)
    assert [r.route for r in body.rows] == ["/often", "/rare", "/quiet", "/unknown", "/stays"]


def test_totals_weigh_by_requests_over_all_and_over_moved() -> None:
    total = total_of([row(requests=100, saving=2.0), row(requests=300, saving=1.0, route="/b")])
    assert (total.moved_saving_ms, total.saving_ms, total.moved_ratio) == (1250.0, 1250.0, 1.0)
    total = total_of([row(requests=100, saving=2.0), row(Status.AT_EDGE, 300, 0.0, "/b")])
    assert (total.moved_saving_ms, total.saving_ms, total.moved_ratio) == (2000.0, 500.0, 0.25)
    assert (total.moved_low_ms, total.moved_high_ms) == (1900.0, 2100.0)
    assert (total.low_ms, total.high_ms) == (475.0, 525.0)
    assert (total.requests, total.moved_requests) == (400, 100)


def test_unknown_rows_save_nothing_and_are_counted_by_route() -> None:
    rows = [
        row(requests=50),
        row(Status.ANALYZING, 30, 5.0, "/b"),
        row(Status.INSUFFICIENT_TRAFFIC, 20, 5.0, "/b"),
    ]
    total = total_of(rows)
    assert (total.routes, total.unknown_routes, total.unknown_requests) == (2, 1, 50)
    assert total.saving_ms == 500.0
    listed = what_if_body("shop", "off", rows, RegionOrder(()), 100).rows
    assert [r.saving_ms for r in listed] == [1000.0, None, None]


def test_saving_that_is_not_a_number_is_unknown_and_spoils_no_total() -> None:
    total = total_of([row(requests=50), row(saving=math.nan, route="/b")])
    assert (total.unknown_routes, total.saving_ms) == (1, pytest.approx(333.333))
    body = what_if_body("shop", "off", [row(saving=math.nan)], RegionOrder(()), 100)
    assert b"NaN" not in msgspec.json.encode(body)


def test_nothing_seen_divides_by_nothing() -> None:
    for rows in ([], [row(requests=0)]):
        total = total_of(rows)
        assert (total.requests, total.moved_ratio, total.saving_ms) == (0, None, None)
        assert total.moved_saving_ms is None


def test_no_move_saves_zero_over_all_and_nothing_over_moved() -> None:
    total = total_of([row(Status.AT_EDGE, 10, 0.0)])
    assert (total.moved_ratio, total.saving_ms, total.moved_saving_ms) == (0.0, 0.0, None)


def test_limit_cuts_the_list_but_never_the_totals() -> None:
    whole = what_if_body("shop", "off", rows_of(), RegionOrder(()), 100)
    short = what_if_body("shop", "off", rows_of(), RegionOrder(()), 2)
    assert (len(short.rows), short.total, short.totals) == (2, 15, whole.totals)


def test_latency_predicted_without_data_is_not_known() -> None:
    blank = replace(row(Status.ANALYZING, 1, 0.0), default=0.0, predicted=0.0)
    listed = what_if_body("shop", "off", [blank], RegionOrder(()), 100).rows[0]
    assert (listed.default_ms, listed.predicted_ms) == (None, None)


def test_unreachable_route_runs_nowhere_and_is_not_called_unknown() -> None:
    base = row(Status.UNREACHABLE, 10, 0.0)
    lost = replace(
        base,
        placement=replace(base.placement, regions=(), default=None),
        default=math.nan,
        predicted=math.nan,
    )
    body = what_if_body("shop", "off", [lost], RegionOrder(()), 100)
    assert (body.rows[0].runs_in, body.rows[0].default_ms) == (None, None)
    assert body.totals.unknown_routes == 0
