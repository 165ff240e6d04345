"""Puts automatic certificates to work: orders them, answers for them, serves them.

Without `tls.acme` nothing of it is imported: the library for it takes more memory than all else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import onetrip
from onetrip.acme.settings import AcmeSettings, Challenge
from onetrip.app.config import Settings
from onetrip.app.dataplane import DataPlane
from onetrip.errors import AcmeError, ConfigError
from onetrip.model.status import CertificateState, CertificateStatus
from onetrip.net.tls import Certificate, ServerContext, load_certificate
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.acme.renewer import Renewer

FOLDER = "acme"
"""Under the node's own folder of `data_dir`."""


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
        self._renewer: Renewer | None = None

    @property
    def issued(self) -> list[ServerContext]:
        """What was ordered and can be served now."""
        return self._renewer.contexts() if self._renewer is not None else []

    async def open(self) -> None:
        """Read what was ordered before.

        Raises:
            ConfigError: it cannot be kept.
        """
        acme = self._settings.acme
        if acme is not None:
            try:
                self._renewer = await asyncio.to_thread(self._build, acme)
            except AcmeError as error:
                raise ConfigError(f"data_dir: {error}") from error
            await self._renewer.update(acme.domains)

    def start(self) -> None:
        """Order what is missing, and renew from now on."""
        if self._renewer is not None:
            from onetrip.acme.renewer import CHECK_INTERVAL

            check = self._renewer.check
            self._tasks.every(CHECK_INTERVAL, check, "acme", self._clock, self._rng)

    async def apply(self, settings: Settings) -> list[str]:
        """Take over what a reload changed; return the keys that need a restart."""
        before, after, terms = self._settings.acme, settings.acme, self._settings.tls_terms
        self._settings = settings
        if before is None or after is None or self._renewer is None:
            return ["tls.acme"] if before != after else []
        await self._renewer.update(after.domains)
        await self._renewer.check()
        is_fixed = _fixed(before) != _fixed(after) or terms != settings.tls_terms
        return ["tls.acme"] if is_fixed else []

    def statuses(self) -> list[CertificateStatus]:
        """Return every certificate that clients can get, and those still to come."""
        files = self._settings.certificates
        found = [self._file_status(c) for c in files.all] if files is not None else []
        return found + (self._renewer.statuses() if self._renewer is not None else [])

    def _file_status(self, certificate: Certificate) -> CertificateStatus:
        is_over = self._clock.wall() >= certificate.expires_at
        return CertificateStatus(
            certificate.names.hosts,
            CertificateState.EXPIRED if is_over else CertificateState.VALID,
            is_automatic=False,
            issuer=certificate.issuer,
            expires_at=certificate.expires_at,
        )

    def _build(self, acme: AcmeSettings) -> Renewer:
        from onetrip.acme.protocol import AcmeAuthority
        from onetrip.acme.renewer import Renewer
        from onetrip.acme.storage import Storage

        settings = self._settings
        assert settings.data_dir is not None, "checked with the configuration"
        storage = Storage(settings.data_dir / settings.region / FOLDER, acme.directory)
        storage.open()
        agent = f"onetrip/{onetrip.__version__}"
        answers = PlaneAnswers(self._plane, self._clock)
        terms = settings.tls_terms
        return Renewer(
            AcmeAuthority(acme, storage, answers, self._clock, agent),
            storage,
            lambda path: load_certificate(
                path, path, min_version=terms.min_version, protocols=terms.protocols
            ),
            renew_ratio=acme.renew_ratio,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            log=self._log,
            tell=self._tell,
            on_change=self._on_change,
            spawn=self._tasks.spawn,
        )


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
    )
