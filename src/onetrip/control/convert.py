"""Model values to API bodies: pure functions, seconds in, milliseconds out.

Everything here can be tested with hand-made model values; nothing here knows HTTP.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from onetrip.control import schemas
from onetrip.control.figures import finite, milliseconds
from onetrip.control.projects import binding_rows
from onetrip.model.catalog import Backend, Catalog, Environment, Policy, Project
from onetrip.model.measure import EstimateState, RouteKey, RttEstimate, Target, TargetKind
from onetrip.model.placement import Candidate, Decision, Saving, Status, TripEstimate
from onetrip.model.status import Event, LatencyPoint, LatencySummary, PeerStatus
from onetrip.model.topology import Region, RegionId

Rtts = Mapping[RegionId, Mapping[Target, RttEstimate]]


def region_row(
    region: Region,
    *,
    own: RegionId,
    peer: PeerStatus | None,
    backends: list[str],
    is_draining: bool = False,
    instances: tuple[int, int] = (0, 0),
) -> schemas.RegionRow:
    """Describe one region; `peer` is its node's status as `own` sees it, if it has a node.

    Args:
        instances: how many there are, and how many of them are ready.
    """
    is_self = region.id == own
    position = region.position
    return schemas.RegionRow(
        id=region.id,
        title=region.title,
        position=schemas.Position(*position) if position else None,
        is_self=is_self,
        is_alive=True if is_self else peer.is_alive if peer else None,
        is_draining=is_draining,
        instances=instances[0],
        instances_ready=instances[1],
        age=0.0 if is_self else finite(peer.age) if peer else None,
        backends=backends,
    )


def instance_counts(catalog: Catalog, rtts: Rtts, own: RegionId) -> dict[RegionId, tuple[int, int]]:
    """Return how many instances each region has, and how many of them do not fail their probes.

    An instance is judged by the node of its region, or by this one (`own`) where that has none.
    """
    found = {(i.region, str(i.endpoint)) for e in catalog.environments() for i in e.instances}
    counts: dict[RegionId, tuple[int, int]] = {}
    for region, endpoint in found:
        target = Target(TargetKind.INSTANCE, endpoint)
        seen = rtts.get(region, {}).get(target) or rtts.get(own, {}).get(target)
        is_ready = seen is None or seen.state is not EstimateState.FAILING
        total, ready = counts.get(region, (0, 0))
        counts[region] = total + 1, ready + is_ready
    return counts


def nearest_backends(
    rtts: Rtts, anycast: frozenset[str] = frozenset()
) -> dict[RegionId, list[str]]:
    """Return the backends by the region with the least RTT to each; anycast ones have none."""
    best: dict[str, tuple[float, RegionId]] = {}
    for source, row in rtts.items():
        for target, estimate in row.items():
            is_placed = target.kind is TargetKind.BACKEND and target.name not in anycast
            if is_placed and math.isfinite(estimate.rtt):
                found = (estimate.rtt, source)
                best[target.name] = min(best.get(target.name, found), found)
    placed: dict[RegionId, list[str]] = {}
    for name, (_, region) in sorted(best.items()):
        placed.setdefault(region, []).append(name)
    return placed


class RegionOrder:
    """Sort keys that list regions as the configuration does; names it lacks come last.

    Estimates and decisions arrive in whatever order the peers reported them; people and tests
    want the same order every time.
    """

    def __init__(self, regions: Iterable[str]) -> None:
        self._index = {name: i for i, name in enumerate(regions)}

    def region(self, name: str) -> tuple[int, str]:
        """Return the key of a region, or of any other name."""
        return self._index.get(name, len(self._index)), name

    def target(self, target: Target) -> tuple[bool, bool, tuple[int, str]]:
        """Return the key of an RTT's target: peers, then backends, then instances."""
        is_instance = target.kind is TargetKind.INSTANCE
        return is_instance, target.kind is not TargetKind.PEER, self.region(target.name)

    def route(self, key: RouteKey, edge: RegionId) -> tuple[str, str, str, tuple[int, str]]:
        """Return the key of a route at an edge: the edges of one route stand together."""
        return str(key.environment), key.route, key.method.value, self.region(edge)


def rtt_rows(
    rtts: Rtts, order: RegionOrder, anycast: frozenset[str] = frozenset()
) -> list[schemas.RttRow]:
    """Return one row for each (source, target); `anycast` names backends."""
    return [
        schemas.RttRow(
            source=source,
            kind=target.kind.value,
            target=target.name,
            state=estimate.state.value,
            rtt_ms=milliseconds(estimate.rtt),
            srtt_ms=milliseconds(estimate.srtt),
            rttvar_ms=milliseconds(estimate.rttvar),
            samples=estimate.samples,
            failures=estimate.failures,
            is_anycast=target.kind is TargetKind.BACKEND and target.name in anycast,
        )
        for source, row in sorted(rtts.items(), key=lambda item: order.region(item[0]))
        for target, estimate in sorted(row.items(), key=lambda item: order.target(item[0]))
    ]


def placement_body(policy: Policy) -> schemas.PlacementBody:
    """Describe a policy."""
    return schemas.PlacementBody(
        mode=policy.mode.value,
        hint=policy.hint or "",
        share=policy.share,
        control=policy.control_ratio,
        explore=policy.explore_ratio,
        least_gain_ms=round(policy.least_gain * 1e3, 3),
        dwell=policy.dwell,
        allow=sorted(policy.allow),
        deny=sorted(policy.deny),
        forwarding=policy.forwarding.value,
    )


def project_body(project: Project, backends: Mapping[str, Backend]) -> schemas.ProjectBody:
    """Describe what is configured for a project."""
    return schemas.ProjectBody(
        name=project.name,
        placement=placement_body(project.policy),
        environments=[
            _environment_body(name, environment, backends)
            for name, environment in project.environments.items()
        ],
    )


def project_row(
    project: Project, catalog: Catalog, decisions: Iterable[Decision]
) -> schemas.ProjectRow:
    """Describe a project and what became of its routes; `decisions` are its own."""
    body, own = project_body(project, catalog.backends), list(decisions)
    return schemas.ProjectRow(
        name=body.name,
        etag=etag_of(body),
        placement=body.placement,
        environments=body.environments,
        routes=status_counts(own),
        saving_ms=mean_saving(own),
        requests=sum(d.trips.requests for d in own),
    )


def etag_of(body: msgspec.Struct) -> str:
    """Return the strong ETag of a body, quotes included."""
    return f'"{hashlib.sha256(msgspec.json.encode(body)).hexdigest()[:32]}"'


def status_counts(decisions: Iterable[Decision]) -> dict[str, int]:
    """Count (route, edge) pairs by status."""
    return dict(sorted(Counter(d.placement.status.value for d in decisions).items()))


def mean_saving(decisions: Iterable[Decision]) -> float | None:
    """Return the request-weighted mean saving of the routes placed now, ms; None without any."""
    total, weight = 0.0, 0
    for decision in decisions:
        saving = decision.saving
        if decision.placement.status is not Status.PLACED or saving is None:
            # A route that was moved back keeps its last measurement, but saves nothing now.
            continue
        if saving.placed_requests and math.isfinite(saving.mean):
            total += saving.mean * saving.placed_requests
            weight += saving.placed_requests
    return milliseconds(total / weight) if weight else None


def decision_body(decision: Decision, capacity: int | None = None) -> schemas.DecisionBody:
    """Describe one explain record; `capacity` is that of the route's environment."""
    key, placement = decision.key, decision.placement
    chosen = placement.regions[0] if placement.regions else None
    return schemas.DecisionBody(
        project=key.environment.project,
        environment=key.environment.environment,
        route=key.route,
        method=key.method.value,
        edge=decision.edge,
        status=placement.status.value,
        regions=list(placement.regions),
        default=placement.default,
        control=placement.control_ratio,
        explore=placement.explore_ratio,
        explore_region=placement.explore,
        reason=placement.reason,
        missing=placement.missing or decision.trips.missing,
        trips=_trips_body(decision.trips),
        candidates=[_candidate_row(c, chosen, placement.default) for c in decision.candidates],
        saving=saving_body(decision.saving) if decision.saving else None,
        decided_at=decision.decided_at,
        moved_at=decision.moved_at or None,
        capacity=capacity,
    )


def latency_row(latency: LatencySummary) -> schemas.LatencyRow:
    """Describe the latency of one route at one edge in one arm."""
    key = latency.key
    return schemas.LatencyRow(
        project=key.environment.project,
        environment=key.environment.environment,
        route=key.route,
        method=key.method.value,
        edge=latency.edge,
        arm=latency.arm.value,
        requests=latency.requests,
        mean_ms=milliseconds(latency.mean),
        p50_ms=milliseconds(latency.p50),
        p95_ms=milliseconds(latency.p95),
        p99_ms=milliseconds(latency.p99),
    )


def series_row(key: RouteKey, edge: RegionId, points: Iterable[LatencyPoint]) -> schemas.SeriesRow:
    """Describe the latency history of one route at one edge."""
    return schemas.SeriesRow(
        environment=key.environment.environment,
        route=key.route,
        method=key.method.value,
        edge=edge,
        points=[
            schemas.PointRow(
                at=point.at,
                placed_p50_ms=milliseconds(point.placed_p50),
                default_p50_ms=milliseconds(point.default_p50),
                requests=point.requests,
            )
            for point in points
        ],
    )


def event_row(event: Event) -> schemas.EventRow:
    """Describe one event."""
    return schemas.EventRow(event.at, event.name, event.subject, event.detail, event.id)


def _environment_body(
    name: str, environment: Environment, backends: Mapping[str, Backend]
) -> schemas.EnvironmentBody:
    return schemas.EnvironmentBody(
        name=name,
        hosts=list(environment.hosts),
        path_prefix=environment.path_prefix,
        deployment=environment.deployment,
        capacity=environment.capacity,
        instances=[schemas.InstanceRow(i.region, str(i.endpoint)) for i in environment.instances],
        bindings=binding_rows(environment, backends),
    )


def _trips_body(trips: TripEstimate) -> schemas.TripsBody:
    return schemas.TripsBody(
        compute_ms=milliseconds(trips.compute),
        backends=[
            schemas.TripsRow(
                backend=name,
                round_trips=finite(count),
                low=finite(trips.low.get(name, math.nan)),
                high=finite(trips.high.get(name, math.nan)),
            )
            for name, count in trips.round_trips.items()
        ],
        requests=trips.requests,
        regions=trips.regions,
        source=trips.source,
        missing=trips.missing,
    )


def _candidate_row(
    candidate: Candidate, chosen: RegionId | None, default: RegionId | None
) -> schemas.CandidateRow:
    return schemas.CandidateRow(
        region=candidate.region,
        edge_rtt_ms=milliseconds(candidate.edge_rtt),
        compute_ms=milliseconds(candidate.compute),
        backends=[
            schemas.TermRow(name, finite(count), milliseconds(rtt), milliseconds(product), endpoint)
            for (name, count, rtt, product), endpoint in zip(
                candidate.backend_trips,
                # A peer of an older version tells none.
                candidate.endpoints or [term[0] for term in candidate.backend_trips],
                strict=False,
            )
        ],
        score_ms=milliseconds(candidate.score),
        verdict=candidate.verdict,
        is_chosen=candidate.region == chosen,
        is_default=candidate.region == default,
    )


def saving_body(saving: Saving) -> schemas.SavingBody:
    """Describe a measured saving."""
    return schemas.SavingBody(
        mean_ms=milliseconds(saving.mean),
        low_ms=milliseconds(saving.low),
        high_ms=milliseconds(saving.high),
        confidence=saving.confidence,
        placed_requests=saving.placed_requests,
        control_requests=saving.control_requests,
    )
