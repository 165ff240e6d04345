"""What a scoring round leaves in the metrics: RTTs, placements, peers and the measured saving."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import nlargest

from onetrip.model.measure import RttEstimate, Target, TargetKind
from onetrip.model.placement import PlacementSnapshot, Status
from onetrip.model.status import PeerStatus
from onetrip.model.topology import RegionId
from onetrip.observe.metrics import Metrics
from onetrip.observe.series import OTHER
from onetrip.place.placer import RouteInput

MAX_SAVINGS = 200
"""Environments whose savings are told one by one: more lines than a graph has room for, and a tenth
of what `metrics.max_series` is by default."""


class Exporter:
    """Writes one node's gauges.

    Args:
        region: this node's own region.
    """

    def __init__(self, metrics: Metrics, region: RegionId) -> None:
        self._metrics = metrics
        self._region = region
        self._savings: set[str] = set()
        self._told: set[tuple[str, str]] = set()  # name of a gauge, and what it was set for

    def export(
        self,
        snapshot: PlacementSnapshot,
        routes: Iterable[RouteInput],
        row: Mapping[Target, RttEstimate],
        peers: Iterable[PeerStatus],
    ) -> None:
        """Write the state after one round; `row` is the node's own RTT row."""
        metrics = self._metrics
        metrics.snapshot_version.set(snapshot.version)
        counts = Counter(p.status for p in snapshot.routes.values())
        for status in Status:
            metrics.routes.labels(status.value).set(counts.get(status, 0))
        self._export_distances(row, peers)
        self._export_savings(snapshot, routes)

    def _export_distances(
        self, row: Mapping[Target, RttEstimate], peers: Iterable[PeerStatus]
    ) -> None:
        metrics, told = self._metrics, set[tuple[str, str]]()
        for target, estimate in row.items():
            if not math.isfinite(estimate.rtt):
                continue
            if target.kind is TargetKind.PEER:
                metrics.rtt.labels(self._region, target.name).set(estimate.rtt)
                told.add(("rtt", target.name))
            elif target.kind is TargetKind.BACKEND:
                metrics.backend_rtt.labels(self._region, target.name).set(estimate.rtt)
                told.add(("backend_rtt", target.name))
        for peer in peers:
            if math.isfinite(peer.age):
                metrics.peer_age.labels(peer.region).set(peer.age)
                told.add(("peer_age", peer.region))
        # What has left the configuration must not stay on the graph, nor grow the export.
        for gauge, name in self._told - told:
            labels = (name,) if gauge == "peer_age" else (self._region, name)
            getattr(metrics, gauge).remove(*labels)
        self._told = told

    def _export_savings(self, snapshot: PlacementSnapshot, routes: Iterable[RouteInput]) -> None:
        sums: dict[str, tuple[float, float]] = {}
        for route in routes:
            placement, saving = snapshot.routes.get(route.key), route.saving
            if placement is None or placement.status is not Status.PLACED:
                continue
            if saving is not None and math.isfinite(saving.mean) and saving.placed_requests:
                name, seen = str(route.key.environment), saving.placed_requests
                saved, count = sums.get(name, (0.0, 0.0))
                sums[name] = (saved + saving.mean * seen, count + seen)
        sums = self._busiest(sums)
        for name, (saved, requests) in sums.items():
            self._metrics.saving.labels(name).set(saved / requests)
        # A saving that is no longer measured must not stay on the graph.
        for name in self._savings - sums.keys():
            self._metrics.saving.remove(name)
        self._savings = set(sums)

    def _busiest(self, sums: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return those of the busiest environments, and the others' together as `_other`."""
        if len(sums) <= MAX_SAVINGS:
            return sums
        # Who is told already stays while it is half as busy as another: graphs do not flicker.
        told, most = self._savings, MAX_SAVINGS - 1
        busy = {name: count * (2 if name in told else 1) for name, (_, count) in sums.items()}
        kept = {name: sums[name] for name in nlargest(most, busy, key=lambda n: (busy[n], n))}
        rest = [total for name, total in sums.items() if name not in kept]
        kept[OTHER] = (sum(saved for saved, _ in rest), sum(count for _, count in rest))
        return kept
