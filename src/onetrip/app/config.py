"""Configuration: a YAML file to typed settings, or one error line that names file, key, reason.

The file is read whole, decoded against strict structs (unknown keys are refused) and then checked
as a whole; nothing is applied before everything has been checked. One file serves every node of a
cluster: what differs between nodes stands under `regions.<id>.node`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onetrip.acme.settings import AcmeSettings
from onetrip.app.automatic import build_acme
from onetrip.app.config_file import decode, uncollected
from onetrip.app.envoy import EnvoySettings, build_envoy
from onetrip.app.limits import build_probe, build_proxy
from onetrip.app.listeners import Listener, parse_address, parse_listener
from onetrip.app.nats import NatsSettings, build_nats
from onetrip.app.projects import build_catalog, build_terms
from onetrip.app.regions import build_topology
from onetrip.app.schema import File, LogEntry, NodeEntry
from onetrip.app.schema_discovery import DiscoveryEntry
from onetrip.app.security import (
    TlsTerms,
    build_certificates,
    build_peer_contexts,
    forward_listener,
    read_secret,
    redirect_port,
    tls_listener,
    tls_terms,
)
from onetrip.app.telemetry import build_otlp, build_sentry
from onetrip.app.webhooks import build_webhooks
from onetrip.app.worker_shares import worker_count
from onetrip.errors import ConfigError
from onetrip.model.catalog import Catalog
from onetrip.model.topology import RegionId, Topology
from onetrip.model.webhook import Webhook
from onetrip.net.tls import CertificateSet, PeerContexts
from onetrip.observe.spans import OtlpSettings
from onetrip.observe.taps import SentrySettings
from onetrip.probe.plan import ProbeSettings
from onetrip.proxy.settings import ProxySettings
from onetrip.release.terms import Terms

if TYPE_CHECKING:
    from onetrip.app.sources import DiscoverySettings


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything one node needs to start, checked.

    Attributes:
        admin_token, cluster_secret: never logged; None when not configured.
        data_dir: folder for SQLite, or None to keep nothing.
        source_address: local address of outgoing connections, or None.
        workers: processes that serve requests; 1 serves them in the node's own.
        terms: what may be deployed through the API.
        discovery: how sources of instances are asked; None without any.
        https_port: requests in clear are sent to this port, or None.
        envoy: None serves requests in processes of the node's own.
        mode: "serve", or "advise" where it takes no traffic (`app/advise`).
        is_told_to_advise: the command line said so, whatever the file says.
    """

    path: Path
    region: RegionId
    listen: Listener
    tls_listen: Listener | None
    certificates: CertificateSet | None
    tls_terms: TlsTerms
    acme: AcmeSettings | None
    https_port: int | None
    admin: Listener
    peer_listen: Listener | None
    forward_listen: Listener | None
    peer_contexts: PeerContexts | None
    source_address: str | None
    data_dir: Path | None
    workers: int
    admin_token: str | None
    admin_rate: float
    admin_burst: int
    cluster_secret: bytes | None
    sync_interval: float
    nats: NatsSettings | None
    score_interval: float
    log: LogEntry
    max_series: int
    otlp: OtlpSettings | None
    sentry: SentrySettings | None
    webhooks: tuple[Webhook, ...]
    probe: ProbeSettings
    discovery: DiscoverySettings | None
    proxy: ProxySettings
    drain_timeout: float
    envoy: EnvoySettings | None
    topology: Topology
    catalog: Catalog
    terms: Terms
    mode: str = "serve"
    is_told_to_advise: bool = False


def load_settings(path: Path, region: str | None = None, *, advise: bool = False) -> Settings:
    """Read and check a configuration file.

    Args:
        path: the YAML file.
        region: the region this node serves; overrides the file's own `region`.
        advise: take no traffic, whatever the file says.

    Raises:
        ConfigError: one line, `FILE: KEY: reason`.
    """
    try:
        with uncollected():
            file = decode(path, File)
            if not advise and file.mode == "serve":
                return _Builder(path, file).settings(region)
            from onetrip.app.advise import without_traffic  # most nodes do without it

            return without_traffic(_Builder(path, file, advises=True).settings(region), advise)
    except ConfigError as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{path}: {text}") from error


class _Builder:
    """Checks one decoded file as a whole and builds the settings."""

    def __init__(self, path: Path, file: File, *, advises: bool = False) -> None:
        self._path = path
        self._file = file
        self._serves_itself = file.data_plane == "local" and not advises

    def settings(self, region_name: str | None) -> Settings:
        file = self._file
        topology = build_topology(file)
        region = self._own_region(region_name, topology)
        node = file.regions[region].node or NodeEntry()
        admin = parse_listener(node.admin or file.admin.listen, "admin.listen")
        token = self._secret(file.admin.token_file, file.admin.token_env, "admin.token")
        if not admin.is_loopback and token is None:
            raise ConfigError(
                f"admin.listen: {admin.host} is not loopback, so admin.token_file or "
                "admin.token_env is required"
            )
        secret = self._secret(file.cluster.secret_file, file.cluster.secret_env, "cluster.secret")
        if secret is None and file.cluster.tls is not None:
            raise ConfigError("cluster: secret_file or secret_env is required with cluster.tls")
        tls_listen = tls_listener(file.tls, node)
        catalog = build_catalog(file, topology, self._path.parent, secret)
        certificates = build_certificates(file.tls, self._path.parent)
        return Settings(
            path=self._path,
            region=region,
            listen=parse_listener(node.listen or file.listen, "listen"),
            tls_listen=tls_listen,
            certificates=certificates,
            tls_terms=tls_terms(file.tls),
            acme=build_acme(file, self._path.parent, catalog, certificates, region),
            https_port=redirect_port(file.tls, tls_listen),
            admin=admin,
            peer_listen=self._peer_listener(node, secret),
            forward_listen=forward_listener(
                file.cluster,
                node,
                topology.regions[region],
                is_forwarded=self._serves_itself,
            ),
            peer_contexts=build_peer_contexts(file.cluster, self._path.parent, region),
            source_address=parse_address(node.source_address or file.source_address),
            data_dir=Path(file.data_dir).expanduser() if file.data_dir else None,
            workers=worker_count(file.workers),
            admin_token=token,
            admin_rate=file.admin.rate,
            admin_burst=file.admin.burst,
            cluster_secret=secret.encode() if secret else None,
            sync_interval=file.cluster.sync_interval,
            nats=build_nats(file.cluster.nats, self._path.parent, region, secret is not None),
            score_interval=file.score_interval,
            log=file.log,
            max_series=file.metrics.max_series,
            otlp=build_otlp(file.telemetry),
            sentry=build_sentry(file.telemetry, self._path.parent),
            webhooks=build_webhooks(file.webhooks, self._path.parent),
            probe=build_probe(file.probe),
            discovery=self._discovery(catalog),
            proxy=build_proxy(file.proxy),
            drain_timeout=file.proxy.drain_timeout,
            envoy=build_envoy(file, node, self._path.parent, region),
            topology=topology,
            catalog=catalog,
            terms=build_terms(file.deployments),
        )

    def _own_region(self, name: str | None, topology: Topology) -> RegionId:
        wanted = name or self._file.region
        if wanted is None:
            if len(topology.regions) == 1:
                return next(iter(topology.regions))
            raise ConfigError("region: which region this node serves is not set")
        if wanted not in topology.regions:
            known = ", ".join(topology.regions)
            raise ConfigError(f"region: {wanted!r} is not one of {known}")
        return RegionId(wanted)

    def _discovery(self, catalog: Catalog) -> DiscoverySettings | None:
        entry = self._file.discovery
        if entry == DiscoveryEntry() and not any(site.sources for site in catalog.sites()):
            return None
        from onetrip.app.sources import build_discovery  # most nodes do without it

        return build_discovery(entry, self._path.parent, catalog)

    def _peer_listener(self, node: NodeEntry, secret: str | None) -> Listener | None:
        text = node.peer_listen or self._file.cluster.listen
        if text is None:
            return None
        if secret is None:
            raise ConfigError("cluster: secret_file or secret_env is required with a peer listener")
        return parse_listener(text, "cluster.listen")

    def _secret(self, file: str | None, env: str | None, key: str) -> str | None:
        return read_secret(self._path.parent, file, env, key)
