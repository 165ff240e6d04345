"""Metrics of the sources that instances are found by; a part of `Metrics`."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge


class DiscoveryMetrics:
    """What sources answer."""

    def __init__(self, r: CollectorRegistry) -> None:
        self.instances = Gauge(
            "onetrip_discover_instances",
            "Instances that a source names, by its last answer.",
            ["source"],
            registry=r,
        )
        self.answers = Counter(
            "onetrip_discover_answers_total",
            "Answers of sources, by outcome: changed, same, or failed.",
            ["outcome"],
            registry=r,
        )

    def forget(self, source: str) -> None:
        """Leave a source out that is no longer asked."""
        with contextlib.suppress(KeyError):
            self.instances.remove(source)
