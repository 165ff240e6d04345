"""How the Envoys that a node drives are; a part of `Metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class XdsMetrics:
    """The metrics of Envoy as the data plane."""

    def __init__(self, r: CollectorRegistry) -> None:
        self.streams = Gauge("onetrip_xds_streams", "Envoys that follow this node.", registry=r)
        self.updates = Counter(
            "onetrip_xds_updates_total",
            "Updates that Envoys answered, by type of resource and outcome.",
            ["type", "outcome"],
            registry=r,
        )
        self.entries = Counter(
            "onetrip_xds_log_entries_total",
            "Requests that Envoys told about, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.log_ratio = Gauge(
            "onetrip_xds_log_ratio", "Share of requests that Envoys tell about.", registry=r
        )
