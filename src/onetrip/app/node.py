"""The composition root: one node, built from settings, started, reloaded and stopped.

Nothing else constructs these parts. Reading `Node.__init__` tells who talks to whom; reading
`start` tells in which order things come up (listeners last, so that nothing is accepted before it
can be served).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import IO, TYPE_CHECKING

from aiohttp import web

import onetrip
from onetrip.app import expiry, policies
from onetrip.app.applying import Applying
from onetrip.app.certificates import Certificates
from onetrip.app.config import Settings, load_settings
from onetrip.app.dataplane import Hooks, LocalPlane, build_plane, take_requests
from onetrip.app.discovery import Discovery
from onetrip.app.drains import Drains
from onetrip.app.ejections import EjectionLog
from onetrip.app.inheritance import LISTEN_KEYS, Inheritance
from onetrip.app.keeping import Keeper
from onetrip.app.limits import build_filters
from onetrip.app.listeners import Listeners, binding
from onetrip.app.nats import longest_silence
from onetrip.app.news import News
from onetrip.app.notify import Notifier
from onetrip.app.overrides import Overrides
from onetrip.app.probing import Probing
from onetrip.app.refusals import RefusalLog
from onetrip.app.releases import Releases
from onetrip.app.replication import Replicas
from onetrip.app.reports import ReportMaker
from onetrip.app.ring import EventRing
from onetrip.app.scoring import Scorer
from onetrip.app.succession import Succession, Successor
from onetrip.app.upgrade import Upgrade
from onetrip.app.vetting import Vetting
from onetrip.app.view import LiveView
from onetrip.app.webhooks import Webhooks
from onetrip.cluster.messages import PolicyRow
from onetrip.cluster.state import ClusterState, silent_after
from onetrip.control.api import build_admin
from onetrip.control.rates import RateLimit
from onetrip.errors import ApiError, ConfigError, Kind, OnetripError, ProbeError
from onetrip.estimate.filters import RttBook
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.catalog import Policy
from onetrip.model.measure import Drift, EstimateState, Sample, Target
from onetrip.model.status import PolicyChange
from onetrip.net.dial import TcpDialer
from onetrip.net.knock import TcpKnock
from onetrip.net.resolve import CachingResolver
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.observe.series import SeriesLimit
from onetrip.place.placer import Move
from onetrip.probe.base import Network
from onetrip.probe.runner import ProbeRunner
from onetrip.proxy.listener import ProxyServer
from onetrip.proxy.router import Routing
from onetrip.tasks import Tasks
from onetrip.timing import Clock, MonotonicClock

if TYPE_CHECKING:
    from onetrip.cluster.bus import BusLink
    from onetrip.cluster.sync import PeerSync

SAVE_INTERVAL = 15.0
"""Seconds between two writes of what was learned; at most this much is lost by a crash."""

SHIFT_PROBES = 8.0
"""Probe intervals within which nine in ten shifts of an RTT are believed, jitter included."""

SCORE_SHARE = 0.25
"""Share of the time that may go into scoring: thousands of busy routes are scored less often."""

STOP_TIMEOUT = 5.0
"""Bound on ending background work, s."""


class Node:
    """One region's node.

    Args:
        settings: checked configuration.
        log: event log.
        access: where access lines go, or None.
        inheritance: what the process was started with.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        log: Log,
        access: IO[bytes] | None = None,
        inheritance: Inheritance | None = None,
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
        self.metrics.watch_process()
        self._tasks = Tasks(self._task_failed)
        self._applying = Applying(self._apply_and_score, self._tasks)
        self._events = EventRing(clock)
        self._drains = Drains(settings, self.metrics, self._log, clock)
        self._base = settings.catalog
        self._inheritance = inheritance or Inheritance()
        self.listeners = Listeners(self._inheritance.sockets)
        self._upgrade: Upgrade | None = None

        dial = self._dial = TcpDialer(settings.source_address)
        if settings.peer_contexts is not None:  # probes begin before anything is served
            contexts = settings.peer_contexts
            dial.peer_tls, dial.forward_tls = contexts.client, contexts.forward
        self._has_peer_tls = settings.peer_contexts is not None
        self._refusals = RefusalLog(clock, self._peer_refused)
        self._rtts = RttBook(build_filters(settings.probe))
        self._traffic = TrafficBook(region, SHIFT_PROBES * settings.probe.interval)
        self._cluster = ClusterState(
            region,
            frozenset(settings.topology.regions),
            max(
                silent_after(settings.sync_interval, len(settings.topology.regions)),
                longest_silence(
                    settings.nats, settings.sync_interval, len(settings.topology.regions)
                ),
            ),
        )
        patience = SHIFT_PROBES * settings.probe.interval
        self._vetting = Vetting(
            region, patience, metrics=self.metrics, log=self._log, tell=self._tell
        )
        self.scorer = Scorer(
            region,
            rtts=self._rtts,
            traffic=self._traffic,
            cluster=self._cluster,
            vetting=self._vetting,
            clock=clock,
            metrics=self.metrics,
            log=self._log,
            publish=lambda snapshot: self.plane.publish(snapshot),
            on_move=self._moved,
            on_drift=self._drifted,
        )
        self.scorer.is_advising = settings.mode == "advise"
        self.scorer.draining = frozenset([region] if self._inheritance.is_draining else [])
        self.replicas = Replicas(
            region,
            scorer=self.scorer,
            cluster=self._cluster,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            log=self._log,
            tell=self._tell,
            tasks=self._tasks,
            on_found=self._apply_catalog,
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
        self._probing = Probing(
            region,
            prober=self._prober,
            scorer=self.scorer,
            rtts=self._rtts,
            cluster=self._cluster,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
        )
        ejections = EjectionLog(self._tell, self._log)
        self.plane = build_plane(
            settings,
            Hooks(
                self.scorer.observe,
                self._is_ready,
                self._refusals.note,
                failing=self._failing,
                tell=self._tell,
                on_verdict=ejections.note,
                guide=self.replicas.guide,
            ),
            dial=dial,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            log=self._log,
            access=access,
        )
        self.metrics.exported = SeriesLimit(self.metrics.exported, settings.max_series).registry()
        self._keeper = Keeper(
            settings.data_dir / region if settings.data_dir is not None else None,
            traffic=self._traffic,
            scorer=self.scorer,
            cluster=self._cluster,
            events=self._events,
            clock=clock,
            log=self._log,
        )
        self._releases = Releases(
            lambda: self.settings,
            keeper=self._keeper,
            network=Network(
                dial, TcpKnock(clock, settings.source_address), CachingResolver(clock), clock
            ),
            tasks=self._tasks,
            clock=clock,
            log=self._log,
            apply=self._resources_changed,
            news=News(self._tell, self.plane.purge, self.metrics, self._log),
        )
        self._discovery = Discovery(
            lambda: self.settings,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            tasks=self._tasks,
            log=self._log,
            tell=self._tell,
            on_change=self._applying.run,
        )
        self._overrides = Overrides(region, self._cluster, self._keeper, self._policies_changed)
        self._certificates = Certificates(
            settings,
            self.plane,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            log=self._log,
            tell=self._tell,
            tasks=self._tasks,
            on_change=self._use_certificates,
        )
        self._expiry = expiry.ExpiryWatch(self.metrics, clock, self._certificate_expires)
        self._webhooks = Webhooks(
            region,
            self._events,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            log=self._log,
            tell=self._tell,
        )
        self.view = LiveView(
            region,
            scorer=self.scorer,
            traffic=self._traffic,
            cluster=self._cluster,
            metrics=self.metrics,
            events=self._events,
            clock=clock,
            change=self._change_policy,
            preview=self._preview_policy,
            check=self.check,
            reload=self.reload,
            drain=self.set_draining,
            certificates=self._certificates.statuses,
            upgrade=self.upgrade,
            purge=self.plane.purge,
            take=lambda told: take_requests(self.plane, told),
            releases=self._releases,
            replicas=self.replicas,
            workers=self.plane.workers,
            webhooks=self._webhooks,
            envoys=self.plane.envoys,
            troubles=self._discovery.problems,
            suspicions=self._vetting.suspicions,
            store_problem=self._keeper.problem,
        )
        self._reports = reports = ReportMaker(
            region,
            self.view.started_at,
            rtts=self._rtts,
            traffic=self._traffic,
            scorer=self.scorer,
            cluster=self._cluster,
            clock=clock,
            ejections=ejections,
            releases=self._releases,
            replicas=self.replicas,
            discovery=self._discovery,
        )
        self._sync = self._build_sync(rng, reports)
        if self._sync is not None:
            self._overrides.on_change = self._sync.wake
        self._certificates.join(self._sync, self._cluster)
        self._releases.join(self._sync)
        self._shared = self.view.nats = self._share(rng, self._sync)
        self._admin: web.AppRunner | None = None
        self._rng = rng
        self.admin_port = self.peer_port = 0

    @property
    def proxy(self) -> ProxyServer:
        """The proxy, where it runs in this process."""
        assert isinstance(self.plane, LocalPlane)
        return self.plane.server

    @property
    def is_succeeded(self) -> bool:
        """Tell whether a successor serves."""
        return self._upgrade is not None and self._upgrade.is_done

    @property
    def proxy_port(self) -> int:
        """Where clients connect in clear."""
        return self.plane.ports.clients

    @property
    def tls_port(self) -> int:
        """Where clients connect over TLS, or 0."""
        return self.plane.ports.tls

    @property
    def forward_port(self) -> int:
        """Where peers forward to over TLS, or 0."""
        return self.plane.ports.forward

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up and serve.

        Raises:
            ConfigError: an address cannot be bound or the store cannot be used.
        """
        settings = self.settings
        await self._keeper.open()
        self._reports.boot = await self._keeper.begin(self.view.started_at)
        await self._webhooks.open(settings.webhooks, self._keeper.store)
        await self._releases.open()
        await self._discovery.prepare(settings)
        self._apply_catalog()
        await self.scorer.run_once()
        self._prober.start()
        self._drains.start(self._tasks, self._rng)
        self._every(settings.score_interval, self.scorer.run_once, "score", SCORE_SHARE)
        self._releases.start(self._every)
        if self._keeper.is_open:
            self._every(SAVE_INTERVAL, self._keeper.save, "save")
        if self._sync is not None:
            self._sync.follow(settings.topology)
        if self._shared is not None:
            self._every(settings.sync_interval, self._shared.exchange, "nats")
        if self._inheritance.has_predecessor:
            from onetrip.app.warmup import warm_up

            await warm_up(
                self.scorer,
                self._rtts,
                self._cluster,
                lambda: self._probing.targets,
                self._clock,
            )
        await self._certificates.open()
        await self._certificates.follow(self._base)
        await self.plane.start(settings, self.listeners)
        self._use_certificates()
        self._certificates.start()
        self._every(expiry.INTERVAL, self._expiry.check, "expiry")
        with binding("cluster.listen"):
            if self._sync is not None and settings.peer_listen is not None:
                sockets = await self.listeners.copies("peer_listen", settings.peer_listen)
                self.peer_port = await self._sync.serve_on(sockets)
        with binding("admin.listen"):
            self.admin_port = await self._start_admin()
        if unused := self.listeners.close_unused():
            self._log.warning("app.socket_unused", sockets=unused)
        at = "nowhere: advises only" if settings.mode == "advise" else str(settings.listen)
        self._log.info("app.started", version=onetrip.__version__, listen=at)
        self._inheritance.tell_ready(onetrip.__version__)

    async def stop(self, drain_timeout: float | None = None) -> None:
        """Drain the proxy, then end everything; safe to call after a failed start."""
        timeout = self.settings.drain_timeout if drain_timeout is None else drain_timeout
        self.listeners.close()
        await self._webhooks.close()
        if self.is_succeeded:  # it speaks for this region now
            await self._stop_answering()
        await self.plane.drain(timeout, is_patient=self.is_succeeded)
        await self.plane.stop()
        await self._prober.stop()
        await self._tasks.cancel(STOP_TIMEOUT)
        await self.replicas.close()
        await self._discovery.close()
        if self._shared is not None:
            await self._shared.close()
        if self._sync is not None:
            await self._sync.stop()
        await self._stop_answering()
        with contextlib.suppress(OnetripError):
            await self._keeper.save()
        await self._keeper.close()
        self._log.info("app.stopped")
        await self._drains.close()

    def prepare_upgrade(
        self, command: Sequence[str], notifier: Notifier, stand_down: Callable[[], None]
    ) -> None:
        """Make upgrades possible.

        Args:
            command: starts a node with the same configuration file and region.
            stand_down: called once a successor serves; stops this node.
        """
        self._upgrade = Upgrade(
            Succession(command, self.listeners),
            keeper=self._keeper,
            overrides=self._overrides,
            notifier=notifier,
            metrics=self.metrics,
            log=self._log,
            tell=self._tell,
            stand_down=stand_down,
        )

    async def upgrade(self) -> Successor:
        """Start a successor and hand over to it.

        Raises:
            ApiError: it did not get ready, and this node goes on; or upgrades are not prepared.
        """
        if self._upgrade is None:
            raise ApiError("this process cannot start a successor", kind=Kind.CONFLICT)
        return await self._upgrade.run(is_draining=bool(self.scorer.draining))

    async def _stop_answering(self) -> None:
        """Stop answering peers and people."""
        if self._sync is not None:
            await self._sync.stop_serving()
        if self._admin is not None:
            await self._admin.cleanup()

    async def reload(self) -> str:
        """Read the configuration again and apply what can change live.

        Raises:
            ConfigError: it cannot be used; the old one keeps running.
        """
        try:
            settings = await self._load()
        except ConfigError as error:
            self.metrics.reloads.labels("refused").inc()
            self._log.error("app.reload_refused", reason=str(error))
            self._events.add("app.reload_refused", str(self.settings.path), str(error))
            raise
        fixed = self._fixed(settings)
        await self._discovery.prepare(settings)
        self.settings = settings
        self._use_certificates()
        self._cluster.update_regions(frozenset(settings.topology.regions))
        self._apply_catalog()
        if self._sync is not None:
            self._sync.follow(settings.topology)
        await self._webhooks.apply(settings.webhooks)
        fixed += await self._certificates.apply(settings, self._base)
        note = f"; needs a restart: {', '.join(fixed)}" if fixed else ""
        text = f"{len(settings.catalog.projects)} projects applied{note}"
        self.metrics.reloads.labels("applied").inc()
        self._log.info("app.reloaded", detail=text)
        self._events.add("app.reloaded", str(settings.path), text)
        return text

    async def check(self) -> str:
        """Read the configuration as `reload` would, and apply nothing.

        Raises:
            ConfigError: it cannot be used.
        """
        settings = await self._load()
        fixed = self._fixed(settings)
        note = f"; would need a restart: {', '.join(fixed)}" if fixed else ""
        return f"{len(settings.catalog.projects)} projects would be applied{note}"

    async def _load(self) -> Settings:
        settings = await asyncio.to_thread(
            load_settings,
            self.settings.path,
            self.region,
            advise=self.settings.is_told_to_advise,
        )
        Routing.build(settings.catalog)
        if (settings.peer_contexts is not None) is not self._has_peer_tls:
            raise ConfigError(f"{settings.path}: cluster.tls: on or off needs a restart")
        return settings

    def _fixed(self, settings: Settings) -> list[str]:
        """Return the keys whose change needs a restart."""
        own = (
            "mode",
            "workers",
            "envoy",
            "source_address",
            "data_dir",
            "proxy",
            "otlp",
            "sentry",
            "admin_rate",
            "admin_burst",
            "max_series",
            "nats",
        )
        keys = (*LISTEN_KEYS, *own)
        return [key for key in keys if getattr(settings, key) != getattr(self.settings, key)]

    def _every(
        self, interval: float, work: Callable[[], Awaitable[object]], name: str, share: float = 1.0
    ) -> None:
        self._tasks.every(interval, work, name, self._clock, self._rng, share=share)

    async def set_draining(self, is_draining: bool) -> None:
        """Take this region out of every placement while another can serve, or back in."""
        self.scorer.draining = frozenset([self.region] if is_draining else [])
        self._tell("app.draining" if is_draining else "app.undrained", self.region, "")
        self._log.info("app.draining_changed", is_draining=is_draining)
        if self._sync is not None:
            self._sync.wake()
        await self.scorer.run_once()

    # --- what the parts call ----------------------------------------------------------------

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
        if estimate is None or estimate.state is not EstimateState.FAILING:
            return not self._probing.is_silent(target)
        return False

    def _failing(self) -> frozenset[Target]:
        row = self.scorer.rows.get(self.region, {})
        failing = frozenset(t for t, e in row.items() if e.state is EstimateState.FAILING)
        return failing | self._probing.silent()

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
        self._log.error("app.task_failed", cause=error, task=name, error=kind, reason=str(error))

    def _tell(self, name: str, subject: str, detail: str) -> None:
        event = self._events.add(name, subject, detail)
        if self._keeper.is_open:
            self._tasks.spawn(self._keeper.keep_event(event), "store-event")

    # --- policies ---------------------------------------------------------------------------

    def _apply_catalog(self) -> None:
        settings = self.settings
        self._base = self._discovery.fill(self.replicas.with_found(self._releases.catalog()))
        catalog = policies.effective(self._base, self._cluster.policies(), settings.topology)
        self.plane.update(catalog, settings.topology)
        self.scorer.update(settings.topology, catalog)
        self.replicas.follow(catalog)
        self._probing.update(settings.topology, catalog, settings.probe.peers)

    async def _change_policy(self, project: str, change: PolicyChange, is_whole: bool) -> Policy:
        topology = self.settings.topology
        await self._overrides.change(self._base, topology, project, change, is_whole)
        return self.scorer.catalog.projects[project].policy

    def _preview_policy(self, project: str, change: PolicyChange, is_whole: bool) -> Policy:
        topology = self.settings.topology
        return self._overrides.plan(self._base, topology, project, change, is_whole)[1]

    async def _apply_and_score(self) -> None:
        self._apply_catalog()
        await self.scorer.run_once()

    async def _policies_changed(self, rows: list[PolicyRow]) -> None:
        await self._applying.run()
        for row in rows:
            mode = row.mode.value if row.mode is not None else "unchanged"
            detail = f"placement {mode}" + (f", hint {row.hint}" if row.hint else "")
            self._log.info("app.policy_changed", project=row.project, detail=detail)
            self._tell("app.policy_changed", row.project, f"{detail}, by {row.origin}")

    async def _resources_changed(self) -> None:
        await self._applying.run()
        await self._certificates.follow(self._base)

    def _policies_arrived(self, rows: list[PolicyRow]) -> None:
        self._tasks.spawn(self._overrides.take(rows), "policies")

    # --- parts ------------------------------------------------------------------------------

    def _build_sync(self, rng: Random, reports: ReportMaker) -> PeerSync | None:
        settings = self.settings
        if settings.cluster_secret is None:
            return None
        from onetrip.cluster.sync import PeerSync  # memory, for a node alone

        return PeerSync(
            self.region,
            settings.cluster_secret,
            self._cluster,
            reports.make,
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

    def _share(self, rng: Random, sync: PeerSync | None) -> BusLink | None:
        settings = self.settings
        if settings.nats is None or settings.cluster_secret is None or sync is None:
            return None
        from onetrip.app.nats_link import join  # memory, for who has no NATS

        return join(
            settings.nats,
            self.region,
            settings.cluster_secret,
            cluster=self._cluster,
            sync=sync,
            on_policies=self._policies_arrived,
            on_refused=self._refusals.note,
            releases=self._releases,
            overrides=self._overrides,
            interval=settings.sync_interval,
            clock=self._clock,
            rng=rng,
            metrics=self.metrics,
            log=self._log,
            tasks=self._tasks,
            tell=self._tell,
        )

    def _use_certificates(self) -> None:
        """Serve the certificates of the settings from the next handshake on."""
        in_use = self.plane.use_certificates(self.settings, self._certificates.issued)
        contexts = self.settings.peer_contexts
        if contexts is not None and self._has_peer_tls:
            self._dial.peer_tls, self._dial.forward_tls = contexts.client, contexts.forward
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
            self.view,
            token=settings.admin_token,
            log=self._log,
            wall=self._clock.wall,
            store=self._keeper.store,
            rates=RateLimit(settings.admin_rate, settings.admin_burst, self._clock.now),
            clock=self._clock,
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._admin.setup()
        for sock in await self.listeners.copies("admin", settings.admin):
            await web.SockSite(self._admin, sock).start()
        return int(self._admin.addresses[0][1])
