"""The metrics of a database relay, which is a process of its own and not a part of `Metrics`."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what `RelayMetrics.expose` returns."""


class RelayMetrics:
    """What one relay exports; `backend` is the only one that it leads to.

    Endpoints are the servers of its file, 33 at most; every other label is of a closed set.
    """

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}
        self.info = Gauge(
            "onetrip_relay_info",
            "1, with what the relay is.",
            ["backend", "kind", "version"],
            registry=r,
        )
        self.sessions = Gauge(
            "onetrip_relay_sessions_open",
            "Client connections that are open.",
            ["backend"],
            registry=r,
        )
        self.taken = Counter(
            "onetrip_relay_sessions_total",
            "Client connections that were taken.",
            ["backend"],
            registry=r,
        )
        self.refused = Counter(
            "onetrip_relay_sessions_refused_total",
            "Client connections that were not served, by reason.",
            ["backend", "reason"],
            registry=r,
        )
        self.moved = Counter(
            "onetrip_relay_bytes_total",
            "Bytes sent to the servers and received from them.",
            ["backend", "direction"],
            registry=r,
        )
        self._declare_servers(r)
        self._declare_routes(r)

    def _declare_servers(self, r: CollectorRegistry) -> None:
        """Declare what a relay with routes tells of the servers."""
        self.pool = Gauge(
            "onetrip_relay_pool_connections",
            "Pooled connections to each server: used, or idle.",
            ["backend", "endpoint", "state"],
            registry=r,
        )
        self.waiting = Gauge(
            "onetrip_relay_pool_waiting_sessions",
            "Sessions that wait for a connection to a server.",
            ["backend", "endpoint"],
            registry=r,
        )
        self.up = Gauge(
            "onetrip_relay_endpoint_up",
            "1 for a server that answers.",
            ["backend", "endpoint"],
            registry=r,
        )
        self.primary = Gauge(
            "onetrip_relay_endpoint_primary",
            "1 for the server that is the primary.",
            ["backend", "endpoint"],
            registry=r,
        )
        self.rtt = Gauge(
            "onetrip_relay_endpoint_rtt_seconds",
            "Smoothed RTT to each server that was measured.",
            ["backend", "endpoint"],
            registry=r,
        )
        self.lacking = Gauge(
            "onetrip_relay_endpoint_lag_bytes",
            "Log up to the floor that a server has not replayed; 0 of the primary.",
            ["backend", "endpoint"],
            registry=r,
        )

    def _declare_routes(self, r: CollectorRegistry) -> None:
        """Declare what a relay with routes tells of what it routes."""
        self.transactions = Counter(
            "onetrip_relay_transactions_total",
            "Transactions begun: read, which may run on a replica, or write, which is all others.",
            ["backend", "endpoint", "kind"],
            registry=r,
        )
        self.waits = Counter(
            "onetrip_relay_freshness_total",
            "Reads that wanted a replica: one was fresh, became so (waited), or none was (stale).",
            ["backend", "outcome"],
            registry=r,
        )
        self.waited = Counter(
            "onetrip_relay_freshness_wait_seconds_total",
            "Time that reads waited for a replica to be fresh.",
            ["backend"],
            registry=r,
        )
        self.repeated = Counter(
            "onetrip_relay_reads_repeated_total",
            "Reads that a replica refused, and that were run again on the primary.",
            ["backend"],
            registry=r,
        )
        self.pinned = Counter(
            "onetrip_relay_sessions_pinned_total",
            "Sessions that kept a connection for themselves because of what they did.",
            ["backend"],
            registry=r,
        )
        self.errors = Counter(
            "onetrip_relay_errors_total",
            "Failures that sessions were told of and that no server reported, by kind.",
            ["backend", "kind"],
            registry=r,
        )

    def watch_process(self) -> None:
        """Export what the system knows of this process as well: processor, memory, open files."""
        ProcessCollector(registry=self.registry)

    def count(self, counter: Counter, total: float, *labels: str) -> None:
        """Let a counter stand at what something else has counted since the start."""
        key = (counter._name, labels)
        more = total - self._told.get(key, 0.0)
        counter.labels(*labels).inc(max(0.0, more))
        self._told[key] = max(total, self._told.get(key, 0.0))

    def expose(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
