"""When a node tells the others: what is news, and what all of it may cost. Pure.

A report goes to every other node, so n nodes that each write s bytes cost n² s. What a node reads
is bounded instead: `BEATS` signs of life a second, and `READ_RATE` bytes a second of reports, from
all others together. A large cluster is told less often, a small one every interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from onetrip.cluster.messages import Report, ServiceRow
from onetrip.model.measure import RouteKey, RttEstimate, ServiceSummary
from onetrip.model.topology import RegionId

BEATS = 60.0
"""Signs of life that a node reads a second, at most: about 200 bytes each."""

READ_RATE = 256 * 1024
"""Bytes of reports that a node reads a second on average, compressed."""

CREDIT = 10.0
"""Seconds by which news may run ahead of `READ_RATE`."""

REFRESH = 10
"""Intervals after which a report is written again that holds no news: figures creep."""

LONGEST = 120.0
"""Seconds after which a report is written whatever its size: `jetstream.TTL` forgets it later."""

LEAST_CHANGE, LEAST_RATIO = 0.001, 0.10
"""An RTT or a mean is news when it changed by both: s, and share of what it was."""

MISSED_BEATS = 3
"""Signs of life missing before a node counts as gone."""


def beat_interval(interval: float, regions: int) -> float:
    """Return the time between two signs of life of each of `regions` nodes, s."""
    return max(interval, regions / BEATS)


class Pace:
    """Decides when one node writes a report.

    Args:
        interval: least time between two looks, s.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: Report | None = None
        self._written_at = -math.inf
        self._paid_at = -math.inf

    def reset(self) -> None:
        """Have the next report written: nobody may have the last one."""
        self._last = None

    def is_due(self, report: Report, now: float) -> bool:
        """Tell whether `report` is to be written now, s."""
        since = now - self._written_at
        if self._last is None or since >= LONGEST:
            return True
        if is_news(self._last, report):
            return self._paid_at - now <= CREDIT
        return since >= REFRESH * self._interval and now >= self._paid_at

    def wrote(self, report: Report, size: int, regions: int, now: float) -> None:
        """Note what was written, of `size` bytes, for `regions` nodes to read."""
        self._last, self._written_at = report, now
        self._paid_at = max(now, self._paid_at) + size * regions / READ_RATE


def is_news(before: Report, after: Report) -> bool:
    """Tell whether a report says something that the others should not wait for."""
    return (
        _facts(before) != _facts(after)
        or _rtts_differ(before.rtts, after.rtts)
        or _means_differ(before.services, after.services)
        or _means_differ(before.durations, after.durations)
    )


def _facts(report: Report) -> tuple[object, ...]:
    return (
        report.boot,
        report.is_draining,
        report.resources,
        report.policies,
        {change.key for change in report.code_changes},
        {(d.key, d.placement.regions[:1], d.placement.status) for d in report.decisions},
    )


def _rtts_differ(before: Iterable[RttEstimate], after: Iterable[RttEstimate]) -> bool:
    known = {e.target: e for e in before}
    found = {e.target: e for e in after}
    return known.keys() != found.keys() or any(
        e.state is not known[t].state or _is_change(known[t].rtt, e.rtt) for t, e in found.items()
    )


def _means_differ(before: Iterable[ServiceRow], after: Iterable[ServiceRow]) -> bool:
    known, found = _summaries(before), _summaries(after)
    return known.keys() != found.keys() or any(
        _is_change(known[k].mean, s.mean) or s.count >= 2 * max(1, known[k].count)
        for k, s in found.items()
    )


def _summaries(
    rows: Iterable[ServiceRow],
) -> Mapping[tuple[RouteKey, RegionId, frozenset[str]], ServiceSummary]:
    return {(r.key, r.summary.region, frozenset(r.summary.rtts)): r.summary for r in rows}


def _is_change(before: float, after: float) -> bool:
    if math.isnan(before) or math.isnan(after):
        return math.isnan(before) is not math.isnan(after)
    change = abs(after - before)
    return change > LEAST_CHANGE and change > LEAST_RATIO * before
