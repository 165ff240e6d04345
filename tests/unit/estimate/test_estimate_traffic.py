"""The traffic book: what goes in, what is kept, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onetrip.estimate import traffic as module
from onetrip.estimate.traffic import TrafficBook
from onetrip.estimate.windows import KEPT_AGE, KEPT_SAMPLES, MAX_AGE, MAX_SAMPLES
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import Arm, DriftKind, MethodClass, Observation, RouteKey
from onetrip.model.topology import RegionId

DEN, FRA = RegionId("den"), RegionId("fra")
KEY = RouteKey(EnvironmentId("shop", "production"), "/orders/{id}", MethodClass.READ)
SEEN = Observation(
    key=KEY,
    edge=DEN,
    region=DEN,
    arm=Arm.DEFAULT,
    latency=2.5,
    service=2.4,
    is_error=False,
    is_cold=False,
    at=100.0,
)


def book_with(*seen: Observation) -> TrafficBook:
    book = TrafficBook(DEN)
    for each in seen:
        book.observe(each, {"db": 0.229})
    return book


def test_service_times_are_summarised_with_the_rtt_of_their_moment() -> None:
    book = TrafficBook(DEN)
    book.observe(SEEN, {"db": 0.200})
    book.observe(replace(SEEN, at=101.0), {"db": 0.202})
    ((row,),) = book.services(102.0).values()
    assert (row.region, row.count) == (DEN, 2)
    assert row.mean == pytest.approx(2.4)
    assert row.rtts["db"] == pytest.approx(0.201)


def test_a_moved_rtt_starts_an_equation_of_its_own() -> None:
    book = TrafficBook(DEN)
    for i in range(10):
        book.observe(replace(SEEN, at=100.0 + i, service=11 * 0.2), {"db": 0.2})
    for i in range(5):
        book.observe(replace(SEEN, at=200.0 + i, service=11 * 0.3), {"db": 0.3})
    ((old, new),) = book.services(210.0).values()
    assert (old.count, new.count) == (10, 5)
    assert old.mean / old.rtts["db"] == pytest.approx(11)
    assert new.mean / new.rtts["db"] == pytest.approx(11)


@pytest.mark.parametrize("change", [{"is_error": True}, {"is_cold": True}, {"service": None}])
def test_errors_cold_starts_and_forwarded_requests_teach_no_service_time(
    change: dict[str, object],
) -> None:
    book = book_with(replace(SEEN, **change))  # type: ignore[arg-type]
    assert book.services(101.0) == {}
    route = book.get(KEY)
    assert route is not None
    assert route.requests == 1


def test_an_rtt_not_known_at_the_time_does_not_spoil_the_others() -> None:
    book = TrafficBook(DEN)
    book.observe(SEEN, {"db": math.nan})
    book.observe(SEEN, {"db": 0.3})
    ((row,),) = book.services(101.0).values()
    assert row.rtts["db"] == pytest.approx(0.3)


def test_arms_are_compared_only_since_the_last_move() -> None:
    book = book_with(replace(SEEN, arm=Arm.PLACED, latency=9.0))
    book.begin_trial(KEY)
    book.observe(replace(SEEN, arm=Arm.PLACED, latency=0.24), {"db": 0.229})
    route = book.get(KEY)
    assert route is not None
    assert route.trial.moments(Arm.PLACED).mean == pytest.approx(0.24)
    assert {row.arm: row.requests for row in book.latencies(101.0)} == {Arm.PLACED: 2}


def test_windows_are_bounded_and_age_out() -> None:
    book = book_with(*(replace(SEEN, at=100.0 + i) for i in range(MAX_SAMPLES + 50)))
    ((row,),) = book.services(400.0).values()
    assert row.count == MAX_SAMPLES
    last = 100.0 + MAX_SAMPLES + 50
    ((row,),) = book.services(last + MAX_AGE + 1).values()
    assert row.count == KEPT_SAMPLES
    assert book.services(last + KEPT_AGE + 1) == {}


def test_rare_evidence_does_not_age_out_all_at_once() -> None:
    # One control request in ten minutes: what is known of the default region must stay known.
    book = book_with(*(replace(SEEN, at=100.0 + i) for i in range(10)))
    for n in range(1, 5):
        book.observe(replace(SEEN, at=100.0 + 600.0 * n), {"db": 0.229})
        ((row,),) = book.services(100.0 + 600.0 * n).values()
        assert row.count == 10 + n


def test_new_bindings_start_a_new_window() -> None:
    book = book_with(SEEN, SEEN)
    book.observe(SEEN, {"db": 0.229, "cache": 0.1})
    ((row,),) = book.services(101.0).values()
    assert row.count == 1
    assert set(row.rtts) == {"db", "cache"}


def test_history_tells_placed_from_default() -> None:
    book = book_with(SEEN, replace(SEEN, at=101.0, arm=Arm.PLACED, latency=0.24))
    book.observe(replace(SEEN, at=107.0, arm=Arm.PLACED, latency=0.25), {})
    first, second = book.history(KEY, wall_offset=1_000_000.0)
    assert (first.at, first.requests) == (1_000_100.0, 2)
    assert (first.placed_p50, first.default_p50) == (0.24, 2.5)
    assert math.isnan(second.default_p50)


def test_routes_are_bounded_and_forgotten_when_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROUTES", 3)
    keys = [KEY._replace(route=f"/{i}") for i in range(5)]
    book = book_with(*(replace(SEEN, key=key) for key in keys))
    assert len(list(book.routes())) == 3
    assert book.refused == 2
    book.observe(replace(SEEN, key=keys[4], at=100.0 + MAX_AGE + 1), {})
    assert list(book.routes()) == [keys[4]]


def test_routes_of_a_removed_environment_are_forgotten() -> None:
    book = book_with(SEEN)
    book.forget([KEY.environment])
    assert KEY not in book


def changed(book: TrafficBook, at: float, regions: tuple[RegionId, ...] = (DEN, FRA)) -> None:
    for region in regions:
        for i in range(20):
            old = replace(SEEN, region=region, at=at - 20.5 + i, service=2.4)
            book.observe(old, {"db": 0.229})


def test_new_code_is_learned_anew_in_every_region() -> None:
    book = TrafficBook(DEN)
    changed(book, 200.0)
    for i in range(3):
        book.observe(replace(SEEN, region=FRA, at=201.0 + i, service=0.2), {"db": 0.1})
    book.code_changed(KEY, 200.0)
    assert book.relearn(210.0) == {KEY: 200.0}
    ((row,),) = book.services(210.0).values()
    assert (row.region, row.count, row.mean) == (FRA, 3, pytest.approx(0.2))
    assert book.relearn(211.0) == {}, "once is enough"


def test_peers_tell_of_one_change_many_times() -> None:
    book = TrafficBook(DEN)
    changed(book, 200.0)
    for at in (200.0, 200.1, 199.9, 200.1):
        book.code_changed(KEY, at)
        book.relearn(240.0)
    changed(book, 300.0)
    book.code_changed(KEY, 200.2)
    assert book.relearn(1000.0) == {}, "what came before it was forgotten is no news"
    assert sum(row.count for row in book.services(300.0)[KEY]) == 40


def test_a_route_that_changes_all_the_time_is_not_learned_anew_all_the_time() -> None:
    book = TrafficBook(DEN)
    done = []
    for second in range(0, 1900, 10):
        changed(book, 1000.0 + second, (DEN,))
        book.code_changed(KEY, 1000.0 + second)
        done += [second] if book.relearn(1000.0 + second) else []
    assert done == [0, 600, 1200, 1800]


def test_change_of_an_unknown_route_is_no_news() -> None:
    book = TrafficBook(DEN)
    book.code_changed(KEY, 200.0)
    assert book.relearn(210.0) == {}


def test_peers_are_told_of_what_was_noticed_here_for_a_while() -> None:
    book = TrafficBook(DEN, lag=5.0)
    for i in range(60):
        book.observe(replace(SEEN, at=100.0 + i, service=2.4 if i < 30 else 0.3), {"db": 0.229})
    assert [drift.kind for drift in book.drifts()] == [DriftKind.CODE]
    assert book.code_changes(160.0) == {KEY: pytest.approx(130.0)}
    assert book.relearn(160.0) == {KEY: pytest.approx(130.0)}
    assert book.code_changes(400.0) == {}
