"""The scoring loop: gathers what is known, lets the placer decide, publishes the snapshot.

The decision is pure (`place/placer`); this is the short loop around it. It also is where traffic
meets RTTs: each exchange is filed with the RTTs of its moment.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from onetrip.app.calls import Calls, columns_of, declared_trips
from onetrip.app.export import Exporter
from onetrip.app.readiness import PRESENT, Absence, Readiness, Rows, rtt_of
from onetrip.app.reads import Reads
from onetrip.app.trials import changed_conditions
from onetrip.app.vetting import Vetting
from onetrip.cluster.messages import EvidenceRow, ServiceRow
from onetrip.cluster.state import ClusterState
from onetrip.estimate.anycast import name_anycast
from onetrip.estimate.filters import RttBook
from onetrip.estimate.flips import FlipsBook
from onetrip.estimate.matrix import RttMatrix, build_matrix
from onetrip.estimate.nearest import add_nearest, move_primaries, nearest_rtt
from onetrip.estimate.timings import TimingBook, timing_evidence
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.catalog import Catalog, Environment, EnvironmentId, Forwarding
from onetrip.model.measure import (
    Drift,
    MethodClass,
    Observation,
    RouteKey,
    RttEstimate,
    ServiceSummary,
    Target,
    TargetKind,
    TripEvidence,
)
from onetrip.model.placement import PlacementSnapshot, Status
from onetrip.model.topology import RegionId, Topology
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.place.inputs import InputMaker
from onetrip.place.placer import Move, Placer, RouteInput
from onetrip.timing import Clock

Services = dict[RouteKey, list[ServiceSummary]]
Evidence = dict[RouteKey, list[TripEvidence]]

Standing = Callable[[], tuple[frozenset[str], Mapping[str, str]]]

INLINE_ROUTES = 50
"""Routes up to which a round is so short that a thread would cost more than it saves."""


class Scorer:
    """Owns the placer and what it reads on this node.

    Args:
        publish: called with each new snapshot.
        on_move: called with each move.
        on_drift: called with each lasting shift of a route's service time.
    """

    def __init__(
        self,
        region: RegionId,
        *,
        rtts: RttBook,
        traffic: TrafficBook,
        cluster: ClusterState,
        vetting: Vetting,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        publish: Callable[[PlacementSnapshot], None],
        on_move: Callable[[Move], None],
        on_drift: Callable[[Drift], None],
    ) -> None:
        self._region = region
        self._rtts = rtts
        self._traffic = traffic
        self._cluster = cluster
        self._vetting = vetting
        self._clock = clock
        self._metrics = metrics
        self._exporter = Exporter(metrics, region)
        self._log = log
        self._publish = publish
        self._on_move = on_move
        self._on_drift = on_drift
        self._inputs = InputMaker()
        self._calls = Calls()
        self._backends: dict[EnvironmentId, tuple[str, ...]] = {}
        self.reads = Reads(Catalog())
        """Which endpoints reads have a choice of, as of the last run."""
        self.standing: Standing = lambda: (frozenset(), {})
        """Which endpoints lag, and the primary of backends that have another than declared."""
        self._names: dict[EnvironmentId, dict[str, str]] = {}
        self._timings = TimingBook()
        self.flips = FlipsBook()
        """What the database relays of this region counted."""
        self.matrix: RttMatrix | None = None
        """RTTs of the last run."""
        self._now = clock.now()
        self.placer = Placer(region)
        self.lock = asyncio.Lock()
        """Held while the placer works; whoever reads its memory whole must hold it, too."""
        self.rows: Rows = {}
        self.anycast: frozenset[str] = frozenset()
        self.draining: frozenset[RegionId] = frozenset()
        """This node's own region, while it drains."""
        self.is_advising = False  # no request passes: what is declared counts, nothing is moved
        self.absence: Absence = PRESENT
        """Regions that are neither probed nor heard."""
        self.on_run: Callable[[], None] = lambda: None
        """Called after each run."""
        self.topology = Topology()
        self.catalog = Catalog()

    def update(self, topology: Topology, catalog: Catalog) -> None:
        """Take over a new configuration; the next run uses it."""
        is_served_alike = topology is self.topology and catalog.serves_like(self.catalog)
        known = {e.id for e in self.catalog.environments()}
        self._traffic.forget(known - {e.id for e in catalog.environments()})
        fresh = changed_conditions(self.catalog, catalog)
        for key in list(self._traffic.routes()) if fresh else ():
            if key.environment in fresh:
                self._traffic.begin_trial(key)
        self.topology, self.catalog = topology, catalog
        if is_served_alike:
            return
        self._calls.update(catalog)
        self._backends = {
            e.id: tuple(dict.fromkeys(columns_of(e).values())) for e in catalog.environments()
        }
        self.reads = Reads(catalog, *self.standing())
        self.flips.update(self._backends)
        # Server-Timing may name a binding or its backend.
        self._names = {
            e.id: {b: b for b in e.bindings.values()} | columns_of(e)
            for e in catalog.environments()
        }

    # --- traffic ----------------------------------------------------------------------------

    def observe(self, seen: Observation) -> None:
        """File one finished exchange."""
        backends = self._backends.get(seen.key.environment)
        if backends is None:
            return
        if seen.service is None and seen.latency is not None and self._is_direct(seen):
            seen = replace(seen, service=self._derived_service(seen.region, seen.latency))
        row = self.rows.get(seen.region, {})
        rtts = {name: self._backend_rtt(row, name, seen) for name in backends}
        self._traffic.observe(seen, rtts)
        if seen.service is not None and seen.sent_at and seen.region == self._region:
            sent_at = seen.sent_at + self._clock.wall() - self._clock.now()
            ended_at, trip = sent_at + seen.service, _mean(rtts.values())
            self.flips.observe(seen.key, sent_at, ended_at, seen.is_error, trip)
        if seen.timings and seen.service is not None and not seen.is_error:
            names = self._names[seen.key.environment]
            told = {names[t.name]: t for t in seen.timings if t.name in names}
            self._timings.observe(seen.key, seen.region, seen.at, told, rtts)

    def _backend_rtt(
        self, row: Mapping[Target, RttEstimate], name: str, seen: Observation
    ) -> float:
        called = self._calls.time(name, seen.region)
        if called is not None:
            return called
        key = seen.key
        if key.method is MethodClass.READ and (e := self.reads.endpoints(key.environment, name)):
            return nearest_rtt(row, e)
        return rtt_of(row, Target(TargetKind.BACKEND, self.reads.primary(name)))

    def _is_direct(self, seen: Observation) -> bool:
        # Nobody else times a request that went to an instance without passing its node.
        if seen.region == self._region:
            return False
        region = self.topology.regions.get(seen.region)
        policy = self.catalog.policy_of(seen.key.environment)
        return (region is None or region.proxy is None) or policy.forwarding is Forwarding.DIRECT

    def _derived_service(self, region: RegionId, latency: float) -> float | None:
        own = self.rows.get(self._region, {})
        trip = rtt_of(own, Target(TargetKind.PEER, region))
        return max(0.0, latency - trip) if math.isfinite(trip) else None

    # --- deciding ---------------------------------------------------------------------------

    async def run_once(self) -> None:
        """Score everything once and publish; rounds never overlap."""
        async with self.lock:
            with self._metrics.score_duration.time():
                moves, routes = await self._decide()
            self._publish(self.placer.snapshot)
            self._timings.keep(self._traffic.routes())
            self._inputs.keep(self._traffic.routes())
            for key in self.placer.stale_trials:
                self._traffic.begin_trial(key)
            for move in moves:
                self._report_move(move)
            for drift in self._traffic.drifts():
                self._report_drift(drift)
            row, peers = self.rows.get(self._region, {}), self._cluster.peers(self._now)
            self._exporter.export(self.placer.snapshot, routes, row, peers)
            self.on_run()

    async def _decide(self) -> tuple[list[Move], list[RouteInput]]:
        now, wall = self._clock.now(), self._clock.wall()
        elapsed, self._now = max(1e-3, now - self._now), now
        self.flips.settle(wall)
        claims = {**self._cluster.rows(now), self._region: self._rtts.estimates(now)}
        regions, backends = tuple(self.topology.regions), self.catalog.backends
        endpoints = tuple(name for b in backends.values() for name in b.endpoints)
        self.rows = await self._vetting.vet(claims, self.topology, endpoints, self.matrix, now)
        doubting = () if self.placer.guesses is None else (self._region,)
        matrix = self.matrix = build_matrix(self.rows, regions, endpoints, self.matrix, doubting)
        positions = [region.position for region in self.topology.regions.values()]
        self.anycast = name_anycast(endpoints, matrix.backend_rtt, positions)
        self.reads = self.reads.at(*self.standing())
        matrix = move_primaries(add_nearest(matrix, self.reads.groups), self.reads.moved)
        draining = self._cluster.draining() | self.draining
        ready = Readiness(self._region, self.topology, self.rows, draining, self.absence)
        environments = ready.environments(self.catalog, self._backends, self.reads.columns)
        self._relearn(now)
        services, evidence = self._services(now), self._evidence(now)
        routes = self._route_inputs(services, evidence, now, elapsed)
        matrix = self._calls.add(matrix, environments, services, evidence)
        if self.is_advising:
            from onetrip.app.advise import declared_inputs, switched_off

            environments = switched_off(environments)
            routes += declared_inputs(self.catalog, self._region, self._traffic)
        if len(routes) <= INLINE_ROUTES:
            return self.placer.decide(matrix, environments, routes, now, wall), routes
        # The inputs are values and the placer is only used here: requests need not wait for it.
        moves = await asyncio.to_thread(self.placer.decide, matrix, environments, routes, now, wall)
        return moves, routes

    def _services(self, now: float) -> Services:
        services = self._traffic.services(now)
        for key, rows in self._cluster.services().items():
            services.setdefault(key, []).extend(rows)
        return services

    def _route_inputs(
        self, services: Services, evidence: Evidence, now: float, elapsed: float
    ) -> list[RouteInput]:
        rules = {e.id: {r.pattern: r for r in e.rules} for e in self.catalog.environments()}
        inputs: list[RouteInput] = []
        for key in list(self._traffic.routes()):
            route = self._traffic.get(key)
            if route is None or key.environment not in rules:
                continue
            rule = rules[key.environment].get(key.route)
            inputs.append(
                self._inputs.make(
                    key,
                    route,
                    services=services.get(key, ()),
                    evidence=evidence.get(key, ()),
                    is_local=rule is not None and rule.is_local,
                    declared=declared_trips(self._environment(key.environment), rule),
                    deny=self._environment(key.environment).denied(rule),
                    now=now,
                    elapsed=elapsed,
                )
            )
        return inputs

    def _relearn(self, now: float) -> None:
        for key, at in self._cluster.code_changes().items():
            self._traffic.code_changed(key, at)
        for key, at in self._traffic.relearn(now).items():
            self._timings.forget(key, at)
            self.flips.forget(key)
            self.placer.code_changed(key, at)

    def _evidence(self, now: float) -> Evidence:
        found = self._told(now)
        for row in self._cluster.evidence():
            found.setdefault(row.key, []).append(row.evidence)
        durations = self._timings.durations(now)
        for each in self._cluster.durations():
            durations.setdefault(each.key, []).append(each.summary)
        for key, rows in durations.items():
            found.setdefault(key, []).extend(timing_evidence(rows))
        return found

    def _told(self, now: float) -> Evidence:
        # Round trips that were counted in this region: by applications, and by relays.
        found = self._timings.counts(now)
        for key, rows in self.flips.evidence(self._clock.wall()).items():
            found.setdefault(key, []).extend(rows)
        return found

    def _environment(self, id: EnvironmentId) -> Environment:
        project, environment = id
        return self.catalog.projects[project].environments[environment]

    # --- telling ----------------------------------------------------------------------------

    def _report_move(self, move: Move) -> None:
        source, target = move.source or self._region, move.target or self._region
        self._log.info(
            "place.moved", route=str(move.key), source=source, target=target, reason=move.reason
        )
        kind = "reverted" if move.status is Status.NOT_HELPING else "scored"
        self._metrics.moves.labels(kind).inc()
        self._on_move(move)

    def _report_drift(self, drift: Drift) -> None:
        self._log.info(
            "estimate.drifted",
            route=str(drift.key),
            region=drift.region,
            cause=drift.kind.value,
            before=round(drift.before, 4),
            after=round(drift.after, 4),
        )
        self._metrics.drifts.labels(drift.kind.value).inc()
        self._on_drift(drift)

    def shared(self, now: float) -> tuple[list[ServiceRow], list[EvidenceRow]]:
        """Return the durations and counts that peers should know."""
        durations = self._timings.durations(now).items()
        counts = self._told(now).items()
        return (
            [ServiceRow(key, row) for key, rows in durations for row in rows],
            [EvidenceRow(key, row) for key, rows in counts for row in rows],
        )


def _mean(rtts: Iterable[float]) -> float:
    known = [rtt for rtt in rtts if math.isfinite(rtt)]
    return sum(known) / len(known) if known else 0.0
