"""What this node knows of the others: a merge of reports that any order of arrival leaves alike.

Per region the newest report counts, by (boot, seq); per project the greatest policy override. Both
are maxima of a total order, so merging is commutative, associative and idempotent. Pure: the shell
that fetches reports is `cluster/sync`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from onetrip.cluster.messages import EndpointRow, EvidenceRow, PolicyRow, Report, ServiceRow
from onetrip.model.measure import EstimateState, RouteKey, RttEstimate, ServiceSummary, Target
from onetrip.model.placement import Decision, WhatIf
from onetrip.model.replication import EndpointState
from onetrip.model.status import LatencySummary, PeerStatus
from onetrip.model.topology import RegionId

GROWN = 30
"""Peers from which on each is let wait longer: what a node is told grows less than their number."""

LONGEST_HOLD = 10.0
"""Longest time a node asks to wait, s: that it hears nothing tells little until then."""

SILENT_PEER = 5.0
"""Least time without news after which a peer counts as gone, s."""


def hold_time(interval: float, peers: int) -> float:
    """Return how long a node lets each of its peers wait for news, s."""
    return min(2 * interval * max(1.0, peers / GROWN), max(interval, LONGEST_HOLD))


def silent_after(interval: float, peers: int) -> float:
    """Return the time without a word after which a peer counts as gone, s."""
    return max(SILENT_PEER, 5 * interval, 2 * hold_time(interval, peers) + interval)


class ClusterState:
    """The merged view of one node.

    Args:
        region: this node's own region; a peer's claims about it are ignored.
        regions: the regions of the configuration; reports of others are ignored.
        silent_after: s without news after which a peer counts as gone.
    """

    def __init__(self, region: RegionId, regions: frozenset[RegionId], silent_after: float) -> None:
        self._region = region
        self._regions = regions
        self._silent_after = silent_after
        self._reports: dict[RegionId, Report] = {}
        self._heard_at: dict[RegionId, float] = {}
        self._alive_at: dict[RegionId, float] = {}
        self._policies: dict[str, PolicyRow] = {}
        self._rows: dict[RegionId, tuple[Report, tuple[float, bool], dict[Target, RttEstimate]]]
        self._rows = {}  # as of the report and the time that it was heard

    @property
    def regions(self) -> frozenset[RegionId]:
        """The regions of the configuration."""
        return self._regions

    def update_regions(self, regions: frozenset[RegionId]) -> None:
        """Forget regions that left the configuration."""
        self._regions = regions
        for region in [r for r in self._reports if r not in regions]:
            del self._reports[region]
            self._rows.pop(region, None)
            self._heard_at.pop(region, None)
            self._alive_at.pop(region, None)

    def merge(self, report: Report, now: float) -> list[PolicyRow]:
        """Take in a peer's report, received at monotonic time `now`.

        Returns:
            The policy overrides that are new to this node.
        """
        news = self.merge_policies(report.policies)
        if report.region == self._region or report.region not in self._regions:
            return news
        known = self._reports.get(report.region)
        if known is None or (report.boot, report.seq) > (known.boot, known.seq):
            self._reports[report.region] = report
            self._heard_at[report.region] = now
            self.hear(report.region, now)
        elif (report.boot, report.seq) == (known.boot, known.seq):
            self._heard_at[report.region] = max(now, self._heard_at[report.region])
            self.hear(report.region, now)
        return news

    def hear(self, region: RegionId, now: float) -> None:
        """Take in a sign of life that says nothing new: what its node reported still holds."""
        self._alive_at[region] = max(now, self._alive_at.get(region, now))

    def merge_policies(self, rows: list[PolicyRow]) -> list[PolicyRow]:
        """Merge overrides and return those that took effect."""
        news: list[PolicyRow] = []
        for row in rows:
            known = self._policies.get(row.project)
            if known is None or row.order > known.order:
                self._policies[row.project] = row
                news.append(row)
        return news

    def policies(self) -> Mapping[str, PolicyRow]:
        """Return the newest override per project."""
        return self._policies

    def draining(self) -> frozenset[RegionId]:
        """Return the regions whose nodes take no new work."""
        return frozenset(r for r, report in self._reports.items() if report.is_draining)

    def rows(self, now: float) -> dict[RegionId, dict[Target, RttEstimate]]:
        """Return each peer's RTT row, as of `now`; a silent peer's row is stale."""
        out: dict[RegionId, dict[Target, RttEstimate]] = {}
        for region, report in self._reports.items():
            heard_at = self._heard_at[region]
            silent = now - self._alive_at[region] > self._silent_after
            made = self._rows.get(region)
            if made is None or made[0] is not report or made[1] != (heard_at, silent):
                row = {e.target: _received(e, heard_at, silent) for e in report.rtts}
                made = self._rows[region] = report, (heard_at, silent), row
            out[region] = made[2]
        return out

    def services(self) -> dict[RouteKey, list[ServiceSummary]]:
        """Return the service times that peers measured, per route."""
        out: dict[RouteKey, list[ServiceSummary]] = {}
        for report in self._reports.values():
            for row in report.services:
                out.setdefault(row.key, []).append(row.summary)
        return out

    def durations(self) -> list[ServiceRow]:
        """Return the times on one backend that peers were told."""
        return [row for report in self._reports.values() for row in report.durations]

    def evidence(self) -> list[EvidenceRow]:
        """Return the round trips that peers were told."""
        return [row for report in self._reports.values() for row in report.evidence]

    def endpoints(self, now: float, names: Collection[str]) -> dict[str, EndpointState]:
        """Return what peers were told by these endpoints of backends, of each the newest word."""
        newest: dict[str, tuple[float, EndpointRow]] = {}
        for region, report in self._reports.items():
            since = now - self._heard_at[region]
            for row in report.endpoints:
                if row.endpoint not in names:
                    continue
                known, age = newest.get(row.endpoint), since + row.age
                if known is None or age < known[0]:
                    newest[row.endpoint] = age, row
        return {name: replace(row.state, age=age) for name, (age, row) in newest.items()}

    def code_changes(self) -> dict[RouteKey, float]:
        """Return when the code of routes changed, as peers noticed; the latest time counts."""
        out: dict[RouteKey, float] = {}
        for region, report in self._reports.items():
            for row in report.code_changes:
                at = self._heard_at[region] - row.age
                out[row.key] = max(at, out.get(row.key, -math.inf))
        return out

    def decisions(self) -> list[Decision]:
        """Return the peers' explain records."""
        return [d for report in self._reports.values() for d in report.decisions]

    def what_if(self) -> list[WhatIf]:
        """Return what the toggle would do at the peers' edges."""
        return [row for report in self._reports.values() for row in report.what_if]

    def latencies(self) -> list[LatencySummary]:
        """Return the peers' recent latencies."""
        return [row for report in self._reports.values() for row in report.latencies]

    def peers(self, now: float) -> list[PeerStatus]:
        """Return every other region of the configuration, heard of or not."""
        out: list[PeerStatus] = []
        for region in sorted(self._regions - {self._region}):
            age = now - self._alive_at[region] if region in self._alive_at else math.inf
            out.append(PeerStatus(region, age <= self._silent_after, age))
        return out


def _received(estimate: RttEstimate, heard_at: float, silent: bool) -> RttEstimate:
    state = estimate.state
    if silent and state is EstimateState.FRESH:
        state = EstimateState.STALE
    return replace(estimate, updated_at=heard_at - estimate.updated_at, state=state)
