"""Where a request runs: the arm, the region, and the endpoint to send it to.

The placement snapshot says which regions are wanted; readiness says which can serve. The choice
never leaves the regions that the project's policy permits, whatever an older placement says.
Inside this node's own region the endpoint is the less loaded of two random ones.

Source: M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from random import Random

from onetrip.errors import Kind, UpstreamError
from onetrip.model.catalog import Catalog, EnvironmentId, Forwarding, Policy
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
    refused_until: float = 0.0


@dataclass(slots=True)
class _Site:
    policy: Policy
    regions: dict[RegionId, _Region]


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
                regions: dict[RegionId, _Region] = {}
                for instance in environment.instances:
                    at = regions.get(instance.region)
                    if at is None:
                        at = self._reach(instance.region, topology, through_nodes)
                        regions[instance.region] = at
                    at.instances.append(self._pool.at(instance.endpoint))
                sites[environment.id] = _Site(project.policy, regions)
        self._sites = sites
        used = {p.endpoint for s in sites.values() for r in s.regions.values() for p in r.instances}
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
            for region in self._candidates(site, wanted, placement):
                at = site.regions.get(region)
                if at is None or not site.policy.permits(region):
                    continue
                choice = self._reachable(at, region, tried)
                if choice is not None:
                    choice.arm = arm if wanted is None or region == wanted else Arm.FAILOVER
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
        at = site.regions.get(self._region) if site is not None else None
        if site is not None and at is not None and site.policy.permits(self._region):
            pool = self._pick(at.instances, tried)
            if pool is not None:
                return Choice(arm, self._region, pool, via_peer=False, is_own=True)
        raise UpstreamError(
            f"no instance of {match.environment.id} is ready in {self._region}",
            kind=Kind.UNAVAILABLE,
        )

    def note_refusal(self, match: Match, region: RegionId) -> None:
        """Leave a region whose node had no ready instance alone for a short time."""
        site = self._sites.get(match.environment.id)
        if site is not None and region in site.regions:
            site.regions[region].refused_until = self._clock.now() + self._fail_time

    def _reach(self, region: RegionId, topology: Topology, through_nodes: bool) -> _Region:
        place = topology.regions.get(region)
        is_remote = region != self._region
        peer = None
        if through_nodes and is_remote and place is not None and place.proxy is not None:
            peer = self._pool.at(place.proxy)
        return _Region([], peer, Target(TargetKind.PEER, region))

    def _wanted(
        self, match: Match, placement: Placement | None, share: float
    ) -> tuple[Arm, RegionId | None]:
        if match.rule is not None and match.rule.is_local:
            return Arm.DEFAULT, self._region
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
        yield from site.regions

    def _reachable(
        self, at: _Region, region: RegionId, tried: Collection[EndpointPool]
    ) -> Choice | None:
        if at.peer is None:
            pool = self._pick(at.instances, tried)
            if pool is None:
                return None
            is_own = region == self._region
            return Choice(Arm.DEFAULT, region, pool, via_peer=False, is_own=is_own)
        now = self._clock.now()
        if at.peer in tried or at.peer.avoid_until > now or at.refused_until > now:
            return None
        if not self._is_ready(at.peer_target):
            return None
        return Choice(Arm.DEFAULT, region, at.peer, via_peer=True, is_own=False)

    def _pick(
        self, pools: list[EndpointPool], tried: Collection[EndpointPool]
    ) -> EndpointPool | None:
        now = self._clock.now()
        ready = [
            pool
            for pool in pools
            if pool.avoid_until <= now and pool not in tried and self._is_ready(pool.target)
        ]
        if len(ready) < 2:
            return ready[0] if ready else None
        one, two = self._rng.sample(ready, 2)
        return one if one.outstanding <= two.outstanding else two
