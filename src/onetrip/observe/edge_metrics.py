"""What the edge answered without an instance; a part of `Metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class EdgeMetrics:
    """The metrics of files and kept responses."""

    def __init__(self, r: CollectorRegistry) -> None:
        self.assets = Counter(
            "onetrip_proxy_assets_total",
            "Requests answered with files at the edge, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.cache_requests = Counter(
            "onetrip_proxy_cache_requests_total",
            "Requests of projects that keep responses, by what the cache did.",
            ["outcome"],
            registry=r,
        )
        self.cache_size = Gauge(
            "onetrip_proxy_cache_size_bytes", "Size of kept responses.", ["project"], registry=r
        )
        self.cache_objects = Gauge(
            "onetrip_proxy_cache_objects", "Number of kept responses.", ["project"], registry=r
        )
        self.cache_evictions = Counter(
            "onetrip_proxy_cache_evictions_total",
            "Kept responses that had to go for others.",
            registry=r,
        )
