"""Replicas of backends: decoded entries to the catalog."""

from __future__ import annotations

from onetrip.app.schema_projects import BackendEntry
from onetrip.errors import ConfigError
from onetrip.model.replica import Replica
from onetrip.model.topology import RegionId, Topology, is_id, parse_endpoint


def build_replicas(
    backend: str, entry: BackendEntry, topology: Topology, key: str
) -> tuple[Replica, ...]:
    """Return the replicas of a backend; `key` is where it stands.

    Raises:
        ConfigError: a name, an address or a region that cannot be used.
    """
    found: dict[str, Replica] = {}
    for name, each in entry.replicas.items():
        where = f"{key}.replicas.{name}"
        check_name(name, where)
        try:
            endpoint = parse_endpoint(each.address)
        except ConfigError as error:
            raise ConfigError(f"{where}.address: {error}") from error
        if str(endpoint) in found:
            other = found[str(endpoint)].name
            raise ConfigError(f"{where}.address: {endpoint} is that of {other}")
        region = check_region(each.region, topology, f"{where}.region")
        found[str(endpoint)] = Replica(f"{backend}/{name}", endpoint, region)
    return tuple(found.values())


def check_region(name: str | None, topology: Topology, key: str) -> RegionId | None:
    """Return where an endpoint is declared to be; `key` is where that stands.

    Raises:
        ConfigError: a region that does not exist.
    """
    if name is None:
        return None
    if name not in topology.regions:
        known = ", ".join(topology.regions)
        raise ConfigError(f"{key}: region {name!r} is not one of {known}")
    return RegionId(name)


def check_name(text: str, key: str) -> None:
    """Refuse what is no name; `key` is where it stands.

    Raises:
        ConfigError: it is not 1-32 lower-case letters, digits and hyphens.
    """
    if not is_id(text):
        raise ConfigError(
            f"{key}: {text!r} is not a name of 1-32 lower-case letters, digits and hyphens"
        )
