"""The shape of the configuration file: strict structs, their defaults and their bounds.

Times are seconds, sizes bytes, ratios 0-1. Every key is documented in docs/configuration.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from onetrip.acme.settings import LETS_ENCRYPT
from onetrip.app.schema_base import (
    Count,
    Interval,
    Ratio,
    Strict,
    Text,
    Timeout,
)
from onetrip.app.schema_discovery import DiscoveryEntry
from onetrip.app.schema_outward import TelemetryEntry, WebhookEntry
from onetrip.app.schema_projects import BackendEntry, DeploymentsEntry, ProjectEntry


class AdminEntry(Strict):
    """`admin`: where the API and dashboard listen."""

    listen: Text = "127.0.0.1:9400"
    token_file: Text | None = None
    token_env: Text | None = None
    rate: Annotated[float, Meta(gt=0, le=1_000_000)] = 50.0
    """Requests a second of each token or address."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 200


class ClusterTlsEntry(Strict):
    """`cluster.tls`: how nodes prove to each other who they are."""

    ca: Text
    cert: Text
    key: Text


class NatsEntry(Strict):
    """`cluster.nats`: the cluster by way of NATS servers with JetStream."""

    servers: Annotated[list[Text], Meta(min_length=1, max_length=32)]
    prefix: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] = "onetrip"
    """Of the names of the buckets."""
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Servers that keep each bucket that a node makes."""
    user: Text | None = None
    password_file: Text | None = None
    password_env: Text | None = None
    credentials_file: Text | None = None
    nkey_file: Text | None = None
    tls: ClusterTlsEntry | None = None


class ClusterEntry(Strict):
    """`cluster`: how nodes share measurements."""

    listen: Text | None = None
    secret_file: Text | None = None
    secret_env: Text | None = None
    sync_interval: Interval = 1.0
    tls: ClusterTlsEntry | None = None
    nats: NatsEntry | None = None
    forward_listen: Text | None = None
    http2: bool = False


class CertificateEntry(Strict):
    """One entry of `tls.certificates`."""

    cert: Text
    key: Text
    hosts: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)


class ExternalAccountEntry(Strict):
    """`tls.acme.eab`: an account that the authority knows already."""

    kid: Annotated[str, Meta(min_length=1, max_length=256)]
    hmac_file: Text | None = None
    hmac_env: Text | None = None


class AcmeEntry(Strict):
    """`tls.acme`: certificates ordered from an authority."""

    directory: Annotated[str, Meta(pattern="^https://[!-~]+$", max_length=1024)] = LETS_ENCRYPT
    email: Annotated[str, Meta(pattern="^[!-?A-~]+@[!-?A-~]+$", max_length=256)] | None = None
    agree_to_terms: bool = False
    domains: Annotated[list[Text], Meta(max_length=1000)] | None = None
    """None takes the hosts of the projects."""
    challenge: Literal["http-01", "tls-alpn-01"] = "http-01"
    key_type: Literal["p256", "p384", "rsa2048", "rsa4096"] = "p256"
    renew_before: Annotated[float, Meta(ge=0.05, le=0.9)] = 1 / 3
    """Share of a certificate's lifetime that is left when it is renewed."""
    ca_file: Text | None = None
    eab: ExternalAccountEntry | None = None
    region: Text | None = None


class TlsEntry(Strict):
    """`tls`: HTTPS for clients."""

    listen: Text | None = None
    certificates: Annotated[list[CertificateEntry], Meta(max_length=1000)] = field(
        default_factory=list
    )
    acme: AcmeEntry | None = None
    min_version: Literal["1.2", "1.3"] = "1.2"
    http2: bool = False
    redirect_http: bool | Annotated[int, Meta(ge=1, le=65535)] = False
    """True sends plain requests to the TLS listener's port, a number to that port."""


class KeysEntry(Strict):
    """`consistency`: keys of the tokens that clients bring along; the first one signs."""

    key_file: Text | None = None
    key_env: Text | None = None


class LogEntry(Strict):
    """`log`: level of the event log, and where access lines go."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    access: Text = "stderr"
    """`stderr`, `off`, or a file's path."""
    residency: Text = "off"
    """`off`, or a file's path."""


class MetricsEntry(Strict):
    """`metrics`: what the node exports about itself."""

    max_series: Annotated[int, Meta(ge=500, le=1_000_000)] = 2000
    """Series of `/metrics`; label sets that find no room are told together as `_other`."""


class ProbeEntry(Strict):
    """`probe`: how often and how fast to measure."""

    interval: Interval = 5.0
    timeout: Timeout = 2.0
    max_rate: Annotated[float, Meta(gt=0, le=10_000)] = 50.0
    """Probes a second, over all targets."""
    peers: Annotated[int, Meta(ge=8, le=1000)] | None = None
    """None probes every peer of a small cluster, and 16 of a large one (`probe.peers`)."""
    unhealthy_after: Annotated[int, Meta(ge=1, le=100)] = 3
    healthy_after: Annotated[int, Meta(ge=1, le=100)] = 1


class EjectionEntry(Strict):
    """`proxy.ejection`: when instances are ejected (`proxy.ejection.EjectionSettings`)."""

    errors: Annotated[int, Meta(ge=0, le=10_000)] = 5
    gateway_errors: Annotated[int, Meta(ge=0, le=10_000)] = 5
    connect_errors: Annotated[int, Meta(ge=0, le=10_000)] = 3
    interval: Interval = 10.0
    least_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 50
    failure_ratio: Ratio = 0.85
    deviation: Annotated[float, Meta(ge=0, le=10)] = 1.9
    base_time: Interval = 30.0
    max_time: Timeout = 300.0
    max_share: Ratio = 0.5


class ProxyEntry(Strict):
    """`proxy`: limits and timeouts of the request path (`proxy.settings.ProxySettings`)."""

    max_connections: Count = 10_000
    max_requests: Count = 100_000
    head_limit: Count = 32 * 1024
    target_limit: Count = 8 * 1024
    fields_limit: Count = 100
    trailers_limit: Count = 8 * 1024
    body_limit: Annotated[int, Meta(ge=0)] | None = None
    buffer_size: Count = 64 * 1024
    header_timeout: Timeout = 10.0
    handshake_timeout: Timeout = 10.0
    max_handshakes: Count = 1024
    idle_timeout: Timeout = 60.0
    body_timeout: Timeout = 30.0
    body_rate: Annotated[int, Meta(ge=0)] = 240
    request_timeout: Timeout | None = None
    write_timeout: Timeout = 30.0
    connect_timeout: Timeout = 3.0
    read_timeout: Timeout = 60.0
    tunnel_timeout: Timeout = 600.0
    drain_timeout: Timeout = 30.0
    pool_idle: Annotated[int, Meta(ge=0)] = 64
    pool_idle_timeout: Timeout = 30.0
    pool_connections: Count = 1024
    pool_queue: Annotated[int, Meta(ge=0)] = 1024
    upstream_streams: Count = 100
    ping_interval: Timeout = 20.0
    ping_timeout: Timeout = 10.0
    pool_requests: Count = 10_000
    slow_start: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    slow_start_aggression: Annotated[float, Meta(ge=0.1, le=10)] = 1.0
    ejection: EjectionEntry = field(default_factory=EjectionEntry)
    extra_attempts: Annotated[int, Meta(ge=0, le=10)] = 2
    retry_ratio: Ratio = 0.2
    proxy_protocol: Literal["off", "required"] = "off"
    trusted_proxies: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)


class NodeEntry(Strict):
    """`regions.<id>.node`: the local addresses of that region's node."""

    listen: Text | None = None
    tls_listen: Text | None = None
    admin: Text | None = None
    peer_listen: Text | None = None
    forward_listen: Text | None = None
    source_address: Text | None = None
    envoy_listen: Text | None = None


class RegionEntry(Strict):
    """`regions.<id>`: a place, and how others reach its node."""

    title: Text | None = None
    position: tuple[float, float] | None = None
    proxy: Text | None = None
    peer: Text | None = None
    node: NodeEntry | None = None


class EnvoyEntry(Strict):
    """`envoy`: how the region's Envoys are driven."""

    listen: Text = "127.0.0.1:9402"
    admin: Text | None = None
    trust_file: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None


class File(Strict):
    """The whole file."""

    region: Text | None = None
    mode: Literal["serve", "advise"] = "serve"
    listen: Text = "127.0.0.1:8080"
    source_address: Text | None = None
    data_dir: Text | None = None
    workers: Annotated[int, Meta(ge=1, le=256)] | Literal["auto"] = 1
    score_interval: Interval = 0.5
    data_plane: Literal["local", "envoy"] = "local"
    envoy: EnvoyEntry = field(default_factory=EnvoyEntry)
    tls: TlsEntry = field(default_factory=TlsEntry)
    admin: AdminEntry = field(default_factory=AdminEntry)
    cluster: ClusterEntry = field(default_factory=ClusterEntry)
    log: LogEntry = field(default_factory=LogEntry)
    metrics: MetricsEntry = field(default_factory=MetricsEntry)
    telemetry: TelemetryEntry = field(default_factory=TelemetryEntry)
    webhooks: Annotated[list[WebhookEntry], Meta(max_length=32)] = field(default_factory=list)
    probe: ProbeEntry = field(default_factory=ProbeEntry)
    proxy: ProxyEntry = field(default_factory=ProxyEntry)
    regions: dict[str, RegionEntry] = field(default_factory=dict)
    backends: dict[str, BackendEntry] = field(default_factory=dict)
    consistency: KeysEntry = field(default_factory=KeysEntry)
    discovery: DiscoveryEntry = field(default_factory=DiscoveryEntry)
    deployments: DeploymentsEntry = field(default_factory=DeploymentsEntry)
    projects: dict[str, ProjectEntry] = field(default_factory=dict)
