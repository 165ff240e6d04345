"""Where a request runs: the arm, the region, and the endpoint to send it to.

The placement snapshot says which regions are wanted; readiness says which can serve. The choice
never leaves the regions that the project's policy permits, whatever an older placement says.
Inside this node's own region the endpoint is the less loaded of two random ones; a region whose
instances are all at their capacity is passed over for the next-best one.

Source: M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from random import Random

from onetrip.errors import Kind, UpstreamError
from onetrip.model.catalog import Catalog, EnvironmentId, Forwarding
from onetrip.model.measure import Arm, Target, TargetKind
from onetrip.model.placement import Placement
from onetrip.model.topology import RegionId, Topology
from onetrip.place.arms import assign
from onetrip.proxy.pool import EndpointPool, Pool
from onetrip.proxy.router import Match
from onetrip.timing import Clock

IsReady = Callable[[Target], bool]


@dataclass(slots=True)
class Choice:
    """Where one attempt goes.

    Attributes:
        via_peer: through the region's node, which must not forward it again.
        is_own: an instance of this node's own region runs it.
    """

    arm: Arm
    region: RegionId
    pool: EndpointPool
    via_peer: bool
    is_own: bool


@dataclass(slots=True)
class _Region:
    """How one environment is reached in one region."""

    instances: list[EndpointPool]
    peer: EndpointPool | None
    peer_target: Target
    capacity: float
    refused_until: float = 0.0

    @property
    def is_full(self) -> bool:
        """Whether every instance that this node sends to directly is at its capacity."""
        return self.peer is None and all(p.outstanding >= self.capacity for p in self.instances)


_Site = dict[RegionId, _Region]
"""The regions an environment may run in: those with an instance that its policy permits."""


class Balancer:
    """Chooses for every request of one node.

    Args:
        region: this node's own region.
        is_ready: whether a target can serve, by the latest probes.
        fail_time: how long a peer that refused an environment is left alone, s.
    """

    def __init__(
        self,
        region: RegionId,
        pool: Pool,
        is_ready: IsReady,
        clock: Clock,
        rng: Random,
        fail_time: float,
    ) -> None:
        self._region = region
        self._pool = pool
        self._is_ready = is_ready
        self._clock = clock
        self._rng = rng
        self._fail_time = fail_time
        self._sites: dict[EnvironmentId, _Site] = {}

    def update(self, catalog: Catalog, topology: Topology, can_hop: bool) -> None:
        """Use another catalog or topology from the next request on.

        Args:
            can_hop: a cluster secret exists; without it peers would not recognise what we forward
                and could send it round in circles, so regions are then reached directly.
        """
        sites: dict[EnvironmentId, _Site] = {}
        for project in catalog.projects.values():
            through_nodes = can_hop and project.policy.forwarding is Forwarding.NODE
            for environment in project.environments.values():
                site: _Site = {}
                for instance in environment.instances:
                    if project.policy.permits(instance.region):
                        at = site.get(instance.region)
                        if at is None:
                            at = self._reach(instance.region, topology, through_nodes)
                            at.capacity = environment.capacity or math.inf
                            site[instance.region] = at
                        at.instances.append(self._pool.at(instance.endpoint))
                sites[environment.id] = site
        self._sites = sites
        used = {p.endpoint for s in sites.values() for r in s.values() for p in r.instances}
        used |= {r.proxy for r in topology.regions.values() if r.proxy is not None}
        self._pool.retain(used)

    def choose(
        self,
        match: Match,
        placement: Placement | None,
        share: float,
        tried: Collection[EndpointPool],
    ) -> Choice:
        """Return where a request of a client of this node goes.

        Args:
            placement: of `match.key`, or None before the first decision.
            share: the request's `unit_hash`.
            tried: endpoints that failed for this request already.

        Raises:
            UpstreamError: kind UNAVAILABLE; no permitted region is ready.
        """
        site = self._sites.get(match.environment.id)
        if site is not None:
            arm, wanted = self._wanted(match, placement, share)
            other = Arm.FAILOVER
            for region in self._candidates(site, wanted, placement):
                at = site.get(region)
                choice = at and self._reachable(at, region, tried)
                if choice:
                    choice.arm = arm if wanted is None or region == wanted else other
                    return choice
                if at is not None and at.is_full:
                    other = Arm.SPILL
            if other is Arm.SPILL:
                choice = self._queued(site, self._candidates(site, wanted, placement), tried)
                if choice is not None:
                    choice.arm = arm if choice.region == wanted else other
                    return choice
        raise UpstreamError(
            f"no permitted region of {match.environment.id} is ready", kind=Kind.UNAVAILABLE
        )

    def choose_own(self, match: Match, arm: Arm, tried: Collection[EndpointPool]) -> Choice:
        """Return an instance of this region for a request that a peer forwarded.

        Raises:
            UpstreamError: kind UNAVAILABLE; none is ready here.
        """
        site = self._sites.get(match.environment.id)
        at = site.get(self._region) if site is not None else None
        if at is not None:
            pool = self._pick(at.instances, tried, at.capacity)
            if pool is not None:
                return Choice(arm, self._region, pool, via_peer=False, is_own=True)
        raise UpstreamError(
            f"no instance of {match.environment.id} is ready in {self._region}",
            kind=Kind.UNAVAILABLE,
        )

    def note_refusal(self, match: Match, region: RegionId) -> None:
        """Leave a region whose node had no ready instance alone for a short time."""
        site = self._sites.get(match.environment.id)
        if site is not None and region in site:
            site[region].refused_until = self._clock.now() + self._fail_time

    def _reach(self, region: RegionId, topology: Topology, through_nodes: bool) -> _Region:
        place = topology.regions.get(region)
        is_remote = region != self._region
        peer = None
        if through_nodes and is_remote and place is not None and place.proxy is not None:
            peer = self._pool.at(place.proxy)
        return _Region([], peer, Target(TargetKind.PEER, region), math.inf)

    def _wanted(
        self, match: Match, placement: Placement | None, share: float
    ) -> tuple[Arm, RegionId | None]:
        if match.rule is not None and match.rule.is_local:
            # The edge where it can serve, else what is nearest: never where the scores point.
            default = placement.default if placement is not None else None
            return Arm.DEFAULT, default or self._region
        if placement is None:
            return Arm.DEFAULT, None
        return assign(placement, match.key.method, share)

    def _candidates(
        self, site: _Site, wanted: RegionId | None, placement: Placement | None
    ) -> Iterator[RegionId]:
        """Yield regions in the order to try them; mostly only the first is asked for."""
        yield self._region if wanted is None else wanted
        if placement is not None:
            yield from placement.regions
            if placement.default is not None:
                yield placement.default
        yield self._region
        yield from site

    def _reachable(
        self, at: _Region, region: RegionId, tried: Collection[EndpointPool]
    ) -> Choice | None:
        if at.peer is None:
            return self._direct(at, region, tried, at.capacity)
        if at.peer in tried or self._is_future(at.peer.avoid_until, at.refused_until):
            return None
        if not self._is_ready(at.peer_target):
            return None
        return Choice(Arm.DEFAULT, region, at.peer, via_peer=True, is_own=False)

    def _queued(
        self, site: _Site, regions: Iterator[RegionId], tried: Collection[EndpointPool]
    ) -> Choice | None:
        """Return an instance to wait for when every region is full: that beats a refusal."""
        for region in regions:
            at = site.get(region)
            if at is not None and at.peer is None:
                choice = self._direct(at, region, tried, math.inf)
                if choice is not None:
                    return choice
        return None

    def _direct(
        self, at: _Region, region: RegionId, tried: Collection[EndpointPool], capacity: float
    ) -> Choice | None:
        pool = self._pick(at.instances, tried, capacity)
        if pool is None:
            return None
        return Choice(Arm.DEFAULT, region, pool, via_peer=False, is_own=region == self._region)

    def _pick(
        self, pools: list[EndpointPool], tried: Collection[EndpointPool], capacity: float
    ) -> EndpointPool | None:
        ready = [
            pool
            for pool in pools
            if pool.outstanding < capacity
            and self._is_ready(pool.target)
            and pool not in tried
            and not (pool.avoid_until and self._is_future(pool.avoid_until))
        ]
        if len(ready) < 2:
            return ready[0] if ready else None
        one, two = self._rng.sample(ready, 2)
        return one if one.outstanding <= two.outstanding else two

    def _is_future(self, *instants: float) -> bool:
        latest = max(instants)
        return bool(latest) and latest > self._clock.now()
