"""Which regions can serve an environment now: instances that answer, nodes that answer, drains.

Pure: it reads the RTT rows of the cluster (a target that fails its probes is down) and what nodes
told about themselves. A region whose node this one does not probe is judged by its reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onetrip.model.catalog import Catalog, Environment, EnvironmentId
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId, Topology
from onetrip.place.defaults import EnvironmentInput

Rows = Mapping[RegionId, Mapping[Target, RttEstimate]]


@dataclass(frozen=True, slots=True)
class Absence:
    """Regions that are not probed and do not report, either.

    Attributes:
        silent: their node told something once and does so no more: it is down.
        unheard: nothing is known of them; they serve where no other region is known to.
    """

    silent: frozenset[RegionId] = frozenset()
    unheard: frozenset[RegionId] = frozenset()


PRESENT = Absence()
"""Nobody is missing."""


class Readiness:
    """The state of the cluster as one node sees it.

    Args:
        region: this node's own region.
        rows: each region's RTT row.
        draining: regions that take no new work while another one can.
        absence: what the reports say of the regions whose node is not probed.
    """

    def __init__(
        self,
        region: RegionId,
        topology: Topology,
        rows: Rows,
        draining: frozenset[RegionId] = frozenset(),
        absence: Absence = PRESENT,
    ) -> None:
        self._region = region
        self._topology = topology
        self._rows = rows
        self._draining = draining
        self._absence = absence
        self._failing = {r: failing for r, row in rows.items() if (failing := _failing_of(row))}
        # While no instance fails, one region's are alike: thousands of environments share them.
        self._fails_alone = any(
            target.kind is TargetKind.INSTANCE
            for failing in self._failing.values()
            for target in failing
        )
        own = self._failing.get(region, frozenset())
        self._cut = absence.silent | {
            r for r in topology.regions if self._is_behind_node(r) and _peer(r) in own
        }
        """Regions whose instances no request reaches, whatever those are up to."""

    def environments(
        self,
        catalog: Catalog,
        backends: Mapping[EnvironmentId, tuple[str, ...]],
        nearest: Mapping[EnvironmentId, Mapping[str, str]],
    ) -> list[EnvironmentInput]:
        """Return every environment as placement sees it; `nearest` is of `Reads.columns`."""
        return [
            EnvironmentInput(
                id=env.id,
                policy=catalog.policy_of(env.id),
                backends=backends[env.id],
                instances=self.instances(env),
                nearest=nearest.get(env.id, {}),
            )
            for env in catalog.environments()
        ]

    def instances(self, env: Environment) -> dict[RegionId, bool]:
        """Return the regions that have an instance, and whether one there can take requests."""
        if not self._fails_alone:
            found = {i.region: i.region not in self._cut for i in env.instances}
        else:
            found = {}
            for instance in env.instances:
                target = Target(TargetKind.INSTANCE, str(instance.endpoint))
                ready = self._is_ready(instance.region, target)
                found[instance.region] = found.get(instance.region, False) or ready
        if not self._draining and not self._absence.unheard:
            return found
        # A drain must not take the last region away, nor must that nothing is heard of it yet.
        for out in (self._draining | self._absence.unheard, self._draining):
            kept = {r: ok and r not in out for r, ok in found.items()}
            if any(kept.values()):
                return kept
        return found

    def _is_ready(self, region: RegionId, target: Target) -> bool:
        own = self._failing.get(self._region, frozenset())
        if region in self._cut:
            return False
        if not self._is_behind_node(region):
            return target not in own
        # Through its node, which must see its instance.
        if target in self._rows.get(region, {}):
            return target not in self._failing.get(region, frozenset())
        return target not in own

    def _is_behind_node(self, region: RegionId) -> bool:
        place = self._topology.regions.get(region)
        return region != self._region and place is not None and place.proxy is not None


def _peer(region: RegionId) -> Target:
    return Target(TargetKind.PEER, region)


def _failing_of(row: Mapping[Target, RttEstimate]) -> frozenset[Target]:
    return frozenset(t for t, e in row.items() if e.state is EstimateState.FAILING)


def rtt_of(row: Mapping[Target, RttEstimate], target: Target) -> float:
    """Return an RTT, s; NaN when unknown."""
    estimate = row.get(target)
    return estimate.rtt if estimate is not None else math.nan
