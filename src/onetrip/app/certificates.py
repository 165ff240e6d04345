"""Puts automatic certificates to work: orders them, answers for them, serves them.

Without `tls.acme` nothing of it is imported: the library for it takes more memory than all else.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

import onetrip
from onetrip.acme.settings import AcmeSettings, Challenge
from onetrip.app.automatic import follow_hosts
from onetrip.app.config import Settings
from onetrip.app.dataplane import DataPlane
from onetrip.cluster.state import ClusterState
from onetrip.errors import AcmeError, ConfigError
from onetrip.model.catalog import Catalog
from onetrip.model.status import CertificateState, CertificateStatus
from onetrip.model.topology import RegionId
from onetrip.net.tls import Certificate, ServerContext, load_certificate
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.acme.storage import Storage
    from onetrip.cluster.sync import PeerSync

CHECK_INTERVAL = 10.0
"""Time between two looks at what has to be ordered, s."""

FOLLOW_INTERVAL = 1.0
"""Most time between two questions to the node that orders, s; an order waits for two of them."""

GRACE = 10.0
"""Time after the start in which a peer that was not heard yet counts as alive, s."""

MAX_TOLD = 20
"""Hosts without a certificate that a log line names."""

FOLDER = "acme"
"""Under the node's own folder of `data_dir`."""


class Source(Protocol):
    """Where certificates come from: this node's orders, or a peer's."""

    async def update(self, domains: tuple[str, ...]) -> None:
        """Have certificates for these domains from now on."""

    async def check(self) -> None:
        """Do what is due."""

    def served(self) -> dict[str, ServerContext]:
        """Return what can be served now, by domain."""

    def statuses(self) -> list[CertificateStatus]:
        """Return how each domain is."""


class Certificates:
    """The certificates of a node: those of files, and those that it orders.

    Args:
        tell: makes an event, of a name, a subject and a detail.
        on_change: called when other certificates are to be served.
    """

    def __init__(
        self,
        settings: Settings,
        plane: DataPlane,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], None],
        tasks: Tasks,
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._tasks = tasks
        self._on_change = on_change
        self._source: Source | None = None
        self._sync: PeerSync | None = None
        self._cluster: ClusterState | None = None
        self._opened_at = -math.inf

    @property
    def issued(self) -> list[ServerContext]:
        """What was ordered and can be served now."""
        return list(self._source.served().values()) if self._source is not None else []

    def join(self, sync: PeerSync | None, cluster: ClusterState) -> None:
        """Share with the other nodes what is ordered; call before `open`."""
        self._sync, self._cluster = sync, cluster

    async def open(self) -> None:
        """Read what was ordered before.

        Raises:
            ConfigError: it cannot be kept.
        """
        acme = self._settings.acme
        if acme is not None:
            self._warn(acme)
            try:
                self._source = await asyncio.to_thread(self._build, acme)
            except AcmeError as error:
                raise ConfigError(f"data_dir: {error}") from error
            self._opened_at = self._clock.now()
            await self._source.update(acme.domains)

    def start(self) -> None:
        """Order what is missing, and renew from now on."""
        if self._source is not None:
            is_ours = self._is_ours(self._settings.acme)
            follow = min(FOLLOW_INTERVAL, self._settings.sync_interval)
            interval = CHECK_INTERVAL if is_ours else follow
            self._tasks.every(interval, self._source.check, "acme", self._clock, self._rng)

    async def follow(self, catalog: Catalog) -> None:
        """Order for the hosts of another catalog, where they are others than before."""
        acme, settings = self._settings.acme, self._settings
        if acme is not None and follow_hosts(acme, settings.certificates, catalog) != acme:
            await self.apply(settings, catalog)

    async def apply(self, settings: Settings, catalog: Catalog) -> list[str]:
        """Take over what a reload changed; return the keys that need a restart.

        Args:
            catalog: what is in force, with hosts that the configuration does not know.
        """
        if settings.acme is not None:
            acme = follow_hosts(settings.acme, settings.certificates, catalog)
            settings = replace(settings, acme=acme)
        before, after, terms = self._settings.acme, settings.acme, self._settings.tls_terms
        self._settings = settings
        if before is None or after is None or self._source is None:
            return ["tls.acme"] if before != after else []
        if before.left_out != after.left_out:
            self._warn(after)
        await self._source.update(after.domains)
        self._tasks.spawn(self._source.check(), "acme")
        is_fixed = _fixed(before) != _fixed(after) or terms != settings.tls_terms
        return ["tls.acme"] if is_fixed else []

    def statuses(self) -> list[CertificateStatus]:
        """Return every certificate that clients can get, and those still to come."""
        files = self._settings.certificates
        found = [self._file_status(c) for c in files.all] if files is not None else []
        return found + (self._source.statuses() if self._source is not None else [])

    def _file_status(self, certificate: Certificate) -> CertificateStatus:
        is_over = self._clock.wall() >= certificate.expires_at
        return CertificateStatus(
            certificate.names.hosts,
            CertificateState.EXPIRED if is_over else CertificateState.VALID,
            is_automatic=False,
            issuer=certificate.issuer,
            expires_at=certificate.expires_at,
        )

    def _warn(self, acme: AcmeSettings) -> None:
        if acme.left_out:
            hosts = ", ".join(acme.left_out[:MAX_TOLD])
            self._log.warning("acme.hosts_left_out", count=len(acme.left_out), hosts=hosts)

    def _is_ours(self, acme: AcmeSettings | None) -> bool:
        return acme is not None and acme.region == self._settings.region

    def _build(self, acme: AcmeSettings) -> Source:
        from onetrip.acme.storage import Storage

        settings = self._settings
        assert settings.data_dir is not None, "checked with the configuration"
        storage = Storage(settings.data_dir / settings.region / FOLDER, acme.directory)
        storage.open(self._clock.wall())
        return (self._build_renewer if self._is_ours(acme) else self._build_follower)(acme, storage)

    def _build_renewer(self, acme: AcmeSettings, storage: Storage) -> Source:
        from onetrip.acme.protocol import AcmeAuthority
        from onetrip.acme.renewer import Renewer
        from onetrip.acme.sharing import PAIRS, STATE, Sharing

        sharing = Sharing(
            PlaneAnswers(self._plane, self._clock), storage, self._live_peers, self._clock
        )
        agent = f"onetrip/{onetrip.__version__}"
        renewer = Renewer(
            AcmeAuthority(acme, storage, sharing, self._clock, agent),
            storage,
            self._load,
            renew_ratio=acme.renew_ratio,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            log=self._log,
            tell=self._tell,
            on_change=self._on_change,
            spawn=self._tasks.spawn,
        )
        sharing.served = renewer.served
        if self._sync is not None:
            self._sync.secrets.update({STATE: sharing.state_for, PAIRS: sharing.pairs_for})
        return renewer

    def _build_follower(self, acme: AcmeSettings, storage: Storage) -> Source:
        from onetrip.acme.follower import Follower

        assert self._sync is not None, "several regions with cluster.tls have a secret"
        return Follower(
            partial(self._sync.fetch_secret, RegionId(acme.region)),
            PlaneAnswers(self._plane, self._clock),
            storage,
            self._load,
            renew_ratio=acme.renew_ratio,
            clock=self._clock,
            metrics=self._metrics,
            log=self._log,
            tell=self._tell,
            on_change=self._on_change,
        )

    def _load(self, path: Path) -> ServerContext:
        terms = self._settings.tls_terms
        return load_certificate(
            path, path, min_version=terms.min_version, protocols=terms.protocols
        )

    def _live_peers(self) -> list[str]:
        if self._sync is None or self._cluster is None:
            return []
        now = self._clock.now()
        is_young = now - self._opened_at < GRACE
        return [
            peer.region
            for peer in self._cluster.peers(now)
            if peer.is_alive or (is_young and math.isinf(peer.age))
        ]


class PlaneAnswers:
    """Answers challenges at this node's own listeners."""

    def __init__(self, plane: DataPlane, clock: Clock) -> None:
        self._plane = plane
        self._clock = clock

    async def put(self, challenge: Challenge) -> None:
        """See `acme.settings.Answers`."""
        if challenge.kind == "http-01":
            self._plane.answer_http(challenge.token, challenge.key_authorization)
            return
        from onetrip.acme.keys import make_proof

        pair = await asyncio.to_thread(partial(make_proof, challenge, self._clock.wall()))
        self._plane.answer_tls(challenge.domain, pair)

    def take(self, challenge: Challenge) -> None:
        """See `acme.settings.Answers`."""
        if challenge.kind == "http-01":
            self._plane.answer_http(challenge.token, None)
        else:
            self._plane.answer_tls(challenge.domain, None)


def _fixed(acme: AcmeSettings) -> tuple[object, ...]:
    return (
        acme.directory,
        acme.email,
        acme.challenge,
        acme.key_type,
        acme.renew_ratio,
        acme.ca_file,
        acme.external_account,
        acme.region,
    )
