"""Where a request runs: the arm, the region, and the endpoint to send it to.

The placement snapshot says which regions are wanted; readiness says which can serve. The choice
never leaves the regions that the project's policy, the route and its bindings permit, whatever an
older placement says.
A region whose instances are all ejected or at their capacity is passed over for the next-best one;
when no region is left, an ejected instance is better than none.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random

from onetrip.errors import Kind, UpstreamError
from onetrip.model.catalog import Catalog, EnvironmentId, Forwarding
from onetrip.model.measure import Arm, Target, TargetKind
from onetrip.model.placement import Placement
from onetrip.model.topology import RegionId, Topology
from onetrip.place.arms import assign
from onetrip.proxy.outliers import Outliers
from onetrip.proxy.pick import Picker
from onetrip.proxy.pool import EndpointPool, Pool
from onetrip.proxy.router import Match
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import Clock


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


_Site = dict[RegionId, _Region]
"""The regions an environment may run in: those with an instance that its policy permits."""


class Balancer:
    """Chooses for every request of one node.

    Args:
        region: this node's own region.
        outliers: told which instances belong together.
    """

    def __init__(
        self,
        region: RegionId,
        pool: Pool,
        outliers: Outliers,
        clock: Clock,
        rng: Random,
        settings: ProxySettings,
    ) -> None:
        self._region = region
        self._pool = pool
        self._picker = Picker(outliers.is_ready, clock, rng, settings)
        self._outliers = outliers
        self._clock = clock
        self._fail_time = settings.fail_time
        self._most = settings.pool_requests
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
            for environment in project.sites():
                if environment.site in sites:
                    continue
                site: _Site = {}
                for instance in environment.instances:
                    if project.policy.permits(instance.region):
                        at = site.get(instance.region)
                        if at is None:
                            at = self._reach(instance.region, topology, through_nodes)
                            at.capacity = min(environment.capacity or math.inf, self._most)
                            site[instance.region] = at
                        at.instances.append(self._pool.at(instance.endpoint))
                sites[environment.site] = site
        self._start_slowly(sites)
        self._sites = sites
        self._outliers.update([p for r in s.values() for p in r.instances] for s in sites.values())
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
            UpstreamError: kind UNAVAILABLE when no region is ready, RESIDENCY when none that the
                route and its bindings permit is, REQUEST_LIMIT when those that are have too many
                requests.
        """
        site = self._site(match)
        if site is not None:
            arm, wanted = self._wanted(match, placement, share)
            other = Arm.FAILOVER
            for region in self._candidates(site, wanted, placement):
                at = site.get(region)
                choice = at and self._reachable(at, region, tried)
                if choice:
                    choice.arm = arm if wanted is None or region == wanted else other
                    return choice
                if at is not None and other is not Arm.SPILL and self._is_full(at):
                    other = Arm.SPILL
            if other is Arm.SPILL:
                choice = self._queued(site, self._candidates(site, wanted, placement), tried)
                if choice is not None:
                    choice.arm = arm if choice.region == wanted else other
                    return choice
            if self._outliers.ejected:
                choice = self._last_resort(site, self._candidates(site, wanted, placement), tried)
                if choice is not None:
                    choice.arm = arm if choice.region == wanted else Arm.FAILOVER
                    return choice
            if other is Arm.SPILL:
                raise self._outliers.note_overflow(
                    UpstreamError(
                        f"instances of {match.environment.id} have {self._most} requests each",
                        kind=Kind.REQUEST_LIMIT,
                    )
                )
        kind = Kind.RESIDENCY if self._is_bounded(match, tried) else Kind.UNAVAILABLE
        raise UpstreamError(f"no permitted region of {match.environment.id} is ready", kind=kind)

    def choose_own(self, match: Match, arm: Arm, tried: Collection[EndpointPool]) -> Choice:
        """Return an instance of this region for a request that a peer forwarded.

        Raises:
            UpstreamError: kind UNAVAILABLE; none is ready here.
        """
        site = self._site(match)
        at = site.get(self._region) if site is not None else None
        if at is not None:
            pool = self._picker.pick(
                at.instances,
                tried,
                at.capacity,
                # Another region has refused it already: it must not be sent round in circles.
                with_ejected=arm is Arm.FAILOVER and self._outliers.ejected > 0,
            )
            if pool is not None:
                return Choice(arm, self._region, pool, via_peer=False, is_own=True)
        raise UpstreamError(
            f"no instance of {match.environment.id} is ready in {self._region}",
            kind=Kind.UNAVAILABLE,
        )

    def choose_in(
        self, match: Match, region: RegionId, tried: Collection[EndpointPool]
    ) -> Choice | None:
        """Return where in `region` a request goes; None unless it may, and something is ready."""
        site = self._site(match)
        at = site.get(region) if site is not None else None
        return None if at is None else self._reachable(at, region, tried)

    def _site(self, match: Match) -> _Site | None:
        """Return where a request may run: what `choose` can return is in here, or nothing is."""
        site = self._sites.get(match.environment.site)
        denied = match.environment.denied(match.rule)
        if denied and site is not None:
            return {region: at for region, at in site.items() if region not in denied}
        return site

    def _is_bounded(self, match: Match, tried: Collection[EndpointPool]) -> bool:
        """Tell whether a region could serve that the request must not run in."""
        denied, site = match.environment.denied(match.rule), self._sites.get(match.environment.site)
        return site is not None and any(
            region in denied and self._reachable(at, region, tried) is not None
            for region, at in site.items()
        )

    def note_refusal(self, match: Match, region: RegionId) -> None:
        """Leave a region whose node had no ready instance alone for a short time."""
        site = self._sites.get(match.environment.site)
        if site is not None and region in site:
            site[region].refused_until = self._clock.now() + self._fail_time

    def require_node(self, region: RegionId) -> None:
        """Give up on a node that probes call down: it may neither answer nor end a connection.

        Raises:
            UpstreamError: kind RESET; what may be sent twice goes elsewhere.
        """
        if not self._picker.is_ready(Target(TargetKind.PEER, region)):
            raise UpstreamError(
                f"node of {region} does not answer any more", kind=Kind.RESET, retryable=True
            )

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
        if at.peer.outstanding >= self._most:
            return None
        if not self._picker.is_ready(at.peer_target):
            return None
        return Choice(Arm.DEFAULT, region, at.peer, via_peer=True, is_own=False)

    def _queued(
        self, site: _Site, regions: Iterator[RegionId], tried: Collection[EndpointPool]
    ) -> Choice | None:
        """Return an instance to wait for when every region is full: that beats a refusal."""
        for region in regions:
            at = site.get(region)
            if at is not None and at.peer is None:
                choice = self._direct(at, region, tried, self._most)
                if choice is not None:
                    return choice
        return None

    def _last_resort(
        self, site: _Site, regions: Iterator[RegionId], tried: Collection[EndpointPool]
    ) -> Choice | None:
        """Return an ejected instance, when no region can serve."""
        for region in regions:
            at = site.get(region)
            if at is not None and at.peer is None:
                pool = self._picker.pick(at.instances, tried, self._most, with_ejected=True)
                if pool is not None:
                    return self._choice(region, pool)
        return None

    def _direct(
        self, at: _Region, region: RegionId, tried: Collection[EndpointPool], capacity: float
    ) -> Choice | None:
        pool = self._picker.pick(at.instances, tried, capacity)
        return None if pool is None else self._choice(region, pool)

    def _choice(self, region: RegionId, pool: EndpointPool) -> Choice:
        return Choice(Arm.DEFAULT, region, pool, via_peer=False, is_own=region == self._region)

    def _is_full(self, at: _Region) -> bool:
        """Whether what could serve there is at its capacity; nothing had room."""
        if at.peer is not None:
            return at.peer.outstanding >= self._most
        return any(
            pool.outstanding >= at.capacity
            and not pool.health.is_ejected
            and self._picker.is_ready(pool.target)
            for pool in at.instances
        )

    def _start_slowly(self, sites: dict[EnvironmentId, _Site]) -> None:
        """Let instances that join others start slowly; a new environment has nothing to spare."""
        now = self._clock.now()
        for id, site in sites.items():
            before = self._sites.get(id, {})
            for region, at in site.items():
                known = before[region].instances if region in before else at.instances
                for pool in set(at.instances).difference(known):
                    if not pool.health.groups:  # in use for no other environment either
                        pool.health.warm_from = now

    def _is_future(self, *instants: float) -> bool:
        latest = max(instants)
        return bool(latest) and latest > self._clock.now()
