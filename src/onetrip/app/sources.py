"""Sources of instances in the configuration: `discovery`, and those among the addresses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from onetrip.app.schema_discovery import DiscoveryEntry, KubernetesEntry
from onetrip.discover.book import DiscoveryTerms, KubernetesAccess
from onetrip.discover.sources import parse_source
from onetrip.errors import ConfigError
from onetrip.model.catalog import Catalog
from onetrip.model.discovery import InstanceSource, SourceKind, is_source
from onetrip.model.topology import HttpProtocol, RegionId
from onetrip.net.names import is_loopback
from onetrip.release.terms import parse_allowed

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds the token of its service account, and who vouches for the API."""


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """What `discovery` says, checked."""

    terms: DiscoveryTerms
    kubernetes: KubernetesAccess


def build_discovery(entry: DiscoveryEntry, folder: Path, catalog: Catalog) -> DiscoverySettings:
    """Check `discovery`, which a configuration without sources need not say.

    Args:
        folder: what relative paths are relative to.
        catalog: whose sources are asked.

    Raises:
        ConfigError: `KEY: reason`.
    """
    if entry.least_interval > entry.most_interval:
        raise ConfigError(
            f"discovery.least_interval: {entry.least_interval:g} is above most_interval of "
            f"{entry.most_interval:g}"
        )
    if entry.dns_servers and find_spec("dns") is None:
        raise ConfigError("discovery.dns_servers: needs dnspython: pip install onetrip[dns]")
    terms = DiscoveryTerms(
        least=entry.least_interval,
        most=entry.most_interval,
        max_instances=entry.max_instances,
        allow=tuple(
            parse_allowed(text, f"discovery.allow[{n}]") for n, text in enumerate(entry.allow)
        ),
        servers=tuple(
            _server(text, f"discovery.dns_servers[{n}]") for n, text in enumerate(entry.dns_servers)
        ),
    )
    access = _access(entry.kubernetes, folder)
    if not access.url:
        _refuse_kubernetes(catalog)
    return DiscoverySettings(terms, access)


def split_sources(
    addresses: Iterable[str], region: RegionId, protocol: HttpProtocol, key: str
) -> tuple[list[tuple[int, str]], list[InstanceSource]]:
    """Return the addresses of a region's instances, with their places, and the sources of more.

    Raises:
        ConfigError: a source that cannot be used; `key` is where the list stands.
    """
    fixed: list[tuple[int, str]] = []
    sources: list[InstanceSource] = []
    for number, text in enumerate(addresses):
        if not is_source(text):
            fixed.append((number, text))
            continue
        try:
            source = parse_source(text)
        except ConfigError as error:
            raise ConfigError(f"{key}[{number}]: {error}") from error
        if source.kind is SourceKind.SRV and find_spec("dns") is None:
            raise ConfigError(f"{key}[{number}]: needs dnspython: pip install onetrip[dns]")
        if source.kind is not SourceKind.HTTPS and protocol is HttpProtocol.AUTO:
            protocol = HttpProtocol.HTTP1  # in clear nobody says what he speaks
        sources.append(InstanceSource(region, source, protocol))
    return fixed, sources


def _refuse_kubernetes(catalog: Catalog) -> None:
    for site in catalog.sites():
        for each in site.sources:
            if each.source.kind is SourceKind.KUBERNETES:
                raise ConfigError(
                    f"discovery.kubernetes.api: needed for {each.source} outside of a cluster"
                )


def _access(entry: KubernetesEntry, folder: Path) -> KubernetesAccess:
    url = entry.api.rstrip("/") if entry.api is not None else _in_cluster()
    parts = urlsplit(url)
    if url and (parts.path or not parts.hostname):
        raise ConfigError(f"discovery.kubernetes.api: {url!r} is not https://HOST:PORT")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigError("discovery.kubernetes.api: only https, except on loopback")
    return KubernetesAccess(
        url,
        _file(entry.token_file, "token", folder),
        _file(entry.ca_file, "ca.crt", folder) if parts.scheme == "https" else "",
    )


def _in_cluster() -> str:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}" if host else ""


def _file(told: str | None, name: str, folder: Path) -> str:
    if told is not None:
        return str(folder / told) if told else ""
    found = Path(ACCOUNT) / name
    return str(found) if found.exists() else ""


def _server(text: str, key: str) -> tuple[str, int]:
    from onetrip.discover.names import parse_server

    try:
        return parse_server(text)
    except ValueError:
        raise ConfigError(f"{key}: {text!r} is not ADDRESS or ADDRESS:PORT") from None
