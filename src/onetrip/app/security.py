"""TLS as configured: certificates for clients, identities of nodes; checked before use."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from onetrip.app.listeners import Listener, parse_listener
from onetrip.app.projects import check_http2
from onetrip.app.schema import CertificateEntry, ClusterEntry, NodeEntry, TlsEntry
from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint, HttpProtocol, Region
from onetrip.net.tls import (
    CertificateSet,
    PeerContexts,
    ServerContext,
    load_certificate,
    load_peer_contexts,
    node_name,
)

MIN_SECRET_SIZE = 16
"""Least bytes of a secret; shorter ones can be guessed off-line from one hop header."""

_HOST = re.compile(r"\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f:]*:[0-9a-f:.]*")


def tls_listener(entry: TlsEntry, node: NodeEntry) -> Listener | None:
    """Return where the node takes clients over TLS, or None.

    Raises:
        ConfigError: a listener without certificates, or the other way round.
    """
    text = node.tls_listen or entry.listen
    if text is None:
        if entry.certificates or entry.acme is not None:
            raise ConfigError("tls.listen: certificates are set, but no address to serve them on")
        return None
    if not entry.certificates and entry.acme is None:
        raise ConfigError(
            "tls.certificates: at least one certificate, or tls.acme, is required with tls.listen"
        )
    return parse_listener(text, "tls.listen")


def redirect_port(entry: TlsEntry, listener: Listener | None) -> int | None:
    """Return the port that requests in clear are sent to, or None.

    Raises:
        ConfigError: a redirect without a listener over TLS.
    """
    if entry.redirect_http is False:
        return None
    if listener is None:
        raise ConfigError("tls.redirect_http: needs tls.listen")
    return listener.port if entry.redirect_http is True else entry.redirect_http


def build_certificates(entry: TlsEntry, folder: Path) -> CertificateSet | None:
    """Read the certificates; the first one is the default. None when there are to be none.

    Args:
        folder: what relative paths are relative to.

    Raises:
        ConfigError: `KEY: FILE: reason`.
    """
    check_http2(entry.http2, "tls.http2")
    protocols = tls_terms(entry).protocols
    contexts: list[ServerContext] = []
    owners: dict[str, str] = {}
    for number, each in enumerate(entry.certificates):
        key = f"tls.certificates[{number}]"
        for index, host in enumerate(each.hosts):
            _check_host(host, f"{key}.hosts[{index}]", owners, key)
        contexts.append(_load(each, key, folder, entry.min_version, protocols))
    return CertificateSet(contexts) if contexts or entry.acme is not None else None


@dataclass(frozen=True, slots=True)
class TlsTerms:
    """What clients are offered over TLS, whichever certificate they get.

    Attributes:
        protocols: ALPN names, best first.
    """

    min_version: str
    protocols: tuple[str, ...]


def tls_terms(entry: TlsEntry) -> TlsTerms:
    """Return what clients are offered over TLS."""
    return TlsTerms(entry.min_version, ("h2", "http/1.1") if entry.http2 else ("http/1.1",))


def build_peer_contexts(entry: ClusterEntry, folder: Path, region: str) -> PeerContexts | None:
    """Read what this region's node shows to its peers; None without `cluster.tls`.

    Args:
        folder: what relative paths are relative to; `{region}` in a path stands for the region.

    Raises:
        ConfigError: `KEY: FILE: reason`.
    """
    files = entry.tls
    check_http2(entry.http2, "cluster.http2")
    if files is None:
        if entry.http2:
            raise ConfigError("cluster.http2: needs cluster.tls")
        return None
    protocols = ("h2", "http/1.1") if entry.http2 else ("http/1.1",)
    ca, cert, key = (
        folder / text.replace("{region}", region) for text in (files.ca, files.cert, files.key)
    )
    try:
        return load_peer_contexts(ca, cert, key, region, protocols)
    except ConfigError as error:
        raise ConfigError(f"cluster.tls.{error}") from error


def read_secret(
    folder: Path, file: str | None, env: str | None, key: str, *, least: int = MIN_SECRET_SIZE
) -> str | None:
    """Return a secret from a file or from the environment; None when neither is set.

    Args:
        folder: what a relative path is relative to.
        key: the configuration's name for it, without `_file` or `_env`.
        least: bytes that it must have; fewer where others chose it, as with a database's password.

    Raises:
        ConfigError: it cannot be read or is too short; the message does not hold it.
    """
    if file is not None and env is not None:
        raise ConfigError(f"{key}_file: set either this or {key}_env, not both")
    if file is not None:
        try:
            value = (folder / file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigError(f"{key}_file: {file} cannot be read: {reason}") from error
    elif env is not None:
        value = os.environ.get(env, "").strip()
        if not value:
            raise ConfigError(f"{key}_env: environment variable {env} is not set")
    else:
        return None
    size = len(value.encode())
    if size < least:
        raise ConfigError(f"{key}: secret of {size} bytes is below limit of {least}")
    return value


def forward_listener(
    entry: ClusterEntry, node: NodeEntry, own: Region, *, is_forwarded: bool
) -> Listener | None:
    """Return where peers forward requests to over TLS, or None.

    Args:
        is_forwarded: whether nodes forward to each other at all.

    Raises:
        ConfigError: it is missing although peers have to use it, or could not be secured.
    """
    text = node.forward_listen or entry.forward_listen
    if text is None:
        if entry.tls is not None and own.proxy is not None and is_forwarded:
            raise ConfigError(
                "cluster.forward_listen: required with cluster.tls, because peers forward to "
                f"regions.{own.id}.proxy"
            )
        return None
    if entry.tls is None:
        raise ConfigError("cluster.forward_listen: needs cluster.tls")
    return parse_listener(text, "cluster.forward_listen")


def reached_by_peers(
    endpoint: Endpoint | None, region: str, cluster: ClusterEntry
) -> Endpoint | None:
    """Return a node's endpoint as its peers dial it: under its own name where nodes use TLS."""
    if endpoint is None or cluster.tls is None:
        return endpoint
    protocol = HttpProtocol.AUTO if cluster.http2 else HttpProtocol.HTTP1
    return Endpoint(endpoint.host, endpoint.port, node_name(region), protocol)


def _load(
    entry: CertificateEntry, key: str, folder: Path, min_version: str, protocols: tuple[str, ...]
) -> ServerContext:
    try:
        return load_certificate(
            folder / entry.cert,
            folder / entry.key,
            hosts=entry.hosts,
            min_version=min_version,
            protocols=protocols,
        )
    except ConfigError as error:
        raise ConfigError(f"{key}.{error}") from error


def _check_host(host: str, key: str, owners: dict[str, str], owner: str) -> None:
    if _HOST.fullmatch(host) is None:
        raise ConfigError(f"{key}: {host!r} is not a lower-case host name, address or *.name")
    if owners.setdefault(host, owner) != owner:
        raise ConfigError(f"{key}: {host!r} belongs to {owners[host]} already")
