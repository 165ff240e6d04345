"""The running node as the admin API sees it: reads of live state, and the two changes it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from onetrip.app.releases import Releases
from onetrip.app.replication import Replicas
from onetrip.app.ring import EventRing
from onetrip.app.scoring import Scorer
from onetrip.app.succession import Successor
from onetrip.app.webhooks import Webhooks
from onetrip.cluster.state import ClusterState
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.access import ServedRequest, Taken
from onetrip.model.advice import BackendAdvice
from onetrip.model.catalog import Catalog, Policy
from onetrip.model.edge import Purge
from onetrip.model.measure import RouteKey, RttEstimate, Target
from onetrip.model.placement import Decision, PlacementSnapshot, WhatIf
from onetrip.model.relay import FlipReport, RelayStatus
from onetrip.model.status import (
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
from onetrip.model.topology import RegionId, Topology
from onetrip.model.webhook import Delivery, WebhookStatus
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.cluster.bus import BusLink

MAX_ROUTES = 500
"""Routes told when no project is named, the busiest ones."""


class LiveView:
    """Implements `control.view.NodeView` over the node's parts."""

    def __init__(
        self,
        region: RegionId,
        *,
        scorer: Scorer,
        traffic: TrafficBook,
        cluster: ClusterState,
        metrics: Metrics,
        events: EventRing,
        clock: Clock,
        change: Callable[[str, PolicyChange, bool], Awaitable[Policy]],
        preview: Callable[[str, PolicyChange, bool], Policy],
        check: Callable[[], Awaitable[str]],
        reload: Callable[[], Awaitable[str]],
        drain: Callable[[bool], Awaitable[None]],
        certificates: Callable[[], list[CertificateStatus]],
        upgrade: Callable[[], Awaitable[Successor]],
        purge: Callable[[Purge], Awaitable[int]],
        take: Callable[[Sequence[ServedRequest]], Taken],
        workers: Callable[[], list[WorkerStatus]],
        webhooks: Webhooks,
        envoys: Callable[[], list[EnvoyStatus] | None],
        troubles: Callable[[], list[str]],
        suspicions: Callable[[], list[Suspicion]],
        store_problem: Callable[[], str],
        releases: Releases,
        replicas: Replicas,
    ) -> None:
        self._region = region
        self._scorer = scorer
        self._traffic = traffic
        self._cluster = cluster
        self._metrics = metrics
        self._events = events
        self._clock = clock
        self._change = change
        self._preview = preview
        self._check = check
        self._reload = reload
        self._drain = drain
        self._certificates = certificates
        self._upgrade = upgrade
        self._purge = purge
        self._take = take
        self._workers = workers
        self._webhooks = webhooks
        self._envoys = envoys
        self._replicas = replicas
        self._troubles = troubles
        self._suspicions = suspicions
        self._store_problem = store_problem
        self.releases = releases
        """See `NodeView`."""
        self.nats: BusLink | None = None
        """What shares the cluster over NATS, where it is shared there."""
        self._started_at = clock.wall()

    @property
    def region(self) -> RegionId:
        """See `NodeView`."""
        return self._region

    @property
    def started_at(self) -> float:
        """See `NodeView`."""
        return self._started_at

    @property
    def topology(self) -> Topology:
        """See `NodeView`."""
        return self._scorer.topology

    @property
    def catalog(self) -> Catalog:
        """See `NodeView`."""
        return self._scorer.catalog

    @property
    def snapshot(self) -> PlacementSnapshot:
        """See `NodeView`."""
        return self._scorer.placer.snapshot

    @property
    def metrics(self) -> Metrics:
        """See `NodeView`."""
        return self._metrics

    @property
    def anycast(self) -> frozenset[str]:
        """See `NodeView`."""
        return self._scorer.anycast

    @property
    def is_advising(self) -> bool:
        """See `NodeView`."""
        return self._scorer.is_advising

    def rtt_rows(self) -> Mapping[RegionId, Mapping[Target, RttEstimate]]:
        """See `NodeView`."""
        return self._scorer.rows

    def peers(self) -> list[PeerStatus]:
        """See `NodeView`."""
        return self._cluster.peers(self._clock.now())

    def nats_problem(self) -> str:
        """See `NodeView`."""
        return self.nats.problem if self.nats is not None else ""

    def suspicions(self) -> list[Suspicion]:
        """See `NodeView`."""
        return self._suspicions()

    def store_problem(self) -> str:
        """See `NodeView`."""
        return self._store_problem()

    def decisions(self, project: str | None) -> list[Decision]:
        """See `NodeView`."""
        found = [*self._scorer.placer.decisions(self._own(project)), *self._cluster.decisions()]
        return [d for d in found if project is None or d.key.environment.project == project]

    def what_if(self, project: str) -> list[WhatIf]:
        """See `NodeView`."""
        found = [*self._scorer.placer.what_if(self._own(project)), *self._cluster.what_if()]
        return [row for row in found if row.key.environment.project == project]

    async def advise_replicas(self, project: str | None) -> list[BackendAdvice]:
        """See `NodeView`."""
        from onetrip.place.demands import advise_backends  # memory, for who never asks

        matrix, catalog = self._scorer.matrix, self._scorer.catalog
        if matrix is None:
            return []
        names = [project] if project is not None else list(catalog.projects)
        what_if = [row for name in names for row in self.what_if(name)]
        decisions = [row for name in names for row in self.decisions(name)]
        anycast, moved = self._scorer.anycast, self._scorer.reads.moved
        return await asyncio.to_thread(
            advise_backends, matrix, catalog, decisions, what_if, project, anycast, moved
        )

    def replicas(self) -> list[EndpointStatus]:
        """See `NodeView`."""
        return self._replicas.statuses()

    def latencies(self, project: str | None) -> list[LatencySummary]:
        """See `NodeView`."""
        own = self._traffic.latencies(self._clock.now(), self._own(project))
        found = [*own, *self._cluster.latencies()]
        return [row for row in found if project is None or row.key.environment.project == project]

    def _own(self, project: str | None) -> list[RouteKey]:
        # Asked about everything, the busiest routes answer; asked about a project, all of its.
        if project is None:
            return self._scorer.placer.busiest(MAX_ROUTES)
        # In advise mode there are routes that no request was seen of.
        known = self.snapshot.routes if self.is_advising else self._traffic.routes()
        return [k for k in known if k.environment.project == project]

    def history(self, project: str) -> dict[tuple[RouteKey, RegionId], list[LatencyPoint]]:
        """See `NodeView`; a node knows the history of its own edge."""
        offset = self._clock.wall() - self._clock.now()
        return {
            (key, self._region): self._traffic.history(key, offset)
            for key in self._traffic.routes()
            if key.environment.project == project
        }

    def events(self, limit: int) -> list[Event]:
        """See `NodeView`."""
        return self._events.newest(limit)

    def events_after(self, id: int) -> tuple[bool, list[Event]]:
        """See `NodeView`."""
        return self._events.after(id)

    async def next_event(self) -> None:
        """See `NodeView`."""
        await self._events.news.wait()

    def certificates(self) -> list[CertificateStatus]:
        """See `NodeView`."""
        return self._certificates()

    async def change_policy(self, project: str, change: PolicyChange) -> Policy:
        """See `NodeView`."""
        return await self._change(project, change, False)

    async def replace_policy(self, project: str, change: PolicyChange) -> Policy:
        """See `NodeView`."""
        return await self._change(project, change, True)

    def preview_policy(self, project: str, change: PolicyChange, *, is_whole: bool) -> Policy:
        """See `NodeView`."""
        return self._preview(project, change, is_whole)

    async def check(self) -> str:
        """See `NodeView`."""
        return await self._check()

    async def reload(self) -> str:
        """See `NodeView`."""
        return await self._reload()

    async def purge(self, order: Purge) -> int:
        """See `NodeView`."""
        return await self._purge(order)

    def workers(self) -> list[WorkerStatus]:
        """See `NodeView`."""
        return self._workers()

    def troubles(self) -> list[str]:
        """See `NodeView`."""
        return self._troubles()

    def envoys(self) -> list[EnvoyStatus] | None:
        """See `NodeView`."""
        return self._envoys()

    async def upgrade(self) -> tuple[int, str]:
        """See `NodeView`."""
        successor = await self._upgrade()
        return successor.pid, successor.version

    def take_flips(self, report: FlipReport) -> None:
        """See `NodeView`."""
        self._scorer.flips.report(report, self._clock.wall())
        self._metrics.relay_trips.labels(report.backend).inc(report.trips)
        self._metrics.relay_setup_trips.labels(report.backend).inc(report.setup_trips)
        self._metrics.relay_connections.labels(report.backend).inc(report.connections)

    def take_requests(self, told: Sequence[ServedRequest]) -> Taken:
        """See `NodeView`."""
        return self._take(told)

    def relays(self) -> list[RelayStatus]:
        """See `NodeView`."""
        return self._scorer.flips.statuses(self._clock.wall())

    def webhooks(self) -> list[WebhookStatus]:
        """See `NodeView`."""
        return self._webhooks.statuses()

    def webhook_deliveries(self, name: str) -> list[Delivery]:
        """See `NodeView`."""
        return self._webhooks.deliveries(name)

    async def test_webhook(self, name: str) -> Delivery:
        """See `NodeView`."""
        return await self._webhooks.test(name)

    @property
    def draining(self) -> frozenset[RegionId]:
        """See `NodeView`."""
        return self._cluster.draining() | self._scorer.draining

    async def set_draining(self, is_draining: bool) -> None:
        """See `NodeView`."""
        await self._drain(is_draining)
