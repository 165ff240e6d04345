"""Replicas of backends: decoded entries to the catalog."""

from __future__ import annotations

from onetrip.app.named import check_id, endpoint_at, optional_region
from onetrip.app.schema_projects import BackendEntry
from onetrip.errors import ConfigError
from onetrip.model.replica import Replica
from onetrip.model.topology import Topology


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
        check_id(name, where)
        endpoint = endpoint_at(each.address, f"{where}.address")
        if str(endpoint) in found:
            other = found[str(endpoint)].name
            raise ConfigError(f"{where}.address: {endpoint} is that of {other}")
        region = optional_region(each.region, topology.regions, f"{where}.region")
        found[str(endpoint)] = Replica(f"{backend}/{name}", endpoint, region)
    return tuple(found.values())
