"""Round trips from Server-Timing: counts are believed, durations where they can be told apart."""

from __future__ import annotations

import pytest

from onetrip.estimate.timings import TimingBook, timing_evidence
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey, Timing
from onetrip.model.topology import RegionId

DEN, BOM = RegionId("den"), RegionId("bom")
KEY = RouteKey(EnvironmentId("shop", "production"), "/orders/{id}", MethodClass.READ)


def filled(*rows: tuple[RegionId, float, float | None, float | None]) -> TimingBook:
    book = TimingBook()
    for i, (region, rtt, duration, trips) in enumerate(rows):
        book.observe(KEY, region, float(i), {"db": Timing("db", duration, trips)}, {"db": rtt})
    return book


def test_counts_become_evidence() -> None:
    book = filled(*[(DEN, 0.229, None, n) for n in (11.0, 11.0, 12.0, 10.0)])
    ((row,),) = book.counts(10.0).values()
    assert (row.source, row.requests) == ("count", 4)
    assert row.trips == pytest.approx(11)


def test_durations_of_two_regions_give_the_trips_without_the_execution_time() -> None:
    rows = [(DEN, 0.229, 0.030 + 11 * 0.229, None), (BOM, 0.0005, 0.030 + 11 * 0.0005, None)]
    ((first, second),) = filled(*rows * 10).durations(30.0).values()
    (found,) = timing_evidence([first, second])
    assert found.trips == pytest.approx(11, abs=0.2)
    assert found.source == "timing"


def test_a_slow_query_seen_from_one_region_proves_nothing() -> None:
    ((row,),) = filled(*[(DEN, 0.229, 1.2, None)] * 20).durations(30.0).values()
    assert timing_evidence([row]) == []


def test_forgotten_routes_leave_nothing() -> None:
    book = filled(*[(DEN, 0.229, 1.0, 3.0)] * 5)
    book.keep([])
    assert (book.counts(10.0), book.durations(10.0)) == ({}, {})
