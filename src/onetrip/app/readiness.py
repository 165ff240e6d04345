"""Which regions can serve an environment now: instances that answer, nodes that answer, drains.

Pure: it reads the RTT rows of the cluster (a target that fails its probes is down) and what nodes
told about themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onetrip.model.catalog import Catalog, Environment, EnvironmentId
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId, Topology
from onetrip.place.placer import EnvironmentInput

Rows = Mapping[RegionId, Mapping[Target, RttEstimate]]


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state of the cluster as one node sees it.

    Attributes:
        region: this node's own region.
        rows: each region's RTT row.
        draining: regions that take no new work while another one can.
    """

    region: RegionId
    topology: Topology
    rows: Rows
    draining: frozenset[RegionId] = frozenset()

    def environments(
        self, catalog: Catalog, backends: Mapping[EnvironmentId, tuple[str, ...]]
    ) -> list[EnvironmentInput]:
        """Return every environment as placement sees it."""
        return [
            EnvironmentInput(
                id=env.id,
                policy=catalog.policy_of(env.id),
                backends=backends[env.id],
                instances=self.instances(env),
            )
            for env in catalog.environments()
        ]

    def instances(self, env: Environment) -> dict[RegionId, bool]:
        """Return the regions that have an instance, and whether one there can take requests."""
        found: dict[RegionId, bool] = {}
        for instance in env.instances:
            target = Target(TargetKind.INSTANCE, str(instance.endpoint))
            ready = self._is_ready(instance.region, target)
            found[instance.region] = found.get(instance.region, False) or ready
        kept = {r: ok and r not in self.draining for r, ok in found.items()}
        # A drain must not take the last region away.
        return kept if any(kept.values()) else found

    def _is_ready(self, region: RegionId, target: Target) -> bool:
        own = self.rows.get(self.region, {})
        there = self.rows.get(region, {})
        if region == self.region:
            return not is_failing(own, target)
        place = self.topology.regions.get(region)
        if place is None or place.proxy is None:
            return not is_failing(own, target)
        # Through its node: the node must answer us, and it must see its instance.
        if is_failing(own, Target(TargetKind.PEER, region)):
            return False
        return not is_failing(there if target in there else own, target)


def rtt_of(row: Mapping[Target, RttEstimate], target: Target) -> float:
    """Return an RTT, s; NaN when unknown."""
    estimate = row.get(target)
    return estimate.rtt if estimate is not None else math.nan


def is_failing(row: Mapping[Target, RttEstimate], target: Target) -> bool:
    """Tell whether the last probes of `target` failed; a target never probed does not fail."""
    estimate = row.get(target)
    return estimate is not None and estimate.state is EstimateState.FAILING
