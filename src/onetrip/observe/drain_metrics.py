"""What became of telemetry and notices that the node sends by itself; a part of `Metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class DrainMetrics:
    """The metrics of what leaves the node."""

    def __init__(self, r: CollectorRegistry) -> None:
        self.metric_exports = Counter(
            "onetrip_observe_metric_exports_total",
            "Exports of these metrics to an OpenTelemetry collector, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.log_records = Counter(
            "onetrip_observe_log_records_total",
            "Events and access lines for an OpenTelemetry collector, by outcome: exported, failed, "
            "or dropped before that.",
            ["outcome"],
            registry=r,
        )
        self.sentry_events = Counter(
            "onetrip_observe_sentry_events_total",
            "Errors for Sentry, by outcome: queued, lost after that, or dropped before.",
            ["outcome"],
            registry=r,
        )
        self.webhook_deliveries = Counter(
            "onetrip_webhooks_deliveries_total",
            "Attempts to tell a webhook's receiver, by outcome: delivered, failed; and messages "
            "that were dropped for want of room, or expired.",
            ["webhook", "outcome"],
            registry=r,
        )
        self.webhook_pending = Gauge(
            "onetrip_webhooks_pending_messages",
            "Messages that wait for a webhook's receiver.",
            ["webhook"],
            registry=r,
        )
