"""What of a report is news: per section, which row is the same one and when it is told again. Pure.

Measurements creep with every sample; telling each peer of every step would cost more than the
measuring. What decides something is told at once, what a person may look at is told now and then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from onetrip.cluster.messages import CodeChange, EndpointRow, EvidenceRow, ServiceRow
from onetrip.model.measure import RttEstimate, TargetKind
from onetrip.model.placement import Decision
from onetrip.model.status import LatencySummary

RTT_RATIO, RTT_STEP = 0.02, 0.0003
"""An RTT is told again when it moved by both: share of it, and s. Placement tells regions apart by
10 ms a request (`Policy.least_gain`), so 2 % of 300 ms on 1 round trip is below what it acts on."""

JITTER_RATIO = 0.5
"""Share by which a deviation has to change: it only widens what counts as noise."""

GROWTH = 1.2
"""How much more evidence makes it news: its error has shrunk by a tenth."""

LATEST = 10.0
"""Seconds after which a figure that changed at all is told."""

AGE_STEP = 30.0
"""Seconds by which a measurement is younger than a peer believes before that is told."""

LAG_RATIO, LAG_STEP = 0.25, 0.25
"""The lag of an endpoint is told again when it moved by both: share of it, and s."""

ENDPOINT_AGE_STEP = 3.0
"""As `AGE_STEP`, of endpoints: their word is believed for 15 s (`estimate/freshness`)."""

FOR_PEOPLE = 15.0
"""Seconds between two explanations of the same decision: they are read by people."""


@dataclass(frozen=True, slots=True)
class Section:
    """One list of a report.

    Attributes:
        identity: what stays of a row while its figures change.
        is_news: tells whether a row is to be told again: as it was told, as it is, s since.
        is_urgent: tells whether peers should know a row at once: as it was told (or None), as it
            is.
        is_aging: its rows hold ages.
        aged: a row as it is some s later.
        most: rows of the list.
    """

    name: str
    identity: Callable[[Any], object]
    is_news: Callable[[Any, Any, float], bool]
    most: int
    is_urgent: Callable[[Any, Any], bool] = lambda told, row: False
    is_aging: bool = False
    aged: Callable[[Any, float], Any] = lambda row, since: row


def _rtt_is_news(told: RttEstimate, row: RttEstimate, since: float) -> bool:
    return (
        told.state is not row.state
        or _moved(told.rtt, row.rtt, RTT_RATIO, RTT_STEP)
        or _moved(told.rttvar, row.rttvar, JITTER_RATIO, RTT_STEP)
        or row.updated_at + AGE_STEP < told.updated_at + since
    )


def _rtt_is_urgent(told: RttEstimate | None, row: RttEstimate) -> bool:
    # Of a peer that is gone everybody notices and tells the same; what a region finds out about its
    # own instances, and about backends, nobody else knows.
    is_own = row.target.kind is not TargetKind.PEER
    return is_own and told is not None and told.state is not row.state


def _service_is_news(told: ServiceRow, row: ServiceRow, since: float) -> bool:
    before, after = told.summary, row.summary
    return before != after and (
        since >= LATEST
        or after.count >= GROWTH * before.count
        or after.count < before.count
        or not abs(after.mean - before.mean) <= before.error
    )


def _evidence_is_news(told: EvidenceRow, row: EvidenceRow, since: float) -> bool:
    before, after = told.evidence, row.evidence
    return before != after and (
        since >= LATEST
        or after.requests >= GROWTH * before.requests
        or after.requests < before.requests
        or not abs(after.trips - before.trips) <= before.error
    )


def _endpoint_is_news(told: EndpointRow, row: EndpointRow, since: float) -> bool:
    return (
        _endpoint_is_urgent(told, row)
        or _moved(told.lag, row.lag, LAG_RATIO, LAG_STEP)
        or row.age + ENDPOINT_AGE_STEP < told.age + since
    )


def _endpoint_is_urgent(told: EndpointRow | None, row: EndpointRow) -> bool:
    # A promotion: until its peers know, they score writes with the primary that was.
    return told is not None and (told.role, told.is_replicating, told.timeline) != (
        row.role,
        row.is_replicating,
        row.timeline,
    )


def _change_is_news(told: CodeChange, row: CodeChange, since: float) -> bool:
    return row.age + 1.0 < told.age + since


def _decision_is_news(told: Decision, row: Decision, since: float) -> bool:
    return since >= FOR_PEOPLE or told.placement != row.placement


def _for_people(told: object, row: object, since: float) -> bool:
    return since >= FOR_PEOPLE and told != row


def _latency_is_news(told: LatencySummary, row: LatencySummary, since: float) -> bool:
    return told != row and (since >= FOR_PEOPLE or row.requests >= 2 * told.requests)


def _moved(before: float, after: float, ratio: float, step: float) -> bool:
    if math.isnan(before) or math.isnan(after):
        return math.isnan(before) is not math.isnan(after)
    change = abs(after - before)
    return change > step and change > ratio * before


def _older(row: RttEstimate, since: float) -> RttEstimate:
    return replace(row, updated_at=row.updated_at + since)


def _summary_identity(row: ServiceRow) -> object:
    return (row.key, row.summary.region, frozenset(row.summary.rtts))


SECTIONS = (
    Section(
        "rtts",
        lambda row: row.target,
        _rtt_is_news,
        100_000,
        _rtt_is_urgent,
        is_aging=True,
        aged=_older,
    ),
    Section("services", _summary_identity, _service_is_news, 400_000),
    Section("durations", _summary_identity, _service_is_news, 400_000),
    Section(
        "evidence",
        lambda row: (row.key, row.evidence.backend, row.evidence.source),
        _evidence_is_news,
        400_000,
    ),
    Section(
        "code_changes",
        lambda row: row.key,
        _change_is_news,
        1000,
        is_aging=True,
        aged=lambda row, since: CodeChange(row.key, row.age + since),
    ),
    Section(
        "endpoints",
        lambda row: row.endpoint,
        _endpoint_is_news,
        4096,
        _endpoint_is_urgent,
        is_aging=True,
        aged=lambda row, since: structs.replace(row, age=row.age + since),
    ),
    Section("decisions", lambda row: row.key, _decision_is_news, 20_000),
    Section("what_if", lambda row: row.key, _for_people, 20_000),
    Section("latencies", lambda row: (row.key, row.edge, row.arm), _latency_is_news, 100_000),
    Section(
        "policies",
        lambda row: row.project,
        lambda told, row, since: bool(told != row),
        20_000,
    ),
)
"""The lists of `messages.Report`, with their limits there."""
