"""What every exchange of one node shares; built once by the listener."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from onetrip.model.placement import PlacementSnapshot
from onetrip.model.topology import RegionId
from onetrip.net.accept import OnRefused
from onetrip.observe.logs import Log
from onetrip.proxy.balance import Balancer
from onetrip.proxy.challenges import Challenges
from onetrip.proxy.channel import Outbox
from onetrip.proxy.dispatch import Dispatch
from onetrip.proxy.hop import HopSigner
from onetrip.proxy.ledger import Ledger
from onetrip.proxy.outliers import Outliers
from onetrip.proxy.retry import RetryBudget
from onetrip.proxy.router import Routing
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.model.catalog import Catalog
    from onetrip.model.edge import Purge
    from onetrip.observe.metrics import Metrics
    from onetrip.proxy.consistency import ConsistencyBook, MakeGuide
    from onetrip.proxy.edge import Edge
    from onetrip.proxy.hedge import HedgeBook
    from onetrip.proxy.residency import ResidencyLog
    from onetrip.proxy.tracing import Tracer


@dataclass(slots=True)
class Services:
    """Shared by all connections of one `ProxyServer`.

    Attributes:
        routing: swapped live; an exchange takes it once.
        snapshot: swapped live; an exchange takes it once per attempt.
        sweep_interval: how often deadlines are looked at, s.
        swept_at: monotonic time of the last sweep; exact enough for an idle deadline.
        is_draining: a response is its connection's last one.
        drops_idle: a connection without a request is closed; only while draining.
        has_node_listener: peers have a listener of their own; a hop mark counts nowhere else.
        on_peer_refused: told of (address, reason, detail) when a request is not taken for a peer's.
        challenges: what the node itself answers before any route.
        edge: answers without an instance; None while no environment wants that.
        consistency: what clients may not read behind; None while no project promises that.
        hedges: which requests are sent a second time; None while no project wants that.
        make_dispatch: brings a request to a next hop.
        tracer: makes spans; None while nothing is traced.
        residency: writes where requests with residency rules go; None where nobody wants it.
        https_port: requests in clear are sent to this port instead; None serves them.
    """

    settings: ProxySettings
    region: RegionId
    clock: Clock
    rng: Random
    log: Log
    ledger: Ledger
    hops: HopSigner
    balancer: Balancer
    outliers: Outliers
    outbox: Outbox
    budget: RetryBudget
    routing: Routing
    snapshot: PlacementSnapshot
    swept_at: float
    on_peer_refused: OnRefused
    challenges: Challenges
    edge: Edge | None = None
    hedges: HedgeBook | None = None
    consistency: ConsistencyBook | None = None
    make_dispatch: type[Dispatch] = Dispatch
    tracer: Tracer | None = None
    residency: ResidencyLog | None = None
    is_draining: bool = False
    sweep_interval: float = 0.5
    drops_idle: bool = False
    https_port: int | None = None
    has_node_listener: bool = False

    def update_hedges(self, catalog: Catalog, metrics: Metrics) -> None:
        """Send slow requests a second time where projects of `catalog` want that."""
        if self.hedges is None and any(p.hedge for p in catalog.projects.values()):
            from onetrip.proxy.hedge import HedgeBook  # most nodes do without
            from onetrip.proxy.hedged import HedgedDispatch

            self.hedges = HedgeBook(self.clock, metrics)
            if self.consistency is None:
                self.make_dispatch = HedgedDispatch
        if self.hedges is not None:
            self.hedges.update(catalog)

    def update_consistency(
        self, catalog: Catalog, guide: MakeGuide | None, metrics: Metrics
    ) -> None:
        """Keep what the projects of `catalog` promise about reads."""
        if self.consistency is None and guide is not None:
            if any(e.consistency is not None for e in catalog.environments()):
                from onetrip.proxy.consistency import ConsistencyBook  # most nodes do without
                from onetrip.proxy.consistent import ConsistentDispatch
                from onetrip.proxy.hedge import HedgeBook

                self.consistency = ConsistencyBook(guide(), self.clock, metrics)
                self.hedges = self.hedges or HedgeBook(self.clock, metrics)
                self.make_dispatch = ConsistentDispatch
        if self.consistency is not None:
            self.consistency.update(catalog)

    def update_sweep(self, catalog: Catalog) -> None:
        """Look at deadlines often enough for the shortest one of `catalog`, too."""
        limits = [e.request_timeout for e in catalog.sites() if e.request_timeout]
        own = self.settings.sweep_interval
        self.sweep_interval = max(0.01, min([own, *(limit / 10 for limit in limits)]))

    def tick(self, now: float) -> None:
        """Let time pass; called at each sweep."""
        self.swept_at = now
        self.outliers.tick()
        self.budget.age()
        if self.residency is not None:
            self.residency.publish()

    def update_edge(self, catalog: Catalog, metrics: Metrics) -> None:
        """Answer at the edge what environments of `catalog` want answered there."""
        if self.edge is None and any(e.asks_edge for e in catalog.sites()):
            from onetrip.proxy.edge import Edge  # most nodes do without

            self.edge = Edge(self, metrics)
        if self.edge is not None:
            self.edge.update(catalog)

    def purge(self, order: Purge) -> int:
        """Forget kept responses; return how many there were."""
        cache = self.edge.cache if self.edge is not None else None
        return 0 if cache is None else cache.purge(order)
