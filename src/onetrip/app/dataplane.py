"""The data plane as the rest of a node sees it: what it is told, and what it tells.

`LocalPlane` serves inside the node's own process, `app/workers` in several others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import IO, TYPE_CHECKING, Protocol

from onetrip.app.config import Settings
from onetrip.app.descriptors import within_limit
from onetrip.app.listeners import Listeners, binding
from onetrip.app.request_logs import RequestLogs
from onetrip.app.telemetry import build_tracer
from onetrip.errors import ApiError, Kind
from onetrip.model.access import ServedRequest, Taken
from onetrip.model.catalog import Catalog
from onetrip.model.edge import Purge
from onetrip.model.measure import Observation, Target
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.status import EnvoyStatus, WorkerStatus
from onetrip.model.topology import Topology
from onetrip.net.accept import OnRefused
from onetrip.net.dial import Dial
from onetrip.net.tls import (
    Certificate,
    CertificateSet,
    ServerContext,
)
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.observe.spans import SpanSink
from onetrip.proxy.listener import ProxyServer
from onetrip.proxy.outliers import OnVerdict
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.app.worker_desk import NodeGuide


@dataclass(slots=True)
class Ports:
    """Ports that clients and peers connect to; 0 where nothing listens."""

    clients: int = 0
    tls: int = 0
    forward: int = 0


class DataPlane(Protocol):
    """Serves requests by the tables and placements it was given last."""

    @property
    def ports(self) -> Ports:
        """Where it listens."""

    async def start(self, settings: Settings, listeners: Listeners) -> None:
        """Listen.

        Raises:
            ConfigError: an address cannot be bound.
        """

    def publish(self, snapshot: PlacementSnapshot) -> None:
        """Place requests by `snapshot` from now on."""

    def update(self, catalog: Catalog, topology: Topology) -> None:
        """Route by another catalog and topology from now on.

        Raises:
            ConfigError: the catalog cannot be routed; the old one stays in use.
        """

    def use_certificates(
        self, settings: Settings, issued: Sequence[ServerContext]
    ) -> list[Certificate]:
        """Serve the certificates of `settings` from the next handshake on; return them.

        Args:
            issued: those that were ordered, each in the file that its certificate names.
        """

    def answer_http(self, token: str, body: str | None) -> None:
        """Answer an authority that asks over HTTP for `token`; None ends that."""

    def answer_tls(self, name: str, pair: bytes | None) -> None:
        """Answer its handshakes for `name` with key and certificate, PEM; None ends that."""

    async def purge(self, order: Purge) -> int:
        """Forget kept responses; return how many there were."""

    def workers(self) -> list[WorkerStatus]:
        """Return the processes that serve, where they are not this one."""

    def envoys(self) -> list[EnvoyStatus] | None:
        """Return the Envoys that serve; None where the node does."""

    async def drain(self, timeout: float, *, is_patient: bool) -> None:
        """Stop accepting, and wait at most `timeout` s for what is in progress.

        Args:
            is_patient: a successor serves already; see `ProxyServer.drain`.
        """

    async def stop(self) -> None:
        """Close everything now; safe to call after a failed start."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a data plane tells and asks.

    Attributes:
        on_observation: called once per finished exchange.
        is_ready: whether a target can serve; must be quick.
        on_peer_refused: told of (address, reason, detail) when somebody is not taken for a peer.
        failing: returns the targets that cannot serve; may be slow.
        tell: makes an event, of a name, a subject and a detail.
        on_verdict: told about every instance that is ejected or returns.
        guide: makes what tells where applications read; called when that is needed.
    """

    on_observation: Callable[[Observation], None]
    is_ready: Callable[[Target], bool]
    on_peer_refused: OnRefused
    failing: Callable[[], frozenset[Target]]
    tell: Callable[[str, str, str], None]
    on_verdict: OnVerdict
    guide: Callable[[], NodeGuide] | None = None


class LocalPlane:
    """The data plane in this process.

    Args:
        access: where access lines go, or None.
    """

    def __init__(
        self,
        settings: Settings,
        hooks: Hooks,
        *,
        dial: Dial,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        access: IO[bytes] | None,
    ) -> None:
        self.ports = Ports()
        self._logs = logs = RequestLogs(access, settings.log.residency, log)
        self.server = ProxyServer(
            within_limit(settings.proxy, log),
            settings.region,
            dial,
            clock,
            rng,
            metrics,
            log,
            logs.access,
            secret=settings.cluster_secret,
            on_observation=hooks.on_observation,
            is_ready=hooks.is_ready,
            on_peer_refused=hooks.on_peer_refused,
            on_verdict=hooks.on_verdict,
        )
        if logs.residency is not None:
            self.server.log_residency(logs.residency)
        self.server.guide = hooks.guide
        self._spans: SpanSink | None = None
        if settings.otlp is not None and settings.otlp.has_traces:
            made = build_tracer(settings.otlp, settings.region, metrics, rng, clock)
            tracer, self._spans = made
            self.server.trace_with(tracer)

    async def start(self, settings: Settings, listeners: Listeners) -> None:
        """See `DataPlane`."""
        server, ports = self.server, self.ports
        with binding("listen"):
            sockets = await listeners.copies("listen", settings.listen)
            ports.clients = await server.serve(sockets)
        with binding("tls.listen"):
            if settings.tls_listen is not None and settings.certificates is not None:
                sockets = await listeners.copies("tls_listen", settings.tls_listen)
                ports.tls = server.serve_tls(sockets, settings.certificates)
        with binding("cluster.forward_listen"):
            if settings.forward_listen is not None and settings.peer_contexts is not None:
                sockets = await listeners.copies("forward_listen", settings.forward_listen)
                ports.forward = server.serve_forward(sockets, settings.peer_contexts)

    def publish(self, snapshot: PlacementSnapshot) -> None:
        """See `DataPlane`."""
        self.server.snapshot = snapshot

    def update(self, catalog: Catalog, topology: Topology) -> None:
        """See `DataPlane`."""
        self.server.update(catalog, topology)

    def use_certificates(
        self, settings: Settings, issued: Sequence[ServerContext]
    ) -> list[Certificate]:
        """See `DataPlane`."""
        self.server.redirect_to(settings.https_port if self.ports.tls else None)
        if settings.peer_contexts is not None:
            self.server.peer_contexts = settings.peer_contexts
        if settings.certificates is None or not self.ports.tls:
            return []
        awaited = settings.acme.domains if settings.acme is not None else ()
        found = CertificateSet([*settings.certificates.contexts, *issued], awaited)
        self.server.certificates = found
        self.server.challenges.refuses = found.refuses if found.is_partial else None
        return list(found.all)

    def answer_http(self, token: str, body: str | None) -> None:
        """See `DataPlane`."""
        self.server.challenges.answer_http(token, body)

    def answer_tls(self, name: str, pair: bytes | None) -> None:
        """See `DataPlane`."""
        self.server.challenges.answer_tls(name, pair)

    async def purge(self, order: Purge) -> int:
        """See `DataPlane`."""
        return self.server.purge(order)

    def workers(self) -> list[WorkerStatus]:
        """See `DataPlane`."""
        return []

    def envoys(self) -> list[EnvoyStatus] | None:
        """See `DataPlane`."""
        return None

    async def drain(self, timeout: float, *, is_patient: bool) -> None:
        """See `DataPlane`."""
        await self.server.drain(timeout, is_patient=is_patient)

    async def stop(self) -> None:
        """See `DataPlane`."""
        await self.server.stop()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
        self._logs.close()


def build_plane(
    settings: Settings,
    hooks: Hooks,
    *,
    dial: Dial,
    clock: Clock,
    rng: Random,
    metrics: Metrics,
    log: Log,
    access: IO[bytes] | None,
) -> DataPlane:
    """Return the data plane that the settings ask for."""
    if settings.mode == "advise":
        from onetrip.app.advise_plane import AdvisePlane  # a node that serves does without it

        return AdvisePlane(settings, hooks, clock)
    if settings.envoy is not None:
        from onetrip.app.envoy_plane import EnvoyPlane  # needs packages of its own

        return EnvoyPlane(settings, hooks, clock=clock, rng=rng, metrics=metrics, log=log)
    if settings.workers > 1:
        from onetrip.app.workers import WorkerPlane  # a node without workers does without it

        return WorkerPlane(
            settings, hooks, clock=clock, rng=rng, metrics=metrics, log=log, access=access
        )
    return LocalPlane(
        settings,
        hooks,
        dial=dial,
        clock=clock,
        rng=rng,
        metrics=metrics,
        log=log,
        access=access,
    )


def take_requests(plane: DataPlane, told: Sequence[ServedRequest]) -> Taken:
    """Have a node learn from requests that another proxy served.

    Raises:
        ApiError: it takes requests itself, and would learn from them twice.
    """
    from onetrip.app.advise_plane import AdvisePlane  # see `build_plane`

    if not isinstance(plane, AdvisePlane):
        raise ApiError(
            "this node takes requests itself and learns from those; only one in advise mode is "
            "told of others",
            kind=Kind.CONFLICT,
        )
    return plane.take(told)
