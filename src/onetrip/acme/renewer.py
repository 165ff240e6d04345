"""Keeps a certificate for every domain: orders the first one, renews it in time, backs off.

Every domain is on its own: one that cannot be issued is tried again later and later, and holds up
neither the others nor the node. What fails for a reason that all share (the authority is away)
makes all of them wait, so that a thousand domains do not knock at a door that is shut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

from onetrip.acme.held import Held, retry_delay
from onetrip.acme.settings import Authority
from onetrip.acme.storage import Storage
from onetrip.errors import AcmeError, ConfigError, OnetripError
from onetrip.model.status import CertificateState, CertificateStatus
from onetrip.net.tls import ServerContext
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

MAX_ORDERS = 4
"""Orders in progress at once; each has one challenge answered at a time."""

ASK_AGAIN = 6 * 3600.0
"""Time before an authority that did not say when to renew is asked again, s (RFC 9773 4.3.3)."""

Load = Callable[[Path], ServerContext]
"""Reads a file of key and chain, and checks that it can be served; raises `ConfigError`."""

Tell = Callable[[str, str, str], None]
"""Makes an event, of its name, a domain and a detail."""


class Renewer:
    """The certificates of one node's domains.

    Args:
        domains: see `update`.
        renew_ratio: renew when this share of a certificate's lifetime is left.
        on_change: called after a certificate came or a domain left.
        spawn: starts a supervised task.
    """

    def __init__(
        self,
        authority: Authority,
        storage: Storage,
        load: Load,
        *,
        renew_ratio: float,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Tell,
        on_change: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]],
    ) -> None:
        self._authority = authority
        self._storage = storage
        self._load = load
        self._renew_ratio = renew_ratio
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._on_change = on_change
        self._spawn = spawn
        self._held: dict[str, Held] = {}
        self._closed_until = 0.0  # monotonic; what failed would fail for every domain until then
        self._shared_failures = 0
        self._slots = asyncio.Semaphore(MAX_ORDERS)

    async def update(self, domains: tuple[str, ...]) -> None:
        """Keep certificates for these domains from now on, and serve what is on disk already.

        Files of domains that left stay, in case they come back.
        """
        known, self._held = self._held, {}
        for domain in domains:
            self._held[domain] = known.get(domain) or Held(domain)
        fresh = [held for domain, held in self._held.items() if domain not in known]
        for held in fresh:
            await self._restore(held)
        if fresh or len(known) != len(self._held):
            self._on_change()
        self._count()

    def served(self) -> dict[str, ServerContext]:
        """Return what can be served now, by domain."""
        return {d: held.context for d, held in self._held.items() if held.context is not None}

    def statuses(self) -> list[CertificateStatus]:
        """Return how each domain is."""
        now, wall = self._clock.now(), self._clock.wall()
        return [held.status(now, wall) for held in self._held.values()]

    async def check(self) -> None:
        """Start the orders that are due, and ask when to renew where the answer has aged."""
        now, wall = self._clock.now(), self._clock.wall()
        for held in list(self._held.values()):
            if held.is_busy or now < self._closed_until:
                continue
            if held.is_due(wall):
                if now >= held.retry_at:
                    held.is_busy = True
                    self._spawn(self._work(held, self._order), "acme-order")
            elif now >= held.ask_at:
                held.is_busy = True
                self._spawn(self._work(held, self._ask), "acme-ask")
        self._count()

    # --- one domain -------------------------------------------------------------------------

    async def _restore(self, held: Held) -> None:
        path = self._storage.path(held.domain)
        try:
            if await asyncio.to_thread(path.exists):
                self._take(held, await asyncio.to_thread(self._load, path))
        except (ConfigError, OSError) as error:
            # Expired or damaged: the next order replaces it.
            self._log.warning("acme.certificate_unusable", domain=held.domain, reason=str(error))

    async def _work(self, held: Held, work: Callable[[Held], Coroutine[Any, Any, None]]) -> None:
        try:
            async with self._slots:
                await work(held)
        finally:
            held.is_busy = False
            self._count()

    async def _order(self, held: Held) -> None:
        # While this one waited for its turn, another may have found the authority shut.
        if self._clock.now() < self._closed_until or self._held.get(held.domain) is not held:
            return
        try:
            old = None
            if held.context is not None:
                old = await asyncio.to_thread(self._storage.load, held.domain)
            pair = await self._authority.order(held.domain, old)
            context = await asyncio.to_thread(self._storage.save, held.domain, pair, self._load)
        except OnetripError as error:
            self._failed(held, error)
            return
        self._take(held, context)
        held.rest(self._clock.now())
        self._shared_failures = 0
        self._metrics.acme_orders.labels("issued").inc()
        days = f"{(context.certificate.expires_at - self._clock.wall()) / 86400:.1f} days"
        self._log.info("acme.certificate_issued", domain=held.domain, valid_for=days)
        self._tell("acme.certificate_issued", held.domain, f"valid for {days}")
        self._on_change()

    def _take(self, held: Held, context: ServerContext) -> None:
        held.take(context, str(self._storage.path(held.domain)), self._renew_ratio, self._rng)

    def _failed(self, held: Held, error: OnetripError) -> None:
        reason, wanted, is_global = "unusable", None, False
        if isinstance(error, AcmeError):
            reason, wanted, is_global = error.reason, error.retry_after, error.is_global
        now = self._clock.now()
        delay = held.fail(str(error), now, wanted, self._rng)
        if is_global:
            self._shared_failures += 1
            shared = retry_delay(self._shared_failures, wanted, self._rng)
            self._closed_until = max(self._closed_until, now + shared)
        self._metrics.acme_orders.labels(reason).inc()
        self._log.warning(
            "acme.order_failed",
            domain=held.domain,
            reason=reason,
            detail=held.error,
            failures=held.failures,
            retry_after=round(delay),
        )
        self._tell("acme.order_failed", held.domain, held.error)

    async def _ask(self, held: Held) -> None:
        """Ask the authority when it wants the certificate renewed; its word goes before ours."""
        pair = await asyncio.to_thread(self._storage.load, held.domain)
        try:
            said = await self._authority.suggest(pair or b"")
        except OnetripError as error:
            held.ask_at = self._clock.now() + ASK_AGAIN
            self._log.info("acme.renewal_unknown", domain=held.domain, reason=str(error))
            return
        held.ask_at = self._clock.now() + said.ask_after
        if said.renew_at is not None:
            held.move_renewal(said.renew_at)

    def _count(self) -> None:
        found = [status.state for status in self.statuses()]
        for state in CertificateState:
            self._metrics.acme_certificates.labels(state.value).set(found.count(state))
