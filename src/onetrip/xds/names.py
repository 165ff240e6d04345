"""Names of clusters and routes, which carry what an access log entry has to be read by.

A cluster is an environment and the regions its requests may run in, best first; a route's name ends
with the arms that its requests are split between. So an entry says by itself where its request was
wanted and why, whatever has been placed anew since it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import Arm
from onetrip.model.topology import RegionId

LISTENER = "onetrip-clients"
TLS_LISTENER = "onetrip-clients-tls"
ROUTES = "onetrip-routes"
REDIRECT = "onetrip-redirect"
RUNTIME = "onetrip"
CONTROL_CLUSTER = "onetrip"
"""The cluster of the bootstrap by which Envoy reaches the node."""

METADATA = "onetrip"
"""Namespace of endpoint metadata."""

PLACEMENT_HEADER = "onetrip-placement"
LOG_RATIO_KEY = "onetrip.log_ratio"
"""Runtime key: share of requests that are logged to the node, in millionths."""

_ARMS = {arm.value: arm for arm in Arm}


def cluster_name(environment: EnvironmentId, regions: Sequence[RegionId]) -> str:
    """Return the name of the cluster that tries `regions` in this order."""
    return f"{environment}@{','.join(regions)}"


def first_region(cluster: str) -> RegionId | None:
    """Return the region that a cluster's requests are wanted in; None for a foreign name."""
    regions = cluster.partition("@")[2]
    return RegionId(regions.partition(",")[0]) if regions else None


def route_name(label: str, arms: Mapping[RegionId, Arm]) -> str:
    """Return the name of a route; `label` tells people what it matches."""
    return f"{label} {','.join(f'{region}={arm.value}' for region, arm in arms.items())}"


def arm_of(route: str, region: RegionId) -> Arm | None:
    """Return the arm by which a route's requests are wanted in a region; None for a foreign one."""
    for part in route.rpartition(" ")[2].split(","):
        name, _, arm = part.partition("=")
        if name == region:
            return _ARMS.get(arm)
    return None
