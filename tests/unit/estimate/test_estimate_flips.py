"""Counted trips are attributed to routes; background work, gaps and other projects are not."""

import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from onetrip.errors import Kind, OnetripError
from onetrip.estimate.flips import HOLD, MAX_CELL_ROUTES, MAX_STREAMS, FlipsBook
from onetrip.estimate.relays import (
    LEAST_REQUESTS,
    MAX_RELAYS,
    MAX_ROUTES,
    RELAY_MEMORY,
    SOLVE_EVERY,
)
from onetrip.estimate.windows import MAX_AGE
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.relay import FlipReport
from support.trip_world import Request, World, other_trips, requests

START = 1_750_000_000
SHOP = EnvironmentId("shop", "production")
BLOG = EnvironmentId("blog", "production")
TRIPS = {"/static": 0, "/item": 1, "/cart": 4, "/orders": 11, "/report": 30}
REPORT = FlipReport("db", "a", "", START + 1.0, 1.0, 0, 0, 0)


def key(route: str, environment: EnvironmentId = SHOP) -> RouteKey:
    return RouteKey(environment, route, MethodClass.READ)


def book() -> FlipsBook:
    made = FlipsBook()
    made.update({SHOP: ("db",), BLOG: ("db", "cache")})
    return made


def learn(world: World, seconds: int, relays: int = 1) -> FlipsBook:
    """Run a world for a while, and report it as relays would."""
    found, rng = book(), Random(5)
    ran = list(requests(world, START, seconds))
    trips = Counter(int(at) for each in ran for at in each.answers)
    ends: dict[int, list[Request]] = {}
    for each in ran:
        ends.setdefault(int(each.ended_at), []).append(each)
    for second in range(START, START + seconds):
        now = second + 1.003
        for each in ends.get(second, []):
            found.observe(key(each.route), each.started_at, each.ended_at, rtt=world.rtt)
        total = trips[second] + other_trips(world, second, rng)
        for index in range(relays):
            share = total // relays + (index < total % relays)
            found.report(replace(REPORT, at=second + 1.0, trips=share, relay=f"r{index}"), now)
        found.settle(now)
    return found


def trips_of(found: FlipsBook, now: float = START + 1.0) -> dict[str, float]:
    return {k.route: rows[0].trips for k, rows in found.evidence(now).items()}


@pytest.mark.parametrize("concurrency", [1, 8, 32])
@pytest.mark.parametrize("relays", [1, 3])
def test_trips_are_learned_to_half_a_trip(concurrency: int, relays: int) -> None:
    found = learn(World(TRIPS, concurrency), seconds=600, relays=relays)
    assert trips_of(found) == pytest.approx(TRIPS, abs=0.5)


@pytest.mark.parametrize("concurrency", [1, 8, 32])
def test_errors_cover_the_truth(concurrency: int) -> None:
    outside = 0
    for seed in range(4):
        found = learn(World(TRIPS, concurrency, seed=seed, think=0.05), seconds=150)
        for name, rows in found.evidence(START + 150.0).items():
            assert 0 < rows[0].error < 5
            outside += abs(rows[0].trips - TRIPS[name.route]) > 3 * rows[0].error + 0.05
    assert outside <= 1  # of 20, at three standard errors


@pytest.mark.parametrize("concurrency", [1, 8, 32])
def test_a_steady_background_job_is_told_apart_when_there_are_idle_seconds(
    concurrency: int,
) -> None:
    found = learn(World(TRIPS, concurrency, background=20.0, rest=(4, 10)), seconds=900)
    assert trips_of(found) == pytest.approx(TRIPS, abs=0.5)
    assert found.statuses(START + 600.0)[0].background == pytest.approx(20.0, abs=2.0)


@pytest.mark.parametrize("concurrency", [1, 8, 32])
def test_a_nightly_burst_is_told_apart(concurrency: int) -> None:
    found = learn(World(TRIPS, concurrency, burst=300, think=0.05), seconds=600)
    assert trips_of(found) == pytest.approx(TRIPS, abs=0.5)


def run(
    found: FlipsBook,
    seconds: range,
    *,
    route: str = "/item",
    environment: EnvironmentId = SHOP,
    each: int = 3,
    trips: int | None = None,
    relay: str = "a",
    project: str = "",
    is_error: bool = False,
) -> None:
    """One route of one trip a request, `each` requests a second."""
    for second in seconds:
        now = START + second + 1.0
        for index in range(each):
            at = START + second + 0.1 + 0.1 * index
            found.observe(key(route, environment), at, at + 0.05, is_error)
        count = each if trips is None else trips
        found.report(replace(REPORT, at=now, trips=count, relay=relay, project=project), now)
        found.settle(now)


def test_nothing_is_filed_without_a_relay() -> None:
    found = book()
    found.observe(key("/item"), START + 0.1, START + 0.2)
    found.settle(START + 100.0)
    assert found.statuses(START + 100.0) == []
    assert found._cells == {}


def test_few_requests_are_no_evidence() -> None:
    found = book()
    run(found, range(2), each=1)
    run(found, range(2, 30), each=0)
    assert found.evidence(START + 30.0) == {}
    run(found, range(30, 60), each=1)
    [rows] = found.evidence(START + 60.0).values()
    assert rows[0].requests >= LEAST_REQUESTS
    assert (rows[0].backend, rows[0].source) == ("db", "relay")
    assert rows[0].trips == pytest.approx(1.0, abs=0.1)


def test_evidence_stays_the_same_between_solutions() -> None:
    found = book()
    second = 0
    while second < 20 or found.statuses(START + 20.0)[0].windows % SOLVE_EVERY:
        run(found, range(second, second + 1), each=2 + second % 2)
        second += 1
    before = found.evidence(START + 20.0)
    run(found, range(second, second + SOLVE_EVERY - 1), each=3)
    assert found.evidence(START + 20.0) == before
    run(found, range(second + SOLVE_EVERY - 1, second + SOLVE_EVERY), each=3)
    assert found.evidence(START + 20.0) != before


def test_evidence_ends_when_the_relays_have_been_silent_for_long() -> None:
    found = book()
    run(found, range(40))
    assert found.evidence(START + 40.0 + MAX_AGE - 1)
    assert found.evidence(START + 41.0 + MAX_AGE) == {}


def test_seconds_that_one_of_two_relays_is_silent_about_are_dropped() -> None:
    found = book()
    for second in range(60):
        run(found, range(second, second + 1), trips=2)
        if second != 30:
            now = START + second + 1.0
            found.report(replace(REPORT, at=now, trips=1, relay="b"), now)
    status = found.statuses(START + 60.0)[0]
    assert status.relays == 2
    assert status.trips_per_request == pytest.approx(1.0)
    # Without the two in which it began, the silent one, and those that are held.
    assert status.windows == 60 - int(HOLD) - 3


def test_a_relay_that_stopped_is_waited_for_and_then_left_out() -> None:
    found = book()
    found.report(replace(REPORT, relay="b"), START + 1.0)
    run(found, range(1, 25))
    assert found.statuses(START + 25.0)[0].windows == 0
    run(found, range(25, int(RELAY_MEMORY) + 60))
    status = found.statuses(START + RELAY_MEMORY + 60)[0]
    assert status.relays == 1
    assert status.windows > 40


@pytest.mark.parametrize(
    "report",
    [
        replace(REPORT, duration=60.0),
        replace(REPORT, at=START - 3600.0),
        replace(REPORT, at=START + 3600.0),
    ],
    ids=["joined intervals", "clock behind", "clock ahead"],
)
def test_intervals_that_cannot_be_placed_only_add_to_the_totals(report: FlipReport) -> None:
    found = book()
    for second in range(60):
        shifted = replace(report, at=report.at + second, trips=7, setup_trips=2, connections=1)
        found.report(shifted, START + second + 1.0)
        found.settle(START + second + 1.0)
    status = found.statuses(START + 60.0)[0]
    assert (status.trips, status.setup_trips, status.connections) == (420, 120, 60)
    assert status.windows == 0
    assert status.delay == pytest.approx(START + 1.0 - report.at)
    assert math.isnan(status.trips_per_request)


def test_a_request_counts_in_each_second_by_its_share() -> None:
    found = book()
    found.report(REPORT, START + 1.0)
    found.observe(key("/report"), START + 2.5, START + 4.0)
    shares = {index - START: cell[key("/report")] for index, cell in found._cells.items()}
    assert shares == pytest.approx({2: 1 / 3, 3: 2 / 3, 4: 0.0})


def test_failed_requests_teach_nothing_about_their_route() -> None:
    found = book()
    for second in range(60):
        run(found, range(second, second + 1), route="/bad", trips=9, is_error=True)
    assert found.evidence(START + 60.0) == {}


def test_a_relay_of_one_project_takes_it_away_from_the_common_one() -> None:
    found = book()
    for second in range(90):
        now = START + second + 1.0
        run(found, range(second, second + 1), each=4, project="shop", relay="s")
        for index in range(1 + second % 3):
            found.observe(key("/post", BLOG), now - 0.9 + 0.1 * index, now - 0.85 + 0.1 * index)
        found.report(replace(REPORT, at=now, trips=5 * (1 + second % 3), relay="b"), now)
    evidence = found.evidence(START + 90.0)
    assert {k.environment for k in evidence} == {SHOP, BLOG}
    assert trips_of(found) == pytest.approx({"/item": 1.0, "/post": 5.0}, abs=0.3)


def test_backends_that_are_gone_are_forgotten() -> None:
    found = book()
    run(found, range(40))
    found.update({SHOP: ("other",)})
    assert found.statuses(START + 40.0) == []
    assert found.evidence(START + 40.0) == {}


def test_a_changed_route_begins_again_and_the_others_stay() -> None:
    found = book()
    for second in range(60):
        run(found, range(second, second + 1), each=0, trips=0, relay="x")
        run(found, range(second, second + 1), each=2 + second % 3)
    found.forget(key("/item"))
    assert found.evidence(START + 60.0) == {}
    run(found, range(60, 140), each=2, trips=6)
    assert trips_of(found, START + 140.0)["/item"] == pytest.approx(3.0, abs=0.5)


def test_routes_above_the_limit_share_a_column() -> None:
    found = book()
    for second in range(60):
        now = START + second + 1.0
        for index in range(MAX_ROUTES + 20):
            found.observe(key(f"/r{index}"), now - 0.9, now - 0.8)
        found.report(replace(REPORT, at=now, trips=MAX_ROUTES + 20), now)
        found.settle(now)
    assert len(found.evidence(START + 60.0)) <= MAX_ROUTES
    assert found.statuses(START + 60.0)[0].trips_per_request == pytest.approx(1.0)


def test_what_is_filed_is_bounded() -> None:
    found = book()
    found.report(REPORT, START + 1.0)
    for index in range(MAX_CELL_ROUTES + 100):
        found.observe(key(f"/r{index}"), START + 2.1, START + 2.2)
    assert [len(cell) for cell in found._cells.values()] == [MAX_CELL_ROUTES]
    found.observe(key("/far"), START + 2.0, START + 1e9)
    found.observe(key("/backwards"), START + 3.0, START + 2.0)
    found.observe(key("/unknown"), math.nan, math.nan)
    assert len(found._cells) == 1


def test_relays_and_backends_above_their_limits_are_refused() -> None:
    found = book()
    for index in range(MAX_RELAYS):
        found.report(replace(REPORT, relay=str(index)), START + 1.0)
    with pytest.raises(OnetripError, match=str(MAX_RELAYS)) as caught:
        found.report(replace(REPORT, relay="more"), START + 1.0)
    assert caught.value.kind is Kind.OVERLOADED
    for index in range(1, MAX_STREAMS):
        found.report(replace(REPORT, project=str(index)), START + 1.0)
    with pytest.raises(OnetripError, match=str(MAX_STREAMS)):
        found.report(replace(REPORT, project="more"), START + 1.0)


def test_a_clock_set_back_begins_again() -> None:
    found = book()
    run(found, range(4000, 4040))
    found.settle(START + 10.0)
    run(found, range(11, 60))
    assert found.statuses(START + 60.0)[0].windows > 60


def test_a_long_pause_of_the_node_leaves_nothing_behind() -> None:
    found = book()
    run(found, range(20))
    found.settle(START + 100_000.0)
    assert found._cells == {}
    assert all(not stream._parts for stream in found._streams.values())
