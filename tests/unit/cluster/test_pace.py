"""What is told at once, what can wait, and what all of it may cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from onetrip.cluster.messages import CodeChange, PolicyRow, Report, ServiceRow
from onetrip.cluster.pace import CREDIT, LONGEST, READ_RATE, REFRESH, Pace, is_news
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import (
    EstimateState,
    MethodClass,
    RouteKey,
    RttEstimate,
    ServiceSummary,
    Target,
    TargetKind,
)
from onetrip.model.topology import RegionId

DEN, BOM = RegionId("den"), RegionId("bom")
KEY = RouteKey(EnvironmentId("shop", "production"), "/", MethodClass.READ)
DB = Target(TargetKind.BACKEND, "db")
RTT = RttEstimate(DB, 0.1, 0.1, 0.001, 9, 0, 1.0, EstimateState.FRESH)
SUMMARY = ServiceSummary(DEN, 10, 0.2, 0.01, {"db": 0.1})
REPORT = Report(DEN, 1.0, 1, rtts=[RTT], services=[ServiceRow(KEY, SUMMARY)])

Make = Callable[[], Report]


def rtt(**fields: object) -> Report:
    return changed(REPORT, rtts=[replace(RTT, **fields)])


def service(**fields: object) -> Report:
    return changed(REPORT, services=[ServiceRow(KEY, replace(SUMMARY, **fields))])


@pytest.mark.parametrize(
    "after",
    [
        rtt(rtt=0.13),
        rtt(rtt=0.05),
        rtt(rtt=math.nan),
        rtt(state=EstimateState.FAILING),
        changed(REPORT, rtts=[]),
        service(mean=0.3),
        service(count=20),
        service(rtts={}),
        changed(REPORT, services=[]),
        changed(REPORT, durations=[ServiceRow(KEY, SUMMARY)]),
        changed(REPORT, is_draining=True),
        changed(REPORT, resources="other"),
        changed(REPORT, policies=[PolicyRow("shop", 1, DEN)]),
        changed(REPORT, code_changes=[CodeChange(KEY, 1.0)]),
        changed(REPORT, boot=2.0),
    ],
)
def test_what_others_should_not_wait_for_is_news(after: Report) -> None:
    assert is_news(REPORT, after)


@pytest.mark.parametrize(
    "after",
    [
        REPORT,
        changed(REPORT, seq=2),
        rtt(rtt=0.105, updated_at=9.0, samples=20),
        service(mean=0.21, count=12, age=3.0),
    ],
)
def test_noise_is_no_news(after: Report) -> None:
    assert not is_news(REPORT, after)


def test_a_short_rtt_may_change_by_a_millisecond() -> None:
    assert not is_news(rtt(rtt=0.0004), rtt(rtt=0.0013))
    assert is_news(rtt(rtt=0.0004), rtt(rtt=0.0016))


def test_an_rtt_that_stays_unknown_is_no_news() -> None:
    assert not is_news(rtt(rtt=math.nan), rtt(rtt=math.nan))


def test_a_report_without_news_waits_for_the_refresh() -> None:
    pace = Pace(1.0)
    assert pace.is_due(REPORT, 0.0)
    pace.wrote(REPORT, 1000, 2, 0.0)
    assert not pace.is_due(REPORT, REFRESH - 0.1)
    assert pace.is_due(REPORT, float(REFRESH))
    pace.reset()
    assert pace.is_due(REPORT, 1.0)


def test_what_all_nodes_read_of_one_stays_within_the_rate() -> None:
    """News at every look, of a node among 330 with a report of 30 kB."""
    pace, size, regions = Pace(1.0), 30_000, 330
    written, end = 0, 600
    for second in range(end):
        report = rtt(rtt=0.1 if second % 2 else 0.2)
        if pace.is_due(report, float(second)):
            pace.wrote(report, size, regions, float(second))
            written += 1
    share = READ_RATE / regions
    assert written * size <= share * (end + CREDIT) + size
    assert written * size >= 0.5 * share * end


def test_a_long_report_is_written_now_and_then_nevertheless() -> None:
    pace = Pace(1.0)
    pace.wrote(REPORT, 100_000_000, 330, 0.0)
    assert not pace.is_due(rtt(rtt=0.5), LONGEST - 1)
    assert pace.is_due(REPORT, LONGEST)
