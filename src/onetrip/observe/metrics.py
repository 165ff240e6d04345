"""Every metric onetrip exports, declared once, with its help text.

Labels come from small closed sets (regions, routes of the catalog, arms, kinds, status classes);
never from a path, a client or an error text. `docs/metrics.md` is generated from this module.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from onetrip.observe.cluster_metrics import ClusterMetrics
from onetrip.observe.deployment_metrics import DeploymentMetrics
from onetrip.observe.discovery_metrics import DiscoveryMetrics
from onetrip.observe.drain_metrics import DrainMetrics
from onetrip.observe.edge_metrics import EdgeMetrics
from onetrip.observe.replica_metrics import ReplicaMetrics
from onetrip.observe.volume_metrics import VolumeMetrics
from onetrip.observe.xds_metrics import XdsMetrics

WAN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0)
"""Seconds: within a zone (1 ms) to a dozen trips around the world (5 s)."""


class Metrics:
    """All metrics of one node, in a registry of its own (so tests can run many nodes)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = r = registry or CollectorRegistry()
        self.exported = r
        """What is told to whoever asks: bounded; with workers, the sum over them all."""
        self.build = Gauge("onetrip_build_info", "The version; always 1.", ["version"], registry=r)
        # proxy
        self.connections = Gauge(
            "onetrip_proxy_connections", "Open connections.", ["side"], registry=r
        )
        self.requests = Counter(
            "onetrip_proxy_requests_total",
            "Exchanges finished, by route (project/environment) and status class.",
            ["route", "status_class"],
            registry=r,
        )
        self.deployments = DeploymentMetrics(r)
        self.discovery = DiscoveryMetrics(r)
        self.request_duration = Histogram(
            "onetrip_proxy_request_duration_seconds",
            "From complete request head to first response byte, at the edge.",
            ["region", "arm"],
            buckets=WAN_BUCKETS,
            registry=r,
        )
        self.forwarded = Counter(
            "onetrip_proxy_forwarded_total",
            "Requests by the region that ran them and the arm that sent them there.",
            ["region", "arm"],
            registry=r,
        )
        self.errors = Counter(
            "onetrip_proxy_errors_total",
            "Exchanges that failed, by side at fault and kind of failure.",
            ["side", "kind"],
            registry=r,
        )
        self.retries = Counter(
            "onetrip_proxy_retries_total", "Attempts repeated after a failure.", registry=r
        )
        self.ejections = Counter(
            "onetrip_proxy_ejections_total",
            "Instances that take no requests for a while, by what they did.",
            ["reason"],
            registry=r,
        )
        self.ejections_kept = Counter(
            "onetrip_proxy_ejections_kept_total",
            "Ejections left out because too few instances would have stayed.",
            ["reason"],
            registry=r,
        )
        self.ejected = Gauge(
            "onetrip_proxy_ejected_instances", "Instances ejected now.", registry=r
        )
        self.hedges = Counter(
            "onetrip_proxy_hedges_total",
            "Second attempts of slow requests: won, lost, failed, or denied by a budget.",
            ["outcome"],
            registry=r,
        )
        self.consistency = Counter(
            "onetrip_consistency_total",
            "Reads that brought a token, by how they were kept from showing less than it tells.",
            ["outcome"],
            registry=r,
        )
        self.consistency_refused = Counter(
            "onetrip_consistency_tokens_refused_total",
            "Tokens of clients that were ignored, by reason.",
            ["reason"],
            registry=r,
        )
        self.overflows = Counter(
            "onetrip_proxy_overflows_total",
            "Attempts that a limit of an endpoint refused, by limit.",
            ["limit"],
            registry=r,
        )
        self.body = Counter(
            "onetrip_proxy_body_bytes_total",
            "Body bytes relayed, by receiving side.",
            ["side"],
            registry=r,
        )
        self.upgrades = Counter(
            "onetrip_proxy_upgrades_total", "Connections switched to another protocol.", registry=r
        )
        self.edge = EdgeMetrics(r)
        self.residency_log_dropped = Gauge(
            "onetrip_proxy_residency_log_dropped",
            "Lines of the residency log dropped since start.",
            registry=r,
        )
        self.access_log_dropped = Gauge(
            "onetrip_proxy_access_log_dropped", "Access log lines dropped since start.", registry=r
        )
        self.refused_connections = Counter(
            "onetrip_proxy_refused_connections_total",
            "Connections that failed before their first request, by listener and reason.",
            ["listener", "reason"],
            registry=r,
        )
        self.http2_errors = Counter(
            "onetrip_proxy_http2_errors_total",
            "HTTP/2 connections ended because of what the client did, by error code.",
            ["code"],
            registry=r,
        )
        self.upstream_http2_connections = Counter(
            "onetrip_proxy_upstream_http2_connections_total",
            "HTTP/2 connections opened to instances and peers.",
            registry=r,
        )
        self.upstream_http2_streams = Counter(
            "onetrip_proxy_upstream_http2_streams_total",
            "Requests sent over HTTP/2 to instances and peers.",
            registry=r,
        )
        self.upstream_http2_resets = Counter(
            "onetrip_proxy_upstream_http2_resets_total",
            "Responses over HTTP/2 cut off by a reset, or malformed, by error code.",
            ["code"],
            registry=r,
        )
        self.upstream_http2_goaways = Counter(
            "onetrip_proxy_upstream_http2_goaways_total",
            "HTTP/2 connections that an instance or a peer gave up, by error code.",
            ["code"],
            registry=r,
        )
        self.upstream_http2_errors = Counter(
            "onetrip_proxy_upstream_http2_errors_total",
            "HTTP/2 connections ended because of what an instance or a peer did, by error code.",
            ["code"],
            registry=r,
        )
        self.certificate_expiry = Gauge(
            "onetrip_proxy_certificate_expiry_seconds",
            "Time until a certificate expires, by its file; negative once it has.",
            ["certificate"],
            registry=r,
        )
        # probe
        self.probes = Counter(
            "onetrip_probe_probes_total", "Probes sent, by kind of target.", ["kind"], registry=r
        )
        self.probe_failures = Counter(
            "onetrip_probe_failures_total",
            "Probes that gave no RTT, by kind of target and of failure.",
            ["kind", "failure"],
            registry=r,
        )
        part = "Other regions this node probes: near, far, on the shortlist, or all of them."
        self.probe_peers = Gauge("onetrip_probe_peers", part, ["part"], registry=r)
        self.replicas = ReplicaMetrics(r)
        # estimate
        self.rtt = Gauge(
            "onetrip_estimate_rtt_seconds",
            "Estimated RTT between regions.",
            ["source_region", "target_region"],
            registry=r,
        )
        self.backend_rtt = Gauge(
            "onetrip_estimate_backend_rtt_seconds",
            "Estimated RTT from a region to a backend.",
            ["source_region", "backend"],
            registry=r,
        )
        self.drifts = Counter(
            "onetrip_estimate_drifts_total",
            "Lasting shifts of a route's service time, by cause (code or network).",
            ["cause"],
            registry=r,
        )
        # place
        self.score_duration = Histogram(
            "onetrip_place_score_duration_seconds",
            "Time of one scoring run.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
            registry=r,
        )
        self.snapshot_version = Gauge(
            "onetrip_place_snapshot_version",
            "Version of the placement snapshot in use.",
            registry=r,
        )
        self.moves = Counter(
            "onetrip_place_moves_total",
            "Routes moved to another region at this edge, by reason.",
            ["reason"],
            registry=r,
        )
        self.routes = Gauge(
            "onetrip_place_routes", "Routes at this edge, by status.", ["status"], registry=r
        )
        self.saving = Gauge(
            "onetrip_place_saving_seconds",
            "Measured saving a request against the control group, by project/environment: "
            "request-weighted mean over its placed routes.",
            ["route"],
            registry=r,
        )
        # cluster
        self.peer_age = Gauge(
            "onetrip_cluster_peer_age_seconds",
            "Time since a peer was last heard.",
            ["region"],
            registry=r,
        )
        self.sync_failures = Counter(
            "onetrip_cluster_sync_failures_total",
            "Exchanges with a peer that failed.",
            ["region"],
            registry=r,
        )
        self.cluster = ClusterMetrics(r)
        self.nats_rows = Counter(
            "onetrip_cluster_nats_rows_total",
            "Rows of what is declared over cluster.nats: taken, written, conflict, refused.",
            ["outcome"],
            registry=r,
        )
        self.xds = XdsMetrics(r)
        # relay
        self.relay_trips = Counter(
            "onetrip_relay_trips_total",
            "Round trips of queries that database relays counted, by backend.",
            ["backend"],
            registry=r,
        )
        self.relay_setup_trips = Counter(
            "onetrip_relay_setup_trips_total",
            "Round trips that set database connections up, by backend.",
            ["backend"],
            registry=r,
        )
        self.relay_connections = Counter(
            "onetrip_relay_connections_total",
            "Connections opened through database relays, by backend.",
            ["backend"],
            registry=r,
        )
        # acme
        self.acme_orders = Counter(
            "onetrip_acme_orders_total",
            "Certificates ordered, by outcome: issued, or why not.",
            ["outcome"],
            registry=r,
        )
        self.acme_certificates = Gauge(
            "onetrip_acme_certificates",
            "Names whose certificates are ordered automatically, by state.",
            ["state"],
            registry=r,
        )
        # observe
        self.spans = Counter(
            "onetrip_observe_spans_total",
            "Spans of sampled requests, by outcome: exported, failed, or dropped before that.",
            ["outcome"],
            registry=r,
        )
        self.drains = DrainMetrics(r)
        self.volume = VolumeMetrics(r)
        # app
        self.reloads = Counter(
            "onetrip_app_config_reloads_total",
            "Configuration reloads, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.workers = Gauge(
            "onetrip_app_workers", "Worker processes that serve; 0 without workers.", registry=r
        )
        self.worker_ends = Counter(
            "onetrip_app_worker_ends_total",
            "Worker processes that ended without being told to.",
            registry=r,
        )
        self.observations_dropped = Counter(
            "onetrip_app_observations_dropped_total",
            "Exchanges that were not learned from, because a worker could not tell about them.",
            registry=r,
        )
        self.successions = Counter(
            "onetrip_app_upgrades_total",
            "Successors started to take over, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.task_failures = Counter(
            "onetrip_app_task_failures_total",
            "Background rounds that raised, by task.",
            ["task"],
            registry=r,
        )
        # A first failure shows as an increase only where the series was there before.
        for counter, values in (
            (self.reloads, ("applied", "refused")),
            (self.successions, ("done", "failed")),
            (self.task_failures, ("save", "score", "store")),
        ):
            for value in values:
                counter.labels(value)

    def watch_process(self) -> None:
        """Export what the system knows of this process as well: processor, memory, open files."""
        ProcessCollector(registry=self.registry)


def declared(holder: object) -> Iterator[MetricWrapperBase]:
    """Yield the metrics that `Metrics`, or a part of it, declares."""
    for value in vars(holder).values():
        if isinstance(value, MetricWrapperBase):
            yield value
        elif type(value).__module__.startswith("onetrip.observe."):
            yield from declared(value)
