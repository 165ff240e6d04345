"""The composition root: one node, built from settings, started, reloaded and stopped.

Nothing else constructs these parts. Reading `Node.__init__` tells who talks to whom; reading
`start` tells in which order things come up (listeners last, so that nothing is accepted before it
can be served).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import IO

import uvloop
from aiohttp import web

import onetrip
from onetrip.app import expiry, memory, policies
from onetrip.app.config import Settings, load_settings
from onetrip.app.refusals import RefusalLog, unraisable_hook
from onetrip.app.scoring import Scorer
from onetrip.app.view import EventRing, LiveView
from onetrip.cluster.messages import PolicyRow, Report, ServiceRow
from onetrip.cluster.state import ClusterState
from onetrip.cluster.sync import PeerSync
from onetrip.control.api import build_admin
from onetrip.control.store import AsyncStore
from onetrip.errors import ApiError, ConfigError, Kind, OnetripError, ProbeError
from onetrip.estimate.filters import FilterSettings, RttBook
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.catalog import Policy
from onetrip.model.measure import Drift, EstimateState, RttEstimate, Sample, Target
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.status import PolicyChange
from onetrip.net.dial import TcpDialer
from onetrip.net.knock import TcpKnock
from onetrip.net.tls import Certificate
from onetrip.observe.logs import AccessLog, Log, stderr_log
from onetrip.observe.metrics import Metrics
from onetrip.place.placer import Move
from onetrip.probe.runner import ProbeRunner
from onetrip.probe.specs import specs_for
from onetrip.proxy.listener import ProxyServer
from onetrip.proxy.router import Routing
from onetrip.tasks import Tasks
from onetrip.timing import Clock, MonotonicClock

SAVE_INTERVAL = 15.0
"""Seconds between two writes of what was learned; at most this much is lost by a crash."""

REPORTED_ROUTES = 200
"""Routes explained to the peers, the busiest ones: explanations are for people, and a node can be
asked itself about the rest."""

SHIFT_PROBES = 8.0
"""Probe intervals within which nine in ten shifts of an RTT are believed, jitter included."""

SILENT_PEER = 5.0
"""Least time without news after which a peer counts as gone, s."""

SWITCH_INTERVAL = 0.001
"""Longest time a busy thread keeps others from running, s; the default is five times that."""

LISTENERS = ("listen", "tls_listen", "admin", "peer_listen", "forward_listen")
"""Settings that take effect at the next start."""

STOP_TIMEOUT = 5.0
"""Bound on ending background work, s."""


class Node:
    """One region's node.

    Args:
        settings: checked configuration.
        log: event log.
        access: where access lines go, or None.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        log: Log,
        access: IO[bytes] | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        self.settings = settings
        self.region = region = settings.region
        self._clock = clock = clock or MonotonicClock()
        rng = rng or Random()
        self._log = log.bind(region=region)
        self.metrics = Metrics()
        self.metrics.build.labels(onetrip.__version__).set(1)
        self._tasks = Tasks(self._task_failed)
        self._events = EventRing(clock)
        self._store: AsyncStore | None = None
        self._base = settings.catalog
        self._seq = 0

        dial = self._dial = TcpDialer(settings.source_address)
        self._has_peer_tls = settings.peer_contexts is not None
        self._refusals = RefusalLog(clock, self._peer_refused)
        self._rtts = RttBook(FilterSettings(max_age=max(30.0, 6 * settings.probe.interval)))
        self._traffic = TrafficBook(region, SHIFT_PROBES * settings.probe.interval)
        self._cluster = ClusterState(
            region,
            frozenset(settings.topology.regions),
            max(SILENT_PEER, 5 * settings.sync_interval),
        )
        self.scorer = Scorer(
            region,
            rtts=self._rtts,
            traffic=self._traffic,
            cluster=self._cluster,
            clock=clock,
            metrics=self.metrics,
            log=self._log,
            publish=self._publish,
            on_move=self._moved,
            on_drift=self._drifted,
        )
        self._prober = ProbeRunner(
            region,
            dial,
            clock,
            rng,
            self.metrics,
            self._log,
            settings.probe,
            self._sampled,
            self._probe_failed,
            knock=TcpKnock(clock, settings.source_address),
        )
        self._access_log = AccessLog(access) if access is not None else None
        self.proxy = ProxyServer(
            settings.proxy,
            region,
            dial,
            clock,
            rng,
            self.metrics,
            self._log,
            self._access_log,
            secret=settings.cluster_secret,
            on_observation=self.scorer.observe,
            is_ready=self._is_ready,
            on_peer_refused=self._refusals.note,
        )
        self._expiry = expiry.ExpiryWatch(self.metrics, clock, self._certificate_expires)
        self._sync = self._build_sync(rng)
        self.view = LiveView(
            region,
            scorer=self.scorer,
            traffic=self._traffic,
            cluster=self._cluster,
            metrics=self.metrics,
            events=self._events,
            clock=clock,
            change=self._change_policy,
            reload=self.reload,
            drain=self.set_draining,
        )
        self._admin: web.AppRunner | None = None
        self._rng = rng
        self.proxy_port = self.tls_port = self.admin_port = self.peer_port = 0
        self.forward_port = 0

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up and serve.

        Raises:
            ConfigError: an address cannot be bound or the store cannot be used.
        """
        settings = self.settings
        await self._open_store()
        self._apply_catalog()
        await self.scorer.run_once()
        self._prober.start()
        self._every(settings.score_interval, self.scorer.run_once, "score")
        if self._store is not None:
            self._every(SAVE_INTERVAL, self._save, "save")
        with _binding("cluster.listen"):
            if self._sync is not None and settings.peer_listen is not None:
                listen = settings.peer_listen
                self.peer_port = await self._sync.serve(listen.host, listen.port)
        if self._sync is not None:
            self._sync.follow(settings.topology)
        with _binding("admin.listen"):
            self.admin_port = await self._start_admin()
        with _binding("listen"):
            listen = settings.listen
            self.proxy_port = await self.proxy.start(listen.host, listen.port)
        await self._start_tls()
        self._log.info("app.started", version=onetrip.__version__, listen=str(settings.listen))

    async def stop(self, drain_timeout: float | None = None) -> None:
        """Drain the proxy, then end everything; safe to call after a failed start."""
        timeout = self.settings.drain_timeout if drain_timeout is None else drain_timeout
        await self.proxy.drain(timeout)
        await self.proxy.stop()
        await self._prober.stop()
        await self._tasks.cancel(STOP_TIMEOUT)
        if self._sync is not None:
            await self._sync.stop()
        if self._admin is not None:
            await self._admin.cleanup()
        if self._store is not None:
            with contextlib.suppress(OnetripError):
                await self._save()
            await self._store.close()
        if self._access_log is not None:
            self._access_log.close()
        self._log.info("app.stopped")

    async def reload(self) -> str:
        """Read the configuration again and apply what can change live.

        Raises:
            ConfigError: it cannot be used; the old one keeps running.
        """
        try:
            settings = await asyncio.to_thread(load_settings, self.settings.path, self.region)
            Routing.build(settings.catalog)
            if (settings.peer_contexts is not None) is not self._has_peer_tls:
                raise ConfigError(f"{settings.path}: cluster.tls: on or off needs a restart")
        except ConfigError as error:
            self.metrics.reloads.labels("refused").inc()
            self._log.error("app.reload_refused", reason=str(error))
            self._events.add("app.reload_refused", str(self.settings.path), str(error))
            raise
        fixed = [
            key
            for key in (*LISTENERS, "source_address", "data_dir", "proxy")
            if getattr(settings, key) != getattr(self.settings, key)
        ]
        self.settings = settings
        self._base = settings.catalog
        self._use_certificates()
        self._cluster.update_regions(frozenset(settings.topology.regions))
        self._apply_catalog()
        if self._sync is not None:
            self._sync.follow(settings.topology)
        note = f"; needs a restart: {', '.join(fixed)}" if fixed else ""
        text = f"{len(settings.catalog.projects)} projects applied{note}"
        self.metrics.reloads.labels("applied").inc()
        self._log.info("app.reloaded", detail=text)
        self._events.add("app.reloaded", str(settings.path), text)
        return text

    def _every(self, interval: float, work: Callable[[], Awaitable[object]], name: str) -> None:
        self._tasks.every(interval, work, name, self._clock, self._rng)

    async def set_draining(self, is_draining: bool) -> None:
        """Take this region out of every placement while another can serve, or back in."""
        self.scorer.draining = frozenset([self.region] if is_draining else [])
        self._tell("app.draining" if is_draining else "app.undrained", self.region, "")
        self._log.info("app.draining_changed", is_draining=is_draining)
        await self.scorer.run_once()

    # --- what the parts call ----------------------------------------------------------------

    def _publish(self, snapshot: PlacementSnapshot) -> None:
        self.proxy.snapshot = snapshot

    def _sampled(self, sample: Sample) -> bool:
        try:
            return self._rtts.record(sample)
        except OnetripError as error:
            self._log.warning("probe.sample_refused", target=str(sample.target), reason=str(error))
            return False

    def _probe_failed(self, target: Target, error: ProbeError) -> None:
        self._rtts.fail(target, self._clock.now())

    def _is_ready(self, target: Target) -> bool:
        estimate = self.scorer.rows.get(self.region, {}).get(target)
        return estimate is None or estimate.state is not EstimateState.FAILING

    def _moved(self, move: Move) -> None:
        target = move.target or f"{self.region} (default)"
        self._tell("place.moved", str(move.key), f"to {target}: {move.reason}")

    def _drifted(self, drift: Drift) -> None:
        detail = (
            f"in {drift.region}: {drift.before * 1e3:.0f} -> {drift.after * 1e3:.0f} ms, "
            f"relearning its round trips"
        )
        self._tell(f"estimate.{drift.kind.value}_changed", str(drift.key), detail)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.metrics.task_failures.labels(name.partition("-")[0]).inc()
        kind = type(error).__name__
        self._log.error("app.task_failed", task=name, error=kind, reason=str(error))

    def _tell(self, name: str, subject: str, detail: str) -> None:
        event = self._events.add(name, subject, detail)
        if self._store is not None:
            self._tasks.spawn(self._store.append_event(event), "store-event")

    # --- policies ---------------------------------------------------------------------------

    def _apply_catalog(self) -> None:
        settings = self.settings
        catalog = policies.effective(self._base, self._cluster.policies(), settings.topology)
        self.proxy.update(catalog, settings.topology)
        self.scorer.update(settings.topology, catalog)
        specs = specs_for(settings.topology, catalog, self.region)
        self._rtts.prune([spec.target for spec in specs])
        self._prober.set_specs(specs)

    async def _change_policy(self, project: str, change: PolicyChange) -> Policy:
        configured = self._base.projects.get(project)
        if configured is None:
            raise ApiError(f"no project {project!r}", field="project", kind=Kind.NOT_FOUND)
        base = policies.digest(configured.policy)
        known = self._cluster.policies().get(project)
        row = policies.next_row(known, project, base, change, self.region)
        policies.apply(configured.policy, policies.change_of(row), self.settings.topology)
        if self._store is not None:
            await self._store.put_policy(policies.stored(row))
        self._cluster.merge_policies([row])
        await self._policies_changed([row])
        return self.scorer.catalog.projects[project].policy

    async def _policies_changed(self, rows: list[PolicyRow]) -> None:
        self._apply_catalog()
        await self.scorer.run_once()
        for row in rows:
            mode = row.mode.value if row.mode is not None else "unchanged"
            detail = f"placement {mode}" + (f", hint {row.hint}" if row.hint else "")
            self._log.info("app.policy_changed", project=row.project, detail=detail)
            self._tell("app.policy_changed", row.project, f"{detail}, by {row.origin}")

    def _policies_arrived(self, rows: list[PolicyRow]) -> None:
        async def take() -> None:
            if self._store is not None:
                for row in rows:
                    await self._store.put_policy(policies.stored(row))
            await self._policies_changed(rows)

        self._tasks.spawn(take(), "policies")

    # --- parts ------------------------------------------------------------------------------

    def _build_sync(self, rng: Random) -> PeerSync | None:
        settings = self.settings
        if settings.cluster_secret is None:
            return None
        return PeerSync(
            self.region,
            settings.cluster_secret,
            self._cluster,
            self._report,
            self._policies_arrived,
            clock=self._clock,
            rng=rng,
            metrics=self.metrics,
            log=self._log,
            tasks=self._tasks,
            interval=settings.sync_interval,
            source_address=settings.source_address,
            contexts=settings.peer_contexts,
            on_refused=self._refusals.note,
        )

    def _report(self) -> Report:
        now = self._clock.now()
        self._seq += 1
        rows = self._rtts.estimates(now).values()
        services = self._traffic.services(now).items()
        durations, evidence = self.scorer.shared(now)
        busiest = self.scorer.placer.busiest(REPORTED_ROUTES)
        return Report(
            region=self.region,
            boot=self.view.started_at,
            seq=self._seq,
            is_draining=bool(self.scorer.draining),
            rtts=[_aged(e, now) for e in rows],
            services=[ServiceRow(key, s) for key, found in services for s in found],
            durations=durations,
            evidence=evidence,
            decisions=self.scorer.placer.decisions(busiest),
            what_if=self.scorer.placer.what_if(busiest),
            latencies=self._traffic.latencies(now, busiest),
            policies=list(self._cluster.policies().values()),
        )

    async def _start_tls(self) -> None:
        settings = self.settings
        with _binding("tls.listen"):
            if settings.tls_listen is not None and settings.certificates is not None:
                listen = settings.tls_listen
                self.tls_port = await self.proxy.start_tls(
                    listen.host, listen.port, settings.certificates
                )
        with _binding("cluster.forward_listen"):
            if settings.forward_listen is not None and settings.peer_contexts is not None:
                listen = settings.forward_listen
                self.forward_port = await self.proxy.start_forward(
                    listen.host, listen.port, settings.peer_contexts
                )
        self._use_certificates()
        self._every(expiry.INTERVAL, self._expiry.check, "expiry")

    def _use_certificates(self) -> None:
        """Serve the certificates of the settings from the next handshake on."""
        settings = self.settings
        self.proxy.redirect_to(settings.https_port if self.tls_port else None)
        in_use: list[Certificate] = []
        if settings.certificates is not None and self.tls_port:
            self.proxy.certificates = settings.certificates
            in_use += settings.certificates.all
        contexts = settings.peer_contexts
        if contexts is not None and self._has_peer_tls:
            self._dial.peer_tls = contexts.client
            self.proxy.peer_contexts = contexts
            if self._sync is not None:
                self._sync.contexts = contexts
            in_use.append(contexts.server.certificate)
        self._expiry.watch(in_use)

    def _peer_refused(self, address: str, reason: str, detail: str) -> None:
        self._tell("cluster.peer_refused", address, f"{reason}: {detail}")
        self._log.warning("cluster.peer_refused", client=address, reason=reason, detail=detail)

    def _certificate_expires(self, file: str, detail: str) -> None:
        self._tell("proxy.certificate_expiring", file, detail)
        self._log.warning("proxy.certificate_expiring", certificate=file, detail=detail)

    async def _start_admin(self) -> int:
        settings = self.settings
        app = build_admin(
            self.view, token=settings.admin_token, log=self._log, wall=self._clock.wall
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._admin.setup()
        await web.TCPSite(self._admin, settings.admin.host, settings.admin.port).start()
        return int(self._admin.addresses[0][1])

    async def _open_store(self) -> None:
        folder = self.settings.data_dir
        if folder is None:
            return
        own = folder / self.region
        try:
            own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"data_dir: {own} cannot be made: {error.strerror}") from error
        self._store = await AsyncStore.open(own / "onetrip.db")
        self._cluster.merge_policies(
            [policies.unstored(kept) for kept in await self._store.list_policies()]
        )
        self._events.restore(await self._store.list_events(100))
        blob = await self._store.load_blob(memory.BLOB)
        if blob is not None:
            self._remember(blob)

    def _remember(self, blob: bytes) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        try:
            routes = memory.load(blob, self._traffic, self.scorer.placer, now, wall)
        except ValueError as error:
            self._log.warning("app.memory_unreadable", reason=str(error))
            return
        self._log.info("app.remembered", routes=routes)

    async def _save(self) -> None:
        if self._store is not None:
            now, wall = self._clock.now(), self._clock.wall()
            blob = memory.dump(self._traffic, self.scorer.placer, now, wall)
            await self._store.save_blob(memory.BLOB, blob)


def run(config_path: Path, region: str | None = None) -> int:
    """Run a node until SIGTERM or SIGINT; SIGHUP reloads.

    Returns:
        The process's exit code: 0 after a clean stop, 2 for a configuration that cannot be used.
    """
    # Scoring of many routes runs in a thread: it must give way to requests quickly.
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        settings = load_settings(config_path, region)
        return uvloop.run(_serve(settings))
    except ConfigError as error:
        print(f"onetrip: {error}", file=sys.stderr)
        return 2


async def _serve(settings: Settings) -> int:
    log = stderr_log(settings.log.level, MonotonicClock().wall)
    sys.unraisablehook = unraisable_hook(log, MonotonicClock())
    node = Node(settings, log=log, access=_access_sink(settings))
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload_quietly(node))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await node.start()
        _give_back_memory()
        loop.call_later(0.5, _give_back_memory)  # what the first rounds left as well
        await stopping.wait()
    finally:
        await node.stop()
    return 0


def _give_back_memory() -> None:
    # Imports and the configuration leave garbage behind; what stays is never collected again.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def _reload_quietly(node: Node) -> None:
    # The refusal was logged and counted; a signal has nobody to answer.
    with contextlib.suppress(ConfigError):
        await node.reload()


def _access_sink(settings: Settings) -> IO[bytes] | None:
    where = settings.log.access
    if where == "off":
        return None
    if where == "stderr":
        return os.fdopen(os.dup(2), "wb")
    try:
        return Path(where).open("ab")
    except OSError as error:
        raise ConfigError(f"log.access: {where} cannot be opened: {error.strerror}") from error


def _aged(estimate: RttEstimate, now: float) -> RttEstimate:
    # On the wire `updated_at` is an age: clocks of two machines do not compare.
    return replace(estimate, updated_at=max(0.0, now - estimate.updated_at))


@contextlib.contextmanager
def _binding(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{key}: address cannot be bound: {reason}") from error
