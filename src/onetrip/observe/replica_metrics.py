"""What endpoints of backends told about replication; a part of `Metrics`."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Gauge


class ReplicaMetrics:
    """The metrics of backends with a replication account, by endpoint.

    A node tells of the endpoints that it asks itself: the primary, and those near it.
    """

    def __init__(self, r: CollectorRegistry) -> None:
        self.lag = Gauge(
            "onetrip_probe_replica_lag_seconds",
            "How old the data is that a read of an endpoint sees.",
            ["endpoint"],
            registry=r,
        )
        self.lag_bytes = Gauge(
            "onetrip_probe_replica_lag_bytes",
            "Log that an endpoint has not applied (PostgreSQL, Redis).",
            ["endpoint"],
            registry=r,
        )
        self.is_read = Gauge(
            "onetrip_probe_replica_fresh",
            "1 while an endpoint may be read from, 0 while it is left out.",
            ["endpoint"],
            registry=r,
        )
        self.is_primary = Gauge(
            "onetrip_probe_replica_primary",
            "1 for the endpoint that is the primary of its backend.",
            ["endpoint"],
            registry=r,
        )

    def set_lag_bytes(self, endpoint: str, lag: int | None) -> None:
        """Tell the log that an endpoint lacks; None where that is not known."""
        if lag is not None:
            self.lag_bytes.labels(endpoint).set(lag)
        else:
            _remove(self.lag_bytes, endpoint)

    def remove(self, endpoint: str) -> None:
        """Tell nothing more of an endpoint."""
        for gauge in (self.lag, self.lag_bytes, self.is_read, self.is_primary):
            _remove(gauge, endpoint)


def _remove(gauge: Gauge, endpoint: str) -> None:
    with suppress(KeyError):  # not every database counts its lag in bytes
        gauge.remove(endpoint)
