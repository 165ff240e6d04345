"""Metrics of deployments and of whatever else is declared at run time."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class DeploymentMetrics:
    """Part of `observe.metrics.Metrics`.

    Attributes:
        requests: of a rollout, by version.
        checks: what regions found.
        changes: declared things that changed.
    """

    def __init__(self, r: CollectorRegistry) -> None:
        self.requests = Counter(
            "onetrip_proxy_version_requests_total",
            "Exchanges finished during a rollout, by version: current or candidate.",
            ["route", "version", "status_class"],
            registry=r,
        )
        self.checks = Counter(
            "onetrip_release_checks_total",
            "Deployments that were found ready or failed, by region and result.",
            ["region", "result"],
            registry=r,
        )
        self.changes = Counter(
            "onetrip_release_changes_total",
            "Declared things that changed, by kind (deployment, release, domain ...).",
            ["kind"],
            registry=r,
        )
