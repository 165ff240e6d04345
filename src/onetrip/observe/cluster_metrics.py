"""What nodes tell each other, and whether it is believed; a part of `Metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge


class ClusterMetrics:
    """The metrics of claims and of NATS."""

    def __init__(self, r: CollectorRegistry) -> None:
        self.claims_rejected = Gauge(
            "onetrip_cluster_claims_rejected",
            "RTTs that a peer claims and that cannot be true.",
            ["region"],
            registry=r,
        )
        self.nats_connected = Gauge(
            "onetrip_cluster_nats_connected",
            "1 while the cluster is shared over cluster.nats, by prefix; without it there is none.",
            ["prefix"],
            registry=r,
        )
