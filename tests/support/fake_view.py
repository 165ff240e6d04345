"""A node that does not exist: the three-region example with realistic figures, for API and page.

The RTTs are the measured ones between Denver, Mumbai and Frankfurt; everything else follows from
them by the same arithmetic that the product explains (edge RTT + compute + trips × RTT). Policy
changes take effect at once, so the toggle can be tried on it.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from onetrip.errors import ApiError, ConfigError, Kind
from onetrip.model.access import ServedRequest, Taken
from onetrip.model.advice import Advice, BackendAdvice, PrimaryPlan, ReplicaPlan
from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Instance,
    Mode,
    Policy,
    Project,
)
from onetrip.model.distribution import BOUNDS, Distribution
from onetrip.model.edge import Purge
from onetrip.model.measure import (
    Arm,
    EstimateState,
    MethodClass,
    RouteKey,
    RttEstimate,
    Target,
    TargetKind,
    TripEvidence,
)
from onetrip.model.placement import (
    Candidate,
    Decision,
    Placement,
    PlacementSnapshot,
    Saving,
    Status,
    TripEstimate,
    WhatIf,
)
from onetrip.model.relay import FlipReport, RelayStatus
from onetrip.model.status import (
    CertificateState,
    CertificateStatus,
    EndpointStatus,
    EnvoyStatus,
    Event,
    LatencyPoint,
    LatencySummary,
    PeerStatus,
    PolicyChange,
    Suspicion,
    WorkerStatus,
)
from onetrip.model.topology import Endpoint, Region, RegionId, Topology
from onetrip.model.webhook import Delivery, WebhookState, WebhookStatus
from onetrip.observe.metrics import Metrics
from support.fake_releases import FakeReleases

NOW = 1_750_000_000.0
"""Unix time of the fake world, s."""

PLACES = {
    "den": ("Denver", (39.74, -104.99)),
    "bom": ("Mumbai", (19.08, 72.88)),
    "fra": ("Frankfurt", (50.11, 8.68)),
}

RTTS = {("bom", "den"): 0.229, ("den", "fra"): 0.136, ("bom", "fra"): 0.117}
"""Between regions, s."""

DENVER = RegionId("den")

LOCAL_RTT = 0.0005
"""From a region to a backend in it, s."""

HOMES = {"orders-db": "bom", "blog-db": "fra", "sessions": "fra"}
"""Where each backend really is; the fake node knows only the RTTs that follow."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the fake world and what it truly costs."""

    project: str
    path: str
    method: MethodClass
    compute: float
    trips: Mapping[str, float]
    requests: int


ROUTES = (
    Route("shop", "/orders/{id}", MethodClass.READ, 0.0031, {"orders-db": 11.0}, 1284),
    Route("shop", "/orders", MethodClass.WRITE, 0.0048, {"orders-db": 6.2, "sessions": 1.0}, 96),
    Route("shop", "/item/{id}", MethodClass.READ, 0.0022, {"orders-db": 1.0}, 2210),
    Route("shop", "/about", MethodClass.READ, 0.0006, {}, 640),
    Route("shop", "/search", MethodClass.READ, 0.0031, {"orders-db": 4.0}, 6),
    Route("blog", "/", MethodClass.READ, 0.0040, {"blog-db": 7.0}, 310),
    Route("blog", "/posts/{id}", MethodClass.READ, 0.0035, {"blog-db": 4.0}, 955),
    Route("invoices", "/pdf/{id}", MethodClass.READ, 0.0421, {"orders-db": 3.0}, 48),
)

POLICIES = {
    "shop": Policy(mode=Mode.SMART),
    "blog": Policy(),
    "invoices": Policy(mode=Mode.SMART, hint=RegionId("fra")),
}


@dataclass
class FakeView:
    """A `NodeView` of invented but consistent figures.

    Args:
        places: region id to title and position.
        rtts: RTT between two regions, s, by sorted pair.
        dead: regions whose node does not answer.
        anycast: backends that are answered in more than one place.
        suspected: nodes whose RTTs are not believed.
        unwritten: why the last change could not be written.
        toggled_at: Unix time at which the smart projects were switched on.
    """

    places: Mapping[str, tuple[str, tuple[float, float]]] = field(default_factory=lambda: PLACES)
    rtts: Mapping[tuple[str, str], float] = field(default_factory=lambda: RTTS)
    dead: frozenset[str] = frozenset()
    anycast: frozenset[str] = frozenset()
    suspected: list[Suspicion] = field(default_factory=list)
    unwritten: str = ""
    toggled_at: float = NOW - 600
    now: float = NOW
    region: RegionId = DENVER
    reload_error: str = ""
    upgrade_error: str = ""
    is_advising: bool = False
    nats_reason: str = ""
    told_troubles: list[str] = field(default_factory=list)
    worker_rows: list[WorkerStatus] = field(default_factory=list)
    followers: list[EnvoyStatus] | None = None
    replication: list[EndpointStatus] = field(default_factory=list)
    changes: list[tuple[str, PolicyChange]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started_at = self.now - 8_040
        self.metrics = Metrics()
        self.metrics.build.labels("0.1.0").set(1)
        self.topology = Topology({i: _region(i, *place) for i, place in self._places()})
        self.catalog = Catalog(
            {name: _project(name, policy, self.topology) for name, policy in POLICIES.items()},
            {name: _backend(name) for name in HOMES},
            version=3,
        )
        self._first = self.catalog
        self.releases = FakeReleases(self.catalog, self.topology, self.region, self._released)
        first = _first_events(self.toggled_at)
        self._events = [replace(event, id=10 + len(first) - n) for n, event in enumerate(first)]
        self._news = asyncio.Event()
        self.purges: list[Purge] = []
        self.flips: list[FlipReport] = []
        self._draining: frozenset[RegionId] = frozenset()

    def _released(self, catalog: Catalog) -> None:
        old = self.catalog.projects
        projects = {
            name: replace(project, policy=old[name].policy) if name in old else project
            for name, project in catalog.projects.items()
        }
        self.catalog = replace(catalog, projects=projects, version=self.catalog.version + 1)

    @property
    def snapshot(self) -> PlacementSnapshot:
        """The placements of the node's own edge."""
        own = {d.key: d.placement for d in self.decisions(None) if d.edge == self.region}
        return PlacementSnapshot(self.region, 17 + len(self.changes), own)

    def wall(self) -> float:
        """Return the fake world's Unix time, s."""
        return self.now

    def rtt(self, source: str, target: str) -> float:
        """Return the RTT between two regions, s."""
        return 0.0 if source == target else self.rtts[min(source, target), max(source, target)]

    def backend_rtt(self, region: str, backend: str) -> float:
        """Return the RTT from a region to a backend, s."""
        return self.rtt(region, HOMES[backend]) or LOCAL_RTT

    @property
    def draining(self) -> frozenset[RegionId]:
        """Return what `set_draining` left."""
        return self._draining

    async def set_draining(self, is_draining: bool) -> None:
        """Remember the drain of the own region."""
        self._draining = frozenset([self.region] if is_draining else [])

    async def purge(self, order: Purge) -> int:
        """Remember the order."""
        self.purges.append(order)
        return 3

    def take_flips(self, report: FlipReport) -> None:
        """Remember a relay's report."""
        self.flips.append(report)

    def nats_problem(self) -> str:
        """Return the problem that a test has made."""
        return self.nats_reason

    def certificates(self) -> list[CertificateStatus]:
        """Return one certificate from a file, and one that is still to come."""
        return [
            CertificateStatus(
                ("shop.test", "www.shop.test"),
                CertificateState.VALID,
                is_automatic=False,
                issuer="Test CA",
                expires_at=1_760_000_000.0,
            ),
            CertificateStatus(("blog.test",), CertificateState.ORDERED, is_automatic=True),
        ]

    def webhooks(self) -> list[WebhookStatus]:
        """Return one receiver that works and one that does not."""
        told = Delivery("den-1", "place.moved", NOW - 60, 1, 204, "", 0.012)
        failed = Delivery("den-2", "app.reloaded", NOW - 30, 3, 503, "answered 503", 0.2)
        return [
            WebhookStatus(
                "ops", "https://hooks.example", ("place.*",), WebhookState.OK, 0, last=told
            ),
            WebhookStatus(
                *("chat", "https://chat.example", ("*",), WebhookState.FAILING, 2),
                failing_since=NOW - 90,
                next_at=NOW + 120,
                last=failed,
            ),
        ]

    def webhook_deliveries(self, name: str) -> list[Delivery]:
        """Return the last attempt at a receiver."""
        found = [status.last for status in self.webhooks() if status.name == name]
        if not found:
            raise ApiError(f"no webhook {name!r} is configured", kind=Kind.NOT_FOUND)
        return [each for each in found if each is not None]

    async def test_webhook(self, name: str) -> Delivery:
        """Return what the last attempt became."""
        return self.webhook_deliveries(name)[0]

    def replicas(self) -> list[EndpointStatus]:
        """Return the endpoints of the orders database, as `replication` says; none by default."""
        return self.replication

    def relays(self) -> list[RelayStatus]:
        """Return the relays of the orders database."""
        key, trips = next((d.key, d.trips) for d in self.decisions("shop"))
        found = TripEvidence("orders-db", trips.round_trips["orders-db"], 0.1, 1284, "relay")
        return [
            RelayStatus(
                backend="orders-db",
                project="",
                relays=2,
                age=0.4,
                delay=0.001,
                trips=14_124,
                setup_trips=48,
                connections=12,
                opaque=0,
                windows=840,
                requests=1284.0,
                trips_per_request=11.0,
                background=0.0,
                routes=((key, found),),
            )
        ]

    def rtt_rows(self) -> Mapping[RegionId, Mapping[Target, RttEstimate]]:
        """Return estimates for every pair."""
        return {
            source: {e.target: e for e in self._estimates(source)}
            for source in self.topology.regions
        }

    def peers(self) -> list[PeerStatus]:
        """Return the other regions' nodes."""
        return [
            PeerStatus(i, i not in self.dead, 95.0 if i in self.dead else 0.6)
            for i in self.topology.regions
            if i != self.region
        ]

    def suspicions(self) -> list[Suspicion]:
        """See `NodeView`."""
        return self.suspected

    def store_problem(self) -> str:
        """See `NodeView`."""
        return self.unwritten

    def decisions(self, project: str | None) -> list[Decision]:
        """Return one record for each route and edge."""
        return [
            self._decide(route, edge)
            for route in ROUTES
            if project in (None, route.project)
            for edge in self.topology.regions
        ]

    def what_if(self, project: str) -> list[WhatIf]:
        """Return what the toggle would do, told from the decisions' own candidates."""
        return [_what_if(decision) for decision in self.decisions(project)]

    async def advise_replicas(self, project: str | None) -> list[BackendAdvice]:
        """Return advice for the orders database, and what the others lack."""
        fra, den, bom = (RegionId(name) for name in ("fra", "den", "bom"))
        plans = (ReplicaPlan((den,), 0.1, 0.05, 0.229), ReplicaPlan((den, fra), 0.08, 0.07, 0.229))
        advice = Advice(0.15, 0.13, 0.1, plans, PrimaryPlan(fra, 0.12, 0.03))
        return [
            BackendAdvice("orders-db", "orders-db", bom, (("orders-db/fra", fra),), 1284, advice),
            BackendAdvice("cache", "cache", None, (), 0, None, "needs an RTT to it"),
        ]

    def take_requests(self, told: Sequence[ServedRequest]) -> Taken:
        """Take every request but those to an unknown host."""
        if not self.is_advising:
            raise ApiError("this node takes requests itself", kind=Kind.CONFLICT)
        taken = sum(each.host != "unknown.test" for each in told)
        return Taken(taken, len(told) - taken)

    def latencies(self, project: str | None) -> list[LatencySummary]:
        """Return latencies before and after, for each decision."""
        return [row for d in self.decisions(project) for row in self._latencies_of(d)]

    def history(self, project: str) -> dict[tuple[RouteKey, RegionId], list[LatencyPoint]]:
        """Return half an hour in slices of 30 s; the toggle falls into it."""
        return {
            (d.key, d.edge): self._history_of(d)
            for d in self.decisions(project)
            if d.trips.requests > 10
        }

    def events(self, limit: int) -> list[Event]:
        """Return the latest events."""
        return self._events[:limit]

    async def change_policy(self, project: str, change: PolicyChange) -> Policy:
        """Apply a change at once; control_ratio 0.5 stands for a full disk."""
        if change.control_ratio == 0.5:
            raise ApiError("state file cannot be written: disk is full", kind=Kind.UNAVAILABLE)
        old = self.catalog.projects[project]
        policy = _changed(old.policy, change)
        projects = {**self.catalog.projects, project: replace(old, policy=policy)}
        self.catalog = replace(self.catalog, projects=projects, version=self.catalog.version + 1)
        self.changes.append((project, change))
        detail = f"placement {policy.mode.value}"
        self.happen("app.policy_changed", project, detail)
        return policy

    async def replace_policy(self, project: str, change: PolicyChange) -> Policy:
        """Go back to the first policy, and change that."""
        self.catalog = replace(
            self.catalog,
            projects={**self.catalog.projects, project: self._first.projects[project]},
        )
        return await self.change_policy(project, change)

    def preview_policy(self, project: str, change: PolicyChange, *, is_whole: bool) -> Policy:
        """Return what the change would lead to."""
        catalog = self._first if is_whole else self.catalog
        return _changed(catalog.projects[project].policy, change)

    async def check(self) -> str:
        """Pretend to read the configuration."""
        if self.reload_error:
            raise ConfigError(self.reload_error)
        return "3 projects would be applied"

    def happen(self, name: str, subject: str, detail: str) -> None:
        """Let something happen."""
        newest = self._events[0].id if self._events else 0
        self._events.insert(0, Event(self.now, name, subject, detail, newest + 1))
        self._news.set()
        self._news = asyncio.Event()

    def events_after(self, id: int) -> tuple[bool, list[Event]]:
        """Return later events; those before the first one told are gone."""
        found = [event for event in reversed(self._events) if event.id > id]
        return 0 < id < self._events[-1].id, found

    async def next_event(self) -> None:
        """Wait for `happen`."""
        await self._news.wait()

    def troubles(self) -> list[str]:
        """Return what was set."""
        return self.told_troubles

    def envoys(self) -> list[EnvoyStatus] | None:
        """Return the Envoys that were set."""
        return self.followers

    def workers(self) -> list[WorkerStatus]:
        """Return the workers that were set."""
        return self.worker_rows

    async def upgrade(self) -> tuple[int, str]:
        """Return a successor, or fail as told."""
        if self.upgrade_error:
            raise ApiError(self.upgrade_error, kind=Kind.CONFLICT)
        return 4242, "9.9.9"

    async def reload(self) -> str:
        """Pretend to read the configuration."""
        if self.reload_error:
            raise ConfigError(self.reload_error)
        return "configuration read: 3 projects, 3 regions; nothing changed"

    def _places(self) -> Iterator[tuple[RegionId, tuple[str, tuple[float, float]]]]:
        return ((RegionId(name), place) for name, place in self.places.items())

    def _estimates(self, source: RegionId) -> Iterator[RttEstimate]:
        for other in self.topology.regions:
            if other != source:
                is_down = other in self.dead
                yield _estimate(TargetKind.PEER, other, self.rtt(source, other), is_down)
        for backend in HOMES:
            yield _estimate(TargetKind.BACKEND, backend, self.backend_rtt(source, backend), False)

    def _decide(self, route: Route, edge: RegionId) -> Decision:
        policy = self.catalog.projects[route.project].policy
        key = RouteKey(EnvironmentId(route.project, "production"), route.path, route.method)
        candidates = sorted(
            (self._candidate(route, edge, region) for region in self.topology.regions),
            key=lambda c: c.score,
        )
        placement = self._place(route, edge, policy, candidates)
        chosen = placement.regions[0]
        saving = self._saving(route, candidates, chosen, edge)
        is_measured = placement.status is Status.PLACED
        return Decision(
            key,
            edge,
            placement,
            _trips(route),
            tuple(replace(c, verdict=_verdict(c, chosen, edge)) for c in candidates),
            saving if is_measured else None,
            decided_at=self.now - 2,
            moved_at=self.toggled_at + 21 if is_measured else 0.0,
        )

    def _candidate(self, route: Route, edge: RegionId, region: RegionId) -> Candidate:
        terms = tuple(
            (name, count, rtt := self.backend_rtt(region, name), count * rtt)
            for name, count in route.trips.items()
        )
        edge_rtt = self.rtt(edge, region)
        score = edge_rtt + route.compute + sum(term[3] for term in terms)
        return Candidate(region, edge_rtt, route.compute, terms, score, "")

    def _place(
        self, route: Route, edge: RegionId, policy: Policy, candidates: list[Candidate]
    ) -> Placement:
        order = tuple(c.region for c in candidates)
        if policy.mode is Mode.OFF:
            return Placement(Status.OFF, (edge,), edge, reason="smart placement is off")
        if policy.hint is not None:
            return Placement(Status.PINNED, (policy.hint,), edge, reason="pinned by the hint")
        if route.requests < 20:
            missing = f"needs {20 - route.requests} more requests from {edge}"
            reason = "round trips not known yet"
            return Placement(Status.ANALYZING, (edge,), edge, reason=reason, missing=missing)
        here = next(c.score for c in candidates if c.region == edge)
        if here - candidates[0].score < policy.least_gain:
            reason = "the edge is the best region" if route.trips else "touches no backend"
            return Placement(Status.AT_EDGE, (edge,), edge, reason=reason)
        return Placement(
            Status.PLACED,
            order,
            edge,
            policy.control_ratio,
            reason="predicted saving exceeds the least gain and its interval",
        )

    def _saving(
        self, route: Route, candidates: list[Candidate], chosen: RegionId, edge: RegionId
    ) -> Saving:
        scores = {c.region: c.score for c in candidates}
        mean = scores[edge] - scores[chosen]
        control = max(4, route.requests // 100)
        spread = (0.02 * mean + 0.004) * math.sqrt(12 / control)
        return Saving(mean, mean - spread, mean + spread, 0.95, route.requests - control, control)

    def _latencies_of(self, decision: Decision) -> Iterator[LatencySummary]:
        scores = {c.region: c.score for c in decision.candidates}
        requests, here = decision.trips.requests, scores[decision.edge]
        if decision.placement.status is not Status.PLACED:
            arm = Arm.HINT if decision.placement.status is Status.PINNED else Arm.DEFAULT
            yield _summary(decision, arm, requests, scores[decision.placement.regions[0]])
            return
        control = max(4, requests // 100)
        yield _summary(decision, Arm.DEFAULT, requests // 3, here * 1.01)
        yield _summary(decision, Arm.CONTROL, control, here)
        yield _summary(
            decision, Arm.PLACED, requests - control, scores[decision.placement.regions[0]]
        )

    def _history_of(self, decision: Decision) -> list[LatencyPoint]:
        rng = Random(str((decision.key, decision.edge)))
        scores = {c.region: c.score for c in decision.candidates}
        here, there = scores[decision.edge], scores[decision.placement.regions[0]]
        is_moved = decision.placement.status is Status.PLACED
        points = []
        for slot in range(60):
            at = self.now - 30 * (60 - slot)
            is_after = is_moved and at >= self.toggled_at
            placed = there * rng.uniform(0.98, 1.06) if is_after else math.nan
            is_seen = not is_after or slot % 9 == 0
            default = here * rng.uniform(0.98, 1.05) if is_seen else math.nan
            points.append(LatencyPoint(at, placed, default, rng.randint(8, 30)))
        return points


def _region(name: str, title: str, position: tuple[float, float]) -> Region:
    address = Endpoint("127.0.0.1", 8080)
    return Region(RegionId(name), title, position, address, address)


def _backend(name: str) -> Backend:
    kinds = {"orders-db": BackendKind.POSTGRES, "blog-db": BackendKind.MYSQL}
    return Backend(name, kinds.get(name, BackendKind.REDIS), Endpoint("127.0.0.1", 5432))


def _project(name: str, policy: Policy, topology: Topology) -> Project:
    used = sorted({backend for r in ROUTES if r.project == name for backend in r.trips})
    instances = tuple(Instance(r, Endpoint("127.0.0.1", 9000)) for r in topology.regions)
    environment = Environment(
        EnvironmentId(name, "production"),
        (f"{name}.example",),
        instances,
        {b.partition("-")[0]: b for b in used},
        deployment="d3f9a1c",
    )
    return Project(name, policy, {"production": environment})


def _estimate(kind: TargetKind, name: str, rtt: float, is_down: bool) -> RttEstimate:
    state = EstimateState.FAILING if is_down else EstimateState.FRESH
    failures = 5 if is_down else 0
    return RttEstimate(Target(kind, name), rtt, rtt * 1.02, rtt * 0.01, 412, failures, 900.0, state)


def _trips(route: Route) -> TripEstimate:
    is_known = route.requests >= 20
    width = 0.3 if is_known else 3.0
    return TripEstimate(
        compute=route.compute,
        round_trips=dict(route.trips),
        low={name: max(0.0, n - width) for name, n in route.trips.items()},
        high={name: n + width for name, n in route.trips.items()},
        requests=route.requests,
        regions=3 if is_known else 1,
        source="traffic" if is_known else "none",
    )


def _verdict(candidate: Candidate, chosen: RegionId, edge: RegionId) -> str:
    if candidate.region == chosen:
        return "chosen"
    return "default" if candidate.region == edge else "slower"


def _summary(decision: Decision, arm: Arm, requests: int, p50: float) -> LatencySummary:
    p95, p99 = p50 * 1.2 + 0.002, p50 * 1.3 + 0.004
    return LatencySummary(
        decision.key,
        decision.edge,
        arm,
        requests,
        p50 * 1.01,
        p50,
        p99,
        p95,
        _distribution(p50, requests),
    )


def _distribution(p50: float, requests: int) -> Distribution:
    """Return requests of which most are near their median, and a few slower."""
    slow = requests // 5
    middle = bisect_left(BOUNDS, p50)
    counts = {middle: requests - 2 * slow, middle + 1: slow, middle + 3: slow}
    return Distribution(requests, p50 * 1.01, tuple((at, n) for at, n in counts.items() if n))


def _changed(policy: Policy, change: PolicyChange) -> Policy:
    hint = policy.hint if change.hint is None else RegionId(change.hint) if change.hint else None
    return replace(
        policy,
        mode=change.mode or policy.mode,
        hint=hint,
        control_ratio=policy.control_ratio
        if change.control_ratio is None
        else change.control_ratio,
        explore_ratio=policy.explore_ratio
        if change.explore_ratio is None
        else change.explore_ratio,
        share=policy.share if change.share is None else change.share,
    )


def _first_events(toggled_at: float) -> list[Event]:
    moved = "den -> bom: saves 2284 ms (91 %)"
    drift = "in bom: 9 -> 31 ms, relearning its round trips"
    return [
        Event(
            toggled_at + 330, "estimate.code_changed", "shop/production read /orders/{id}", drift
        ),
        Event(toggled_at + 64, "place.confirmed", "shop/production read /orders/{id}", moved),
        Event(toggled_at + 21, "place.moved", "shop/production read /orders/{id}", moved),
        Event(toggled_at + 20, "place.moved", "shop/production write /orders", "fra -> bom"),
        Event(toggled_at, "app.policy_changed", "shop", "placement smart (was off)"),
        Event(toggled_at - 4000, "probe.recovered", "blog-db", "after 3 failures, from bom"),
        Event(toggled_at - 4012, "probe.failed", "blog-db", "timeout after 1 s, from bom"),
        Event(toggled_at - 7440, "app.started", "den", "version 0.1.0"),
    ]


def _what_if(decision: Decision) -> WhatIf:
    best = min(decision.candidates, key=lambda c: c.score)
    default = next(c for c in decision.candidates if c.region == decision.placement.default)
    status, reason, missing = Status.AT_EDGE, "no region can save more than 10 ms", ""
    if decision.trips.source == "none":
        status, reason = Status.ANALYZING, "learning the round trips of the route"
        missing = f"needs {20 - decision.trips.requests} more requests from {decision.edge}"
    elif default.score - best.score > 0.010:
        status, reason = Status.PLACED, "saves enough"
    there = best if status is Status.PLACED else default
    saving = default.score - there.score
    half = 0.01 * saving
    return WhatIf(
        key=decision.key,
        edge=decision.edge,
        requests=decision.trips.requests,
        default=default.score,
        placement=Placement(
            status, (there.region,), default.region, 0.0, None, 0.0, reason, missing
        ),
        predicted=there.score,
        saving=saving,
        low=saving - half,
        high=saving + half,
    )
