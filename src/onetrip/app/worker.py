"""A worker: a process that serves requests by what its node tells it, and tells what it sees.

It imports the data plane and nothing else: no scoring, no numpy, no admin API. It ends when the
node says so, and when the node is gone: then nobody would tell it about failures and placements
any more, and its sockets would be in the way of the node's restart.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from random import Random

import uvloop

import onetrip
from onetrip.app.descriptors import within_limit
from onetrip.app.drains import build_taps, close_taps
from onetrip.app.refusals import unraisable_hook
from onetrip.app.telemetry import build_tracer
from onetrip.app.worker_credentials import contexts_of
from onetrip.app.worker_guide import WorkerGuide
from onetrip.app.worker_link import Link
from onetrip.app.worker_messages import (
    Answer,
    Credentials,
    Drain,
    Failing,
    Figures,
    HttpAnswer,
    Judged,
    Placements,
    Purged,
    PurgeOrder,
    ReadPlaces,
    Refusal,
    Setup,
    Started,
    Tables,
    TlsAnswer,
    ToWorker,
    Trouble,
    decode_to_worker,
)
from onetrip.app.worker_outbox import ObservationOutbox
from onetrip.app.worker_placements import patched
from onetrip.app.worker_shares import from_fields
from onetrip.errors import ConfigError, OnetripError
from onetrip.model.measure import Target
from onetrip.net.dial import TcpDialer
from onetrip.net.fairness import ABSENT, Board
from onetrip.net.listening import adopt
from onetrip.net.tls import CertificateSet
from onetrip.observe.logs import stderr_log
from onetrip.observe.merge import Changes
from onetrip.observe.metrics import Metrics
from onetrip.observe.spans import SpanSink
from onetrip.proxy.listener import ProxyServer
from onetrip.timing import MonotonicClock

TELL_INTERVAL = 0.5
"""Seconds between two messages about how the worker is."""

SETUP_TIMEOUT = 30.0
"""Longest wait for the first message, s."""


class Worker:
    """One worker.

    Args:
        on_drain: called when the node wants it to end.
    """

    def __init__(self, setup: Setup, link: Link[ToWorker], on_drain: Callable[[Drain], None]):
        self._setup = setup
        self._link = link
        self._on_drain = on_drain
        self.clock = clock = MonotonicClock()
        self.metrics = Metrics()
        self.log = stderr_log(setup.log_level, clock.wall, region=setup.region, worker=setup.index)
        taps = (setup.otlp, setup.sentry, setup.region, self.metrics, clock)
        self.log.taps += build_taps(*taps, with_access=False)
        self._failing: frozenset[Target] = frozenset()
        self._is_leaving = False
        self.guide = WorkerGuide(link)
        self._dial = TcpDialer(setup.source_address)
        self.outbox = ObservationOutbox(link, self.metrics)
        self._changes = Changes(self.metrics.registry)
        self._board = Board(setup.board, setup.workers)
        os.close(setup.board)
        self.server = ProxyServer(
            within_limit(from_fields(setup.proxy, setup.trusted_proxies), self.log),
            setup.region,
            self._dial,
            clock,
            Random(),
            self.metrics,
            self.log,
            self.outbox.lines if setup.has_access_log else None,
            secret=setup.secret,
            on_observation=self.outbox.take,
            is_ready=lambda target: target not in self._failing,
            on_peer_refused=lambda *refusal: link.send(Refusal(*refusal)),
            on_verdict=lambda verdict: link.send(Judged(verdict)),
            yields=self._lets_others,
        )
        self.server.guide = lambda: self.guide
        if setup.has_residency_log:
            self.server.log_residency(self.outbox.decisions)
        self._spans: SpanSink | None = None
        if setup.otlp is not None and setup.otlp.has_traces:
            made = build_tracer(setup.otlp, setup.region, self.metrics, Random(), clock)
            tracer, self._spans = made
            self.server.trace_with(tracer)

    async def start(self) -> None:
        """Serve.

        Raises:
            OnetripError: what the node told cannot be used.
        """
        setup, server = self._setup, self.server
        for message in (
            setup.tables,
            setup.placements,
            setup.failing,
            setup.places,
            *setup.answers,
        ):
            self._apply(message)
        certificates = self._use(setup.credentials)
        sockets = {key: [adopt(fd) for fd in found] for key, found in setup.sockets.items()}
        if tls := sockets.get("tls_listen"):
            server.serve_tls(tls, certificates)
        if (forward := sockets.get("forward_listen")) and server.peer_contexts is not None:
            server.serve_forward(forward, server.peer_contexts)
        self._board.post(setup.index, 0)
        await server.serve(sockets["listen"])
        self._link.send(Started(onetrip.__version__))

    def take(self, message: ToWorker) -> None:
        """Take a message of the node; one that cannot be used changes nothing."""
        try:
            self._apply(message)
        except (OnetripError, ssl.SSLError) as error:
            what = type(message).__name__.lower()
            self.log.error("app.worker_message_refused", message=what, reason=str(error))
            self._link.send(Trouble(what, str(error)))

    def tell(self) -> None:
        """Tell the node how this worker is."""
        if not self._is_leaving:
            self._board.post(self._setup.index, self.server.connections)
        changed = self._changes.take()
        version = self.server.snapshot.version
        self._link.send(Figures(changed, self.server.connections, version))

    def _lets_others(self, connections: int) -> bool:
        self._board.post(self._setup.index, connections)
        return self._board.is_ahead(self._setup.index)

    async def finish(self, drain: Drain) -> None:
        """Drain, and tell all that is left to tell."""
        self._is_leaving = True
        self._board.post(self._setup.index, ABSENT)
        await self.server.drain(drain.timeout, is_patient=drain.is_patient)
        await self.server.stop()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
        await close_taps(self.log)
        self.outbox.flush()
        self.tell()

    def _apply(self, message: ToWorker) -> None:
        match message:
            case Tables():
                self.guide.update(message.catalog)
                self.server.update(message.catalog, message.topology)
                for environment, routes in message.classes:
                    self.server.routing.establish(environment, routes)
            case Placements():
                self.server.snapshot = patched(self.server.snapshot, message)
            case Failing():
                self._failing = frozenset(message.targets)
            case ReadPlaces() | Answer():
                self.guide.take(message)
            case Credentials():
                self._use(message)
            case HttpAnswer():
                self.server.challenges.answer_http(message.token, message.body)
            case TlsAnswer():
                self.server.challenges.answer_tls(message.name, message.pair)
            case PurgeOrder():
                count = self.server.purge(message.order)
                self._link.send(Purged(message.number, count))
            case Drain():
                self._on_drain(message)
            case Setup():
                raise ConfigError("a worker is set up once")

    def _use(self, told: Credentials) -> CertificateSet:
        """Serve other certificates from the next handshake on."""
        found, peers = contexts_of(told, self._setup.region)
        if peers is not None:
            self.server.peer_contexts = peers
            self._dial.peer_tls, self._dial.forward_tls = peers.client, peers.forward
        self.server.certificates = found
        self.server.challenges.refuses = found.refuses if found.is_partial else None
        self.server.redirect_to(told.https_port)
        return found


def run(descriptor: int) -> int:
    """Be a worker of the node at the other end of a socket; return the exit code."""
    # The node decides: it gets the same signals, from a terminal or a service manager.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    return uvloop.run(_serve(socket.socket(fileno=descriptor)))


async def _serve(sock: socket.socket) -> int:
    sock.setblocking(False)
    sock.set_inheritable(False)
    loop = asyncio.get_running_loop()
    first: asyncio.Future[Setup] = loop.create_future()
    ending: asyncio.Future[Drain] = loop.create_future()
    worker: Worker | None = None
    early: list[ToWorker] | None = []  # what is told before the worker serves

    def drain(message: Drain) -> None:
        if not ending.done():
            ending.set_result(message)

    def take(message: ToWorker) -> None:
        if isinstance(message, Setup):
            if not first.done():
                first.set_result(message)
        elif early is not None:
            early.append(message)
        elif worker is not None:
            worker.take(message)

    def lost(reason: str) -> None:
        # Without its node a worker has nothing to serve by.
        if worker is not None:
            worker.guide.close()
        drain(Drain(first.result().drain_timeout if first.done() else 0.0, is_patient=False))
        if not first.done():
            first.cancel()

    link = Link(decode_to_worker, take, lost)
    await loop.create_connection(lambda: link, sock=sock)
    async with asyncio.timeout(SETUP_TIMEOUT):
        setup = await first
    if setup.version != onetrip.__version__:
        print(f"onetrip: worker is {onetrip.__version__}, node {setup.version}", file=sys.stderr)
        return 2
    worker = Worker(setup, link, drain)
    sys.unraisablehook = unraisable_hook(worker.log, worker.clock)
    await worker.start()
    told, early = early or [], None
    for message in told:
        worker.take(message)
    telling = loop.create_task(_tell_forever(worker))
    await worker.finish(await ending)
    telling.cancel()
    link.close()
    await worker.clock.sleep(0)
    return 0


async def _tell_forever(worker: Worker) -> None:
    while True:
        worker.tell()
        await worker.clock.sleep(TELL_INTERVAL)
