"""The explain text, word for word: it is what people decide by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onetrip.cli.explain import decision, explain, sentence
from onetrip.control import convert
from onetrip.control.schemas import DecisionBody, ExplainBody, LatencyRow
from onetrip.model.placement import Decision, Saving, Status
from support.fake_view import FakeView

PLACED = """\
shop/production  read /orders/{id}  from den: placed in bom - saves 2284.5 ms (91 %), predicted
   region  edge RTT  compute    orders-db: trips x RTT      total
*  bom        229.0      3.1  11.0 x    0.5 =      5.5   237.6 ms
   fra        136.0      3.1  11.0 x  117.0 =   1287.0  1426.1 ms  slower
   den          0.0      3.1  11.0 x  229.0 =   2519.0  2522.1 ms  default
  rule: predicted saving exceeds the least gain and its interval
  trips: 11.0 to orders-db (10.7..11.3), learned from traffic: 1284 requests in 3 regions
  measured: control 2547.3 ms (12 requests) vs placed 240.0 ms (1272): saving 2284.5 ms, \
95 % interval 2234.8..2334.2 ms"""

ANALYZING = """\
shop/production  read /search  from den: analyzing, runs in den meanwhile
   region  edge RTT  compute   orders-db: trips x RTT     total
   bom        229.0      3.1  4.0 x    0.5 =      2.0  234.1 ms  slower
   fra        136.0      3.1  4.0 x  117.0 =    468.0  607.1 ms  slower
*  den          0.0      3.1  4.0 x  229.0 =    916.0  919.1 ms  default
  rule: round trips not known yet
  trips: not known yet, 6 requests seen
  missing: needs 14 more requests from den"""

TWO_BACKENDS = """\
   region  edge RTT  compute   orders-db: trips x RTT    sessions: trips x RTT      total
*  bom        229.0      4.8  6.2 x    0.5 =      3.1  1.0 x  117.0 =    117.0   353.9 ms
   fra        136.0      4.8  6.2 x  117.0 =    725.4  1.0 x    0.5 =      0.5   866.7 ms  slower
   den          0.0      4.8  6.2 x  229.0 =   1419.8  1.0 x  136.0 =    136.0  1560.6 ms"""


def bodies(route: str, edge: str = "den") -> tuple[DecisionBody, list[LatencyRow], Decision]:
    view = FakeView()
    found = next(d for d in view.decisions("shop") if (d.key.route, d.edge) == (route, edge))
    rows = [convert.latency_row(row) for row in view.latencies("shop")]
    own = [r for r in rows if (r.route, r.edge) == (route, edge)]
    return convert.decision_body(found), own, found


def test_placed_route_shows_every_term_and_the_measured_saving() -> None:
    body, rows, _ = bodies("/orders/{id}")
    assert decision(body, rows) == PLACED


def test_analyzing_route_shows_what_is_missing() -> None:
    body, rows, _ = bodies("/search")
    assert decision(body, rows) == ANALYZING


def test_each_backend_has_its_column() -> None:
    body, rows, _ = bodies("/orders")
    assert TWO_BACKENDS in decision(body, rows)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.OFF, "off, runs in bom"),
        (Status.ANALYZING, "analyzing, runs in bom meanwhile"),
        (Status.PLACED, "placed in bom - saves 2284.5 ms (91 %), predicted"),
        (Status.AT_EDGE, "stays at its default, in bom"),
        (Status.PINNED, "pinned to bom by its hint - saves 2284.5 ms (91 %), predicted"),
        (Status.INSUFFICIENT_TRAFFIC, "insufficient traffic, runs in bom"),
        (Status.NOT_HELPING, "not helping, went back to bom"),
        (Status.UNREACHABLE, "unreachable, no permitted region has a ready instance"),
    ],
)
def test_every_status_is_a_sentence(status: Status, words: str) -> None:
    _, _, found = bodies("/orders/{id}")
    changed = replace(found, placement=replace(found.placement, status=status))
    assert sentence(convert.decision_body(changed)) == words


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (Status.OFF, "missing: the toggle; what it would do: onetrip whatif shop"),
        (Status.ANALYZING, "missing: more requests from den"),
        (Status.INSUFFICIENT_TRAFFIC, "missing: more requests from den"),
        (Status.NOT_HELPING, "missing: nothing to do: it is tried again after a pause"),
        (Status.UNREACHABLE, "missing: a ready instance in a permitted region"),
    ],
)
def test_route_that_is_not_placed_says_what_is_missing(status: Status, line: str) -> None:
    _, _, found = bodies("/orders/{id}")
    changed = replace(found, placement=replace(found.placement, status=status))
    assert line in decision(convert.decision_body(changed), [])


@pytest.mark.parametrize("status", [Status.PLACED, Status.AT_EDGE, Status.PINNED])
def test_decided_route_misses_nothing(status: Status) -> None:
    _, _, found = bodies("/orders/{id}")
    changed = replace(found, placement=replace(found.placement, status=status))
    assert "missing" not in decision(convert.decision_body(changed), [])


@pytest.mark.parametrize(
    ("source", "requests", "regions", "words"),
    [
        (
            "traffic + relay + timing",
            1284,
            3,
            "learned from traffic + relay + timing: 1284 requests in 3 regions",
        ),
        ("traffic", 9, 1, "learned from traffic: 9 requests in 1 region\n"),
        ("relay", 0, 0, "(10.7..11.3), learned from relay\n"),
        ("declared", 5, 1, "(10.7..11.3), declared\n"),
    ],
)
def test_source_of_the_trips_is_told(source: str, requests: int, regions: int, words: str) -> None:
    _, _, found = bodies("/orders/{id}")
    trips = replace(found.trips, source=source, requests=requests, regions=regions)
    assert words in decision(convert.decision_body(replace(found, trips=trips)), []) + "\n"


def test_route_that_stays_at_its_edge_says_so() -> None:
    body, _, _ = bodies("/about")
    assert sentence(body) == "stays at the edge, in den"


def test_pin_that_costs_says_so() -> None:
    view = FakeView()
    found = next(d for d in view.decisions("invoices") if d.edge == "bom")
    assert "costs" in sentence(convert.decision_body(found))


def test_saving_without_an_interval_says_why() -> None:
    _, rows, found = bodies("/orders/{id}")
    nan = float("nan")
    few = replace(found, saving=Saving(2.3, nan, nan, 0.95, 12, 1))
    assert "saving 2300.0 ms, too little traffic for an interval" in decision(
        convert.decision_body(few), rows
    )
    none = replace(found, saving=Saving(nan, nan, nan, 0.95, 12, 0))
    assert "too little traffic to compare" in decision(convert.decision_body(none), [])


def test_rows_of_other_routes_are_not_mixed_in() -> None:
    body, rows, _ = bodies("/orders/{id}")
    other = bodies("/orders/{id}", "fra")[1]
    assert explain(ExplainBody("shop", 1, [body]), other + rows) == PLACED


def test_what_clients_may_rely_on_comes_first() -> None:
    body, rows, _ = bodies("/orders/{id}")
    told = explain(ExplainBody("shop", 1, [body], consistency="session: reads wait"), rows)
    assert told == f"shop: session: reads wait\n\n{PLACED}"


def test_no_route_is_told_in_a_sentence() -> None:
    assert "no route matches" in explain(ExplainBody("shop", 0, []), [])


def test_rows_beyond_the_limit_are_counted() -> None:
    body, rows, _ = bodies("/about")
    assert explain(ExplainBody("shop", 7, [body]), rows).endswith("6 more not shown")


def test_route_name_cannot_steer_the_terminal() -> None:
    body, _, found = bodies("/about")
    key = found.key._replace(route="/\x1b[2Jx")
    body = convert.decision_body(replace(found, key=key))
    assert "\x1b" not in explain(ExplainBody("shop", 1, [body]), [])


def test_backends_that_are_never_called_are_not_counted() -> None:
    _, rows, found = bodies("/orders/{id}")
    trips = replace(found.trips, round_trips={"orders-db": 0.01}, low={}, high={})
    text = decision(convert.decision_body(replace(found, trips=trips)), rows)
    assert "trips: none to any backend, learned from traffic: 1284 requests" in text


def test_capacity_tells_where_the_rest_goes() -> None:
    _, rows, found = bodies("/orders/{id}")
    text = decision(convert.decision_body(found, capacity=40), rows)
    assert "  load: 40 requests at once an instance; what is more goes to fra" in text.splitlines()
    alone = replace(found, placement=replace(found.placement, regions=found.placement.regions[:1]))
    assert "load:" not in decision(convert.decision_body(alone, capacity=40), rows)
