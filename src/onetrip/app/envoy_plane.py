"""The data plane in Envoys that somebody else starts: the node tells them what to do, over xDS.

Nothing of a request passes this process. What it needs to learn comes from the Envoys' access log.
They go on with what they have while the node is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from onetrip.app.config import Settings
from onetrip.app.dataplane import Hooks, Ports
from onetrip.app.envoy import EnvoySettings
from onetrip.app.listeners import Listener, Listeners
from onetrip.model.catalog import Catalog
from onetrip.model.edge import Purge
from onetrip.model.measure import TargetKind
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.status import EnvoyStatus, WorkerStatus
from onetrip.model.topology import Topology
from onetrip.net.tls import Certificate, PeerContexts, ServerContext, node_name
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.challenges import CHALLENGE_PREFIX, PING_TARGET
from onetrip.proxy.ledger import Ledger
from onetrip.proxy.router import Routing
from onetrip.tasks import Tasks
from onetrip.timing import Clock
from onetrip.xds.entries import EntryReader
from onetrip.xds.resources import state_of
from onetrip.xds.sampling import WINDOW, Sampler
from onetrip.xds.server import ControlPlane, Identity
from onetrip.xds.terms import Address, Pair, Plan, Terms

INLINE_ROUTES = 200
"""Routes and environments up to which a plan is so small that a thread would cost more."""

PUBLISH_INTERVAL = 0.5
"""Time between two updates of the metrics from what was counted, s."""


class EnvoyPlane:
    """Implements `DataPlane` over Envoys."""

    def __init__(
        self,
        settings: Settings,
        hooks: Hooks,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
    ) -> None:
        assert settings.envoy is not None
        self.ports = Ports()
        self.control_port = 0
        self._envoy: EnvoySettings = settings.envoy
        self._settings = settings
        self._hooks = hooks
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._tasks = Tasks(self._task_failed)
        self._control = ControlPlane(
            clock, metrics, log, on_entries=self._take_entries, tell=hooks.tell
        )
        self._reader = EntryReader(settings.region, clock)
        self._ledger = Ledger(metrics, None, hooks.on_observation, clock)
        self._sampler = Sampler(clock.now())
        metrics.xds.log_ratio.set(self._sampler.ratio)
        self._routing = Routing.build(Catalog())
        self._catalog = Catalog()
        self._snapshot = PlacementSnapshot(settings.region)
        self._failing: frozenset[str] = frozenset()
        self._answers: dict[str, tuple[int, str]] = {PING_TARGET.decode(): (204, "")}
        self._terms = terms_of(settings, ())
        self._changed = asyncio.Event()

    async def start(self, settings: Settings, listeners: Listeners) -> None:
        """See `DataPlane`; what clients connect to is Envoy's to bind."""
        del listeners
        self.use_certificates(settings, ())
        self._control.offer(state_of(self._plan()))
        at = self._envoy.listen
        identity = _identity(settings.peer_contexts, settings) if not at.is_loopback else None
        self.control_port = await self._control.start(at.host, at.port, identity)
        self.ports.clients = settings.listen.port
        self.ports.tls = settings.tls_listen.port if settings.tls_listen is not None else 0
        self._tasks.spawn(self._offer_forever(), "offer")
        self._tasks.every(PUBLISH_INTERVAL, self._publish, "publish", self._clock, self._rng)
        self._tasks.every(WINDOW * 1.25, self._adjust, "sample", self._clock, self._rng)

    def publish(self, snapshot: PlacementSnapshot) -> None:
        """See `DataPlane`."""
        failing = frozenset(
            target.name for target in self._hooks.failing() if target.kind is TargetKind.INSTANCE
        )
        before = self._snapshot
        is_same = snapshot.routes == before.routes and snapshot.environments == before.environments
        self._snapshot = snapshot
        if not is_same or failing != self._failing:
            self._failing = failing
            self._changed.set()

    def update(self, catalog: Catalog, topology: Topology) -> None:
        """See `DataPlane`."""
        routing = Routing.build(catalog)
        routing.adopt(self._routing)
        self._routing = self._reader.routing = routing
        self._reader.regions = frozenset(topology.regions)
        self._catalog = catalog
        self._changed.set()

    def use_certificates(
        self, settings: Settings, issued: Sequence[ServerContext]
    ) -> list[Certificate]:
        """See `DataPlane`."""
        contexts = settings.certificates.contexts if settings.certificates is not None else ()
        found = [*contexts, *issued]
        self._settings = settings
        self._terms = terms_of(settings, found)
        self._changed.set()
        return [context.certificate for context in found]

    def answer_http(self, token: str, body: str | None) -> None:
        """See `DataPlane`."""
        path = CHALLENGE_PREFIX.decode() + token
        if body is None:
            self._answers.pop(path, None)
        else:
            self._answers[path] = (200, body)
        self._changed.set()

    def answer_tls(self, name: str, pair: bytes | None) -> None:
        """See `DataPlane`; the configuration refuses what would need this."""

    async def purge(self, order: Purge) -> int:
        """See `DataPlane`; nothing is kept."""
        return 0

    def workers(self) -> list[WorkerStatus]:
        """See `DataPlane`."""
        return []

    def envoys(self) -> list[EnvoyStatus]:
        """See `DataPlane`."""
        return self._control.statuses()

    async def drain(self, timeout: float, *, is_patient: bool) -> None:
        """See `DataPlane`; what is in progress does not depend on this process."""

    async def stop(self) -> None:
        """See `DataPlane`."""
        await self._control.stop()
        await self._tasks.cancel(timeout=1.0)
        self._ledger.publish(0, 0)

    # --- what it tells ----------------------------------------------------------------------

    def _plan(self) -> Plan:
        return Plan(
            self._settings.region,
            self._terms,
            self._catalog,
            self._snapshot,
            self._failing,
            dict(self._answers),
            self._sampler.ratio,
        )

    async def _offer_forever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            plan = self._plan()
            count = len(plan.snapshot.routes) + len(plan.catalog.environments())
            try:
                if count <= INLINE_ROUTES:
                    state = state_of(plan)
                else:
                    state = await asyncio.to_thread(state_of, plan)
            except Exception as error:
                self._task_failed("offer", error)
                continue
            self._control.offer(state)

    async def _adjust(self) -> None:
        if self._sampler.adjust(self._clock.now()):
            self._metrics.xds.log_ratio.set(self._sampler.ratio)
            self._changed.set()

    # --- what it is told --------------------------------------------------------------------

    def _take_entries(self, entries: Any) -> None:
        self._sampler.note(len(entries))
        lost = 0
        for entry in entries:
            record = self._reader.read(entry)
            if record is None:
                lost += 1
            else:
                self._ledger.close(record, self._routing.settle)
        self._metrics.xds.entries.labels("read").inc(len(entries) - lost)
        if lost:
            self._metrics.xds.entries.labels("unreadable").inc(lost)

    async def _publish(self) -> None:
        self._ledger.publish(0, 0)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._metrics.task_failures.labels(name).inc()
        kind = type(error).__name__
        self._log.error("app.task_failed", task=name, error=kind, reason=str(error))


def terms_of(settings: Settings, contexts: Sequence[ServerContext]) -> Terms:
    """Return what Envoys are told of the settings.

    Args:
        contexts: the certificates, the default first.
    """
    assert settings.envoy is not None
    tls = settings.tls_listen if contexts else None
    return Terms(
        clients=_address(settings.listen),
        proxy=settings.proxy,
        tls=_address(tls) if tls is not None else None,
        pairs=tuple(_pair(context) for context in contexts) if tls is not None else (),
        min_version=settings.tls_terms.min_version,
        protocols=settings.tls_terms.protocols,
        redirect_port=settings.https_port if tls is not None else None,
        trust_file=settings.envoy.trust_file,
        access_log=settings.log.access,
    )


def _address(listener: Listener) -> Address:
    host = "127.0.0.1" if listener.host == "localhost" else listener.host
    return Address(host, listener.port)


def _pair(context: ServerContext) -> Pair:
    chain, key = context.pem[-2:]
    certificate = context.certificate
    return Pair(
        f"certificate/{certificate.file}",
        tuple(certificate.names.hosts),
        chain.decode("ascii", "replace"),
        key.decode("ascii", "replace"),
    )


def _identity(contexts: PeerContexts | None, settings: Settings) -> Identity:
    assert contexts is not None, "checked with the configuration"
    ca, chain, key = contexts.server.pem
    return Identity(ca, chain, key, node_name(settings.region))
