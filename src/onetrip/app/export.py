"""What a scoring round leaves in the metrics: RTTs, placements, peers and the measured saving."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from onetrip.model.measure import RttEstimate, Target, TargetKind
from onetrip.model.placement import PlacementSnapshot, Status
from onetrip.model.status import PeerStatus
from onetrip.model.topology import RegionId
from onetrip.observe.metrics import Metrics
from onetrip.place.placer import RouteInput


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
        sums: dict[str, list[float]] = {}
        for route in routes:
            placement, saving = snapshot.routes.get(route.key), route.saving
            if placement is None or placement.status is not Status.PLACED:
                continue
            if saving is not None and math.isfinite(saving.mean) and saving.placed_requests:
                total = sums.setdefault(str(route.key.environment), [0.0, 0.0])
                total[0] += saving.mean * saving.placed_requests
                total[1] += saving.placed_requests
        for name, (saved, requests) in sums.items():
            self._metrics.saving.labels(name).set(saved / requests)
        # A saving that is no longer measured must not stay on the graph.
        for name in self._savings - sums.keys():
            self._metrics.saving.remove(name)
        self._savings = set(sums)
