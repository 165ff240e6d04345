"""The proxy of one node: accepts clients, keeps deadlines, swaps its tables live, drains."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Protocol

from onetrip.model.catalog import Catalog
from onetrip.model.edge import Purge
from onetrip.model.measure import Observation
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.topology import RegionId, Topology
from onetrip.net.accept import OnRefused
from onetrip.net.dial import Dial
from onetrip.net.listening import bind
from onetrip.net.tls import CertificateSet, PeerContexts
from onetrip.observe.logs import AccessSink, Log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.balance import Balancer
from onetrip.proxy.challenges import Challenges
from onetrip.proxy.channel import Outbox
from onetrip.proxy.downstream import Downstream
from onetrip.proxy.entry import http2_pools
from onetrip.proxy.gates import Gates
from onetrip.proxy.headcount import Headcount
from onetrip.proxy.hop import HopSigner
from onetrip.proxy.ledger import Ledger
from onetrip.proxy.outliers import OnVerdict, Outliers
from onetrip.proxy.pick import IsReady
from onetrip.proxy.pool import Pool
from onetrip.proxy.retry import RetryBudget
from onetrip.proxy.router import Routing
from onetrip.proxy.services import Services
from onetrip.proxy.settings import ProxySettings
from onetrip.proxy.tracing import Tracer
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.proxy.consistency import MakeGuide


class Connection(Protocol):
    """A client's connection, whatever it speaks."""

    @property
    def deadline(self) -> float:
        """Monotonic instant at which to call `expire`."""

    def expire(self) -> None:
        """End what has waited until `deadline`."""

    def start_draining(self) -> None:
        """End as soon as nothing is in progress."""

    def abort(self) -> None:
        """End now."""


class ProxyServer:
    """An HTTP/1.1 reverse proxy that runs each request in the region the snapshot says.

    Nothing is routed until `update` has been given a catalog.

    Args:
        region: this node's own region.
        dial: opens upstream connections.
        secret: shared by the nodes of a cluster; None reaches other regions directly.
        on_observation: called once per finished exchange.
        is_ready: whether a target can serve; must be quick, it is asked on every request.
        on_peer_refused: told of (address, reason, detail) when somebody is not taken for a peer.
        on_verdict: told about instances that are ejected or return.
        yields: where several processes accept from the same sockets, whether another one should
            take the next connection; it is told how many there are here.
    """

    def __init__(
        self,
        settings: ProxySettings,
        region: RegionId,
        dial: Dial,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        access_log: AccessSink | None,
        *,
        secret: bytes | None,
        on_observation: Callable[[Observation], None],
        is_ready: IsReady,
        on_peer_refused: OnRefused = lambda *_: None,
        on_verdict: OnVerdict = lambda _: None,
        yields: Callable[[int], bool] | None = None,
    ) -> None:
        self._clock = clock
        self._log = log
        self._metrics = metrics
        outbox = Outbox()
        make_http2 = http2_pools(settings, dial, clock, outbox, metrics, log)
        self._pool = Pool(settings, dial, clock, outbox, make_http2)
        self._tasks = Tasks(self._task_failed)
        self._connections: set[Connection] = set()
        self._headcount = Headcount(settings.max_connections, clock, metrics, log)
        self.certificates: CertificateSet | None = None
        self.peer_contexts: PeerContexts | None = None
        self.challenges = Challenges()
        self.catalog = Catalog()
        self.topology = Topology()
        # Set before `update` where projects promise consistency.
        self.guide: MakeGuide | None = None
        outliers = Outliers(settings.ejection, is_ready, clock, metrics, on_verdict)
        self._services = Services(
            settings=settings,
            region=region,
            clock=clock,
            rng=rng,
            log=log,
            ledger=Ledger(metrics, access_log, on_observation, clock),
            hops=HopSigner(secret, clock),
            balancer=Balancer(region, self._pool, outliers, clock, rng, settings),
            outliers=outliers,
            outbox=outbox,
            budget=RetryBudget(settings.retry_ratio, settings.retry_reserve, clock),
            routing=Routing.build(self.catalog),
            snapshot=PlacementSnapshot(region),
            swept_at=clock.now(),
            on_peer_refused=on_peer_refused,
            challenges=self.challenges,
        )
        self._gates = Gates(self._services, self, metrics, log, self._tasks.spawn, yields=yields)

    @property
    def routing(self) -> Routing:
        """The table of hosts and paths in use."""
        return self._services.routing

    @property
    def snapshot(self) -> PlacementSnapshot:
        """The placements in use; assign a new one at any time."""
        return self._services.snapshot

    @snapshot.setter
    def snapshot(self, snapshot: PlacementSnapshot) -> None:
        self._services.snapshot = snapshot

    def purge(self, order: Purge) -> int:
        """Forget kept responses; return how many there were."""
        return self._services.purge(order)

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._connections)

    def update(self, catalog: Catalog, topology: Topology) -> None:
        """Use another catalog and topology from the next request on; nothing is dropped.

        Raises:
            ConfigError: the catalog cannot be routed; the old one stays in use.
        """
        if topology is self.topology and catalog.serves_like(self.catalog):
            self.catalog = catalog  # what placement is told to do stands in the placements
            return
        routing = Routing.build(catalog)
        routing.adopt(self._services.routing)
        self._services.balancer.update(catalog, topology, self._services.hops.can_hop)
        self._services.routing = routing
        self._services.update_sweep(catalog)
        self._services.update_hedges(catalog, self._metrics)
        self._services.update_consistency(catalog, self.guide, self._metrics)
        self._services.update_edge(catalog, self._metrics)
        if self._services.residency is not None:
            self._services.residency.update(catalog)
        self.catalog, self.topology = catalog, topology

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (useful with port 0).

        Raises:
            OSError: the address cannot be bound.
        """
        return await self.serve(await bind(host, port))

    async def serve(self, sockets: Sequence[socket.socket]) -> int:
        """Serve clients in clear who connect to `sockets`, and return their port."""
        self._tasks.spawn(self._sweep_forever(), "proxy.sweep")
        return await self._gates.open_plain(sockets)

    async def start_tls(self, host: str, port: int, certificates: CertificateSet) -> int:
        """Listen for clients over TLS, and return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        return self.serve_tls(await bind(host, port), certificates)

    def serve_tls(self, sockets: Sequence[socket.socket], certificates: CertificateSet) -> int:
        """Serve clients over TLS who connect to `sockets`, and return their port.

        Later handshakes use whatever `certificates` is then set to.
        """
        self.certificates = certificates

        def context() -> ssl.SSLContext:
            assert self.certificates is not None
            return self.certificates.context

        return self._gates.open("tls", sockets, context)

    async def start_forward(self, host: str, port: int, contexts: PeerContexts) -> int:
        """Listen for the requests that peers forward, over TLS, and return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        return self.serve_forward(await bind(host, port), contexts)

    def serve_forward(self, sockets: Sequence[socket.socket], contexts: PeerContexts) -> int:
        """Serve what peers forward to `sockets` over TLS, and return their port.

        From then on a hop mark counts on this listener only, and only from the region that the
        connection's certificate names. Later handshakes use what `peer_contexts` is then set to.
        """
        self.peer_contexts = contexts

        def context() -> ssl.SSLContext:
            assert self.peer_contexts is not None
            return self.peer_contexts.server

        self._services.has_node_listener = True
        return self._gates.open("forward", sockets, context, is_for_nodes=True)

    def redirect_to(self, https_port: int | None) -> None:
        """Send requests that came in clear to this port from now on; None serves them."""
        self._services.https_port = https_port

    async def drain(self, timeout: float, *, is_patient: bool = False) -> None:
        """Stop accepting, answer what is in progress, and wait at most `timeout` s for it.

        Args:
            is_patient: handshakes go on, and connections between two requests are served one
                more, their last, rather than closed; for when something else accepts already.
        """
        self._stop_accepting(is_patient)
        for connection in list(self._connections):
            connection.start_draining()
        deadline = self._clock.now() + timeout
        while (self._connections or self._gates.pending) and self._clock.now() < deadline:
            await self._clock.sleep(min(0.02, timeout))

    async def stop(self) -> None:
        """Close everything now."""
        self._stop_accepting(is_patient=False)
        await self._tasks.cancel(timeout=5.0)
        self._services.ledger.publish(0, 0)
        for connection in list(self._connections):
            connection.abort()
        self._pool.close()
        if self._services.edge is not None:
            await self._services.edge.close()
        # Transports report their end in the next rounds of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    def trace_with(self, tracer: Tracer) -> None:
        """Let sampled requests make spans from now on."""
        self._services.tracer = self._services.ledger.tracer = tracer

    def log_residency(self, sink: AccessSink) -> None:
        """Write where requests with residency rules go, from now on."""
        from onetrip.proxy.residency import ResidencyLog  # most nodes do without

        services = self._services
        services.residency = ResidencyLog(sink, services.region, services.clock, self._metrics)
        services.residency.update(self.catalog)

    def _stop_accepting(self, is_patient: bool) -> None:
        self._services.is_draining = True
        self._services.drops_idle = not is_patient
        self._gates.close(is_patient=is_patient)

    def opened(self, connection: Downstream) -> None:
        """See `Household`."""
        if self.admit(connection):
            self._tasks.spawn(connection.serve(), "proxy.connection")
            return
        connection.write(self._headcount.reply())
        connection.close()

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when there are too many."""
        if not self._headcount.admits(len(self._connections)):
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """See `Household`."""
        self._connections.discard(connection)

    async def _sweep_forever(self) -> None:
        while True:
            await self._clock.sleep(self._services.sweep_interval)
            now = self._clock.now()
            for connection in list(self._connections):
                if connection.deadline <= now:
                    connection.expire()
            self._services.tick(now)
            self._pool.sweep(now)
            self._services.ledger.publish(len(self._connections), self._pool.opened())

    def _task_failed(self, name: str, error: BaseException) -> None:
        kind = type(error).__name__
        self._log.error("proxy.task_failed", cause=error, task=name, error=kind)
