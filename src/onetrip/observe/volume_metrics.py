"""Metrics of how much a node tells: to its peers, and to whoever reads its metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class VolumeMetrics:
    """Part of `observe.metrics.Metrics`.

    Attributes:
        folded: series that the bound on series took.
        received, sent: by the pull between nodes, and over NATS.
    """

    def __init__(self, r: CollectorRegistry) -> None:
        self.folded = Gauge(
            "onetrip_observe_folded_series",
            "Series told together as `_other`, or left out, to keep within `metrics.max_series`.",
            ["metric"],
            registry=r,
        )
        self.received = Counter(
            "onetrip_cluster_received_bytes_total",
            "Bytes of what peers told, with heads, and of messages received over NATS, before TLS.",
            registry=r,
        )
        self.sent = Counter(
            "onetrip_cluster_sent_bytes_total",
            "Bytes of what peers were asked, and of messages sent over NATS, before TLS.",
            registry=r,
        )
