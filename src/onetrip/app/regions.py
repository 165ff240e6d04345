"""Regions: the entries of `regions` to the topology that they describe."""

from __future__ import annotations

from onetrip.app.named import check_id, optional_endpoint
from onetrip.app.schema import File, RegionEntry
from onetrip.app.security import reached_by_peers
from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint, Region, RegionId, Topology


def build_topology(file: File) -> Topology:
    """Return the regions of a file.

    Raises:
        ConfigError: there is none, or one that cannot be used; the message starts with its key.
    """
    if not file.regions:
        raise ConfigError("regions: at least one region is required")
    regions: dict[RegionId, Region] = {}
    for name, entry in file.regions.items():
        key = f"regions.{name}"
        check_id(name, key)
        regions[RegionId(name)] = Region(
            id=RegionId(name),
            title=entry.title or name,
            position=_position(entry, key),
            proxy=_proxy(entry, name, f"{key}.proxy", file),
            peer=reached_by_peers(optional_endpoint(entry.peer, f"{key}.peer"), name, file.cluster),
        )
    return Topology(regions)


def _proxy(entry: RegionEntry, region: str, key: str, file: File) -> Endpoint | None:
    endpoint = optional_endpoint(entry.proxy, key)
    if file.data_plane == "envoy":  # nobody forwards there: it is only measured
        return endpoint
    return reached_by_peers(endpoint, region, file.cluster)


def _position(entry: RegionEntry, key: str) -> tuple[float, float] | None:
    if entry.position is None:
        return None
    lat, lon = entry.position
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ConfigError(f"{key}.position: ({lat}, {lon}) is not (latitude, longitude)")
    return (lat, lon)
