"""The data plane in processes of its own: starts workers, feeds them, adds up what they tell.

All workers accept from the same sockets, which this process opened and keeps open. So a worker
that dies takes no queue of new connections with it, one that hangs gets none, and the sockets can
be handed to a successor whatever their number (docs/adr/0005). This process accepts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import IO

import onetrip
from onetrip.app.config import Settings
from onetrip.app.dataplane import Hooks, Ports
from onetrip.app.listeners import Listeners, binding
from onetrip.app.request_logs import RequestLogs
from onetrip.app.worker_credentials import NO_CREDENTIALS, credentials_of
from onetrip.app.worker_desk import GuideDesk
from onetrip.app.worker_messages import (
    Drain,
    Failing,
    Figures,
    HttpAnswer,
    Judged,
    Lines,
    Purged,
    PurgeOrder,
    Question,
    Refusal,
    Seen,
    Setup,
    Started,
    Tables,
    TlsAnswer,
    ToNode,
    ToWorker,
    Trouble,
    encode,
)
from onetrip.app.worker_placements import PlacementFeed
from onetrip.app.worker_process import WorkerProcess
from onetrip.app.worker_shares import as_fields, share_of_catalog, share_of_settings
from onetrip.errors import ConfigError, Kind, OnetripError
from onetrip.model.catalog import Catalog
from onetrip.model.edge import Purge
from onetrip.model.measure import RouteKey
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.status import EnvoyStatus, WorkerStatus
from onetrip.model.topology import Topology
from onetrip.net.fairness import ABSENT, Board, make_memory
from onetrip.net.listening import port_of
from onetrip.net.tls import Certificate, ServerContext
from onetrip.observe.logs import Log
from onetrip.observe.merge import MergedMetrics
from onetrip.observe.metrics import Metrics
from onetrip.proxy.router import Routing
from onetrip.tasks import Tasks
from onetrip.timing import Clock

START_TIMEOUT = 30.0
"""Longest time in which the first workers have to serve, s."""

WATCH_INTERVAL = 1.0
"""Time between two looks at how long workers have been silent, s."""

END_TIMEOUT = 3.0
"""Time in which a worker that is told to end is gone, s."""

PURGE_TIMEOUT = 5.0
"""Longest wait for a purge to be confirmed, s."""


class WorkerPlane:
    """Implements `DataPlane` over worker processes.

    Args:
        access: where access lines go, or None.
    """

    def __init__(
        self,
        settings: Settings,
        hooks: Hooks,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        access: IO[bytes] | None,
    ) -> None:
        self.ports = Ports()
        self._settings = settings
        self._hooks = hooks
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._merged = MergedMetrics(metrics.registry)
        metrics.exported = self._merged.registry()
        self._log = log
        self._logs = RequestLogs(access, settings.log.residency, log)
        self._tasks = Tasks(self._task_failed)
        self._routing = Routing.build(Catalog())
        self._admitted: dict[RouteKey, RouteKey] = {}
        self._catalog, self._topology = Catalog(), Topology()
        self._feed = PlacementFeed()
        self._failing = Failing([])
        self._desk = GuideDesk(hooks.guide, self._send, self._tasks.spawn)
        self._credentials = NO_CREDENTIALS
        self._answers: dict[tuple[type, str], HttpAnswer | TlsAnswer] = {}
        self._sockets: dict[str, list[int]] = {}
        self._memory = make_memory(settings.workers)
        self._board = Board(self._memory, settings.workers)
        self._purges = 0
        self._purged: dict[int, dict[int, int]] = {}
        self._workers = [
            WorkerProcess(
                index,
                self._setup,
                self._take,
                self._ended,
                clock=clock,
                log=log,
                spawn=self._tasks.spawn,
            )
            for index in range(settings.workers)
        ]

    async def start(self, settings: Settings, listeners: Listeners) -> None:
        """See `DataPlane`; a worker that does not get ready is a `ConfigError`, too."""
        ports = self.ports
        ports.clients = await self._open("listen", settings, listeners)
        if settings.certificates is not None:
            ports.tls = await self._open("tls_listen", settings, listeners)
        if settings.peer_contexts is not None:
            ports.forward = await self._open("forward_listen", settings, listeners)
        # Certificates that were ordered follow; these are enough to begin with.
        self.use_certificates(settings, [])
        for worker in self._workers:
            worker.start()
        if not await self._wait(lambda w: w.is_serving or bool(w.ends), START_TIMEOUT):
            raise ConfigError(f"workers: not all serve within {START_TIMEOUT:g} s")
        for worker in self._workers:
            if worker.ends:
                raise ConfigError(f"workers: worker {worker.index} {worker.reason}")
        self._tasks.every(WATCH_INTERVAL, self._watch, "workers", self._clock, self._rng)

    def publish(self, snapshot: PlacementSnapshot) -> None:
        """See `DataPlane`."""
        self._send(self._feed.advance(snapshot))
        failing = Failing(sorted(self._hooks.failing(), key=str))
        if failing != self._failing:
            self._failing = failing
            self._send(failing)
        self._desk.publish()

    def update(self, catalog: Catalog, topology: Topology) -> None:
        """See `DataPlane`."""
        routing = Routing.build(catalog)
        routing.adopt(self._routing)
        self._routing, self._admitted = routing, {}
        self._catalog = share_of_catalog(catalog, len(self._workers))
        self._topology = topology
        self._send(self._tables())
        self._desk.update(catalog)

    def use_certificates(
        self, settings: Settings, issued: Sequence[ServerContext]
    ) -> list[Certificate]:
        """See `DataPlane`."""
        credentials, served = credentials_of(settings, issued, has_tls=bool(self.ports.tls))
        if credentials != self._credentials:
            self._credentials = credentials
            self._send(credentials)
        return served

    def answer_http(self, token: str, body: str | None) -> None:
        """See `DataPlane`."""
        self._answer((HttpAnswer, token), HttpAnswer(token, body), body is None)

    def answer_tls(self, name: str, pair: bytes | None) -> None:
        """See `DataPlane`."""
        self._answer((TlsAnswer, name), TlsAnswer(name, pair), pair is None)

    async def purge(self, order: Purge) -> int:
        """See `DataPlane`.

        Raises:
            OnetripError: kind UNAVAILABLE; not every worker has confirmed.
        """
        self._purges = number = self._purges + 1
        counts: dict[int, int] = {}
        self._purged[number] = counts
        # What a worker kept that ends meanwhile is gone as well.
        told = {worker.index: worker.ends for worker in self._workers if worker.is_serving}
        self._send(PurgeOrder(number, order))
        try:
            is_done = await self._wait(
                lambda w: w.index in counts or w.ends != told.get(w.index, -1), PURGE_TIMEOUT
            )
        finally:
            del self._purged[number]
        if not is_done:
            raise OnetripError("not every worker confirms the purge", kind=Kind.UNAVAILABLE)
        return sum(counts.values())

    def workers(self) -> list[WorkerStatus]:
        """See `DataPlane`."""
        return [worker.status() for worker in self._workers]

    def envoys(self) -> list[EnvoyStatus] | None:
        """See `DataPlane`."""
        return None

    async def drain(self, timeout: float, *, is_patient: bool) -> None:
        """See `DataPlane`."""
        for worker in self._workers:
            worker.drain(Drain(timeout, is_patient))
        await self._wait(lambda worker: not worker.is_running, timeout + END_TIMEOUT)

    async def stop(self) -> None:
        """See `DataPlane`."""
        await self.drain(0.0, is_patient=False)
        for worker in self._workers:
            await worker.kill()
        await self._tasks.cancel(timeout=5.0)
        self._logs.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    # --- towards the workers ----------------------------------------------------------------

    async def _open(self, key: str, settings: Settings, listeners: Listeners) -> int:
        listener = getattr(settings, key)
        if listener is None:
            return 0
        with binding(key.replace("tls_", "tls.").replace("forward", "cluster.forward")):
            sockets = await listeners.open(key, listener)
        self._sockets[key] = [sock.fileno() for sock in sockets]
        return port_of(sockets[0])

    def _setup(self, index: int) -> Setup:
        settings = self._settings
        fields, networks = as_fields(share_of_settings(settings.proxy, len(self._workers)))
        return Setup(
            version=onetrip.__version__,
            index=index,
            region=settings.region,
            proxy=fields,
            trusted_proxies=networks,
            source_address=settings.source_address,
            secret=settings.cluster_secret,
            log_level=settings.log.level,
            has_access_log=self._logs.access is not None,
            has_residency_log=self._logs.residency is not None,
            otlp=settings.otlp,
            sentry=settings.sentry,
            sockets=self._sockets,
            board=self._memory,
            workers=len(self._workers),
            drain_timeout=settings.drain_timeout,
            tables=self._tables(),
            placements=self._feed.whole(),
            failing=self._failing,
            places=self._desk.places,
            credentials=self._credentials,
            answers=list(self._answers.values()),
        )

    def _tables(self) -> Tables:
        return Tables(self._catalog, self._topology, self._routing.classes)

    def _send(self, message: ToWorker) -> None:
        data = encode(message)
        for worker in self._workers:
            worker.send(data)

    def _answer(self, key: tuple[type, str], answer: HttpAnswer | TlsAnswer, is_over: bool) -> None:
        self._answers[key] = answer
        if is_over:
            del self._answers[key]
        self._send(answer)

    # --- from the workers -------------------------------------------------------------------

    def _take(self, worker: WorkerProcess, message: ToNode) -> None:
        match message:
            case Seen():
                for seen in message.observations:
                    seen.key = self._admit(seen.key)
                    self._hooks.on_observation(seen)
            case Lines():
                self._logs.write_lines(message.lines, message.decisions)
            case Figures():
                self._merged.take(worker.index, message.changed)
            case Refusal():
                self._hooks.on_peer_refused(message.address, message.reason, message.detail)
            case Judged():
                self._hooks.on_verdict(message.verdict)
            case Purged():
                if (counts := self._purged.get(message.number)) is not None:
                    counts[worker.index] = message.count
            case Question():
                self._desk.take(worker, message)
            case Trouble():
                detail = f"{message.what}: {message.reason}"
                self._hooks.tell("app.worker_troubled", f"worker {worker.index}", detail)
            case Started():
                self._metrics.workers.set(sum(each.is_serving for each in self._workers))

    def _admit(self, key: RouteKey) -> RouteKey:
        known = self._admitted.get(key)
        if known is None:
            known = self._admitted[key] = self._routing.admit(key)
        return known

    def _ended(self, worker: WorkerProcess, reason: str, is_told: bool) -> None:
        self._merged.end(worker.index)
        self._board.post(worker.index, ABSENT)
        self._desk.forget(worker.index)
        self._metrics.workers.set(sum(each.is_serving for each in self._workers))
        if not is_told:
            self._metrics.worker_ends.inc()
            self._log.error("app.worker_ended", worker=worker.index, reason=reason)
            self._hooks.tell("app.worker_ended", f"worker {worker.index}", reason)

    # --- waiting ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        for worker in self._workers:
            worker.check()
        self._logs.publish(self._metrics)

    async def _wait(self, claim: Callable[[WorkerProcess], bool], timeout: float) -> bool:
        deadline = self._clock.now() + timeout
        while not all(claim(worker) for worker in self._workers):
            if self._clock.now() >= deadline:
                return False
            await self._clock.sleep(0.01)
        return True

    def _task_failed(self, name: str, error: BaseException) -> None:
        with suppress(ValueError):
            self._metrics.task_failures.labels(name.partition("-")[0]).inc()
        kind = type(error).__name__
        self._log.error("app.task_failed", cause=error, task=name, error=kind)
