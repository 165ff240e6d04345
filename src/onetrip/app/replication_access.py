"""`backends.<name>.replication`: from the configuration to how endpoints are asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from onetrip.app.named import known_region
from onetrip.app.schema_projects import ReplicationEntry
from onetrip.app.security import read_secret
from onetrip.errors import ConfigError
from onetrip.model.catalog import BackendKind
from onetrip.model.replica import ReplicationAccess
from onetrip.model.topology import RegionId, Topology

_PACKAGES = {BackendKind.POSTGRES: "psycopg", BackendKind.MYSQL: "pymysql", BackendKind.REDIS: ""}
"""What speaks to each kind, "" for onetrip itself."""


def build_access(
    entry: ReplicationEntry, kind: BackendKind, topology: Topology, folder: Path, key: str
) -> ReplicationAccess:
    """Check how the endpoints of a backend are asked; `key` is where that stands.

    Raises:
        ConfigError: a backend of another kind, a package that is missing, a password that cannot
            be read, or networks that cannot be used.
    """
    package = _PACKAGES.get(kind)
    if package is None:
        raise ConfigError(f"{key}: a backend of kind {kind.value} has no replication to ask for")
    if package and find_spec(package) is None:
        raise ConfigError(f"{key}: needs the package {package}; install onetrip[replicas]")
    password = read_secret(
        folder, entry.password_file, entry.password_env, f"{key}.password", least=1
    )
    token = read_secret(folder, entry.relay_token_file, entry.relay_token_env, f"{key}.relay_token")
    if entry.relays and kind is not BackendKind.POSTGRES:
        raise ConfigError(f"{key}.relays: only PostgreSQL has relays that route")
    if entry.database and kind is BackendKind.REDIS:
        raise ConfigError(f"{key}.database: Redis replicates all its databases as one")
    return ReplicationAccess(
        user=entry.user,
        password=password or "",
        database=entry.database,
        interval=entry.interval,
        max_lag=entry.max_lag,
        discover=tuple(_networks(entry.discover.items(), topology, f"{key}.discover")),
        relays=tuple(_relays(entry, topology, f"{key}.relays")),
        relay_token=token or "",
    )


def _relays(
    entry: ReplicationEntry, topology: Topology, key: str
) -> Iterable[tuple[RegionId, tuple[str, ...]]]:
    for name, urls in entry.relays.items():
        region = known_region(name, topology.regions, f"{key}.{name}")
        yield region, tuple(url.rstrip("/") for url in urls)


def _networks(
    entries: Iterable[tuple[str, list[str]]], topology: Topology, key: str
) -> Iterable[tuple[RegionId, tuple[str, ...]]]:
    owners: dict[str, str] = {}
    for name, networks in entries:
        region = known_region(name, topology.regions, f"{key}.{name}")
        for number, text in enumerate(networks):
            where = f"{key}.{name}[{number}]"
            try:
                network = str(ipaddress.ip_network(text))
            except ValueError as error:
                raise ConfigError(f"{where}: {text!r} is not a network: {error}") from error
            if owners.setdefault(network, name) != name:
                raise ConfigError(f"{where}: {network} is in {owners[network]} already")
        yield region, tuple(networks)
