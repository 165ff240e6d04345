"""A node that orders nothing: answers for the one that does, and serves what that one got.

What it got is kept on disk here too, so that a restart does not depend on the other node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from onetrip.acme.held import Held
from onetrip.acme.renewer import Load, Tell
from onetrip.acme.settings import Answers, Challenge
from onetrip.acme.sharing import PAIRS, STATE, State, decode_pairs, decode_state, digest_of
from onetrip.acme.storage import Storage
from onetrip.errors import OnetripError, PeerError
from onetrip.model.status import CertificateState, CertificateStatus
from onetrip.net.tls import ServerContext
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

Fetch = Callable[[str], Awaitable[bytes]]
"""Asks the ordering node for what it shares under a name; raises `PeerError`."""


class Follower:
    """The certificates of a node whose peer orders them.

    Args:
        fetch: asks that peer.
        renew_ratio: share of the lifetime that is left when the other node renews.
        on_change: called when other certificates are to be served.
    """

    def __init__(
        self,
        fetch: Fetch,
        answers: Answers,
        storage: Storage,
        load: Load,
        *,
        renew_ratio: float,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        tell: Tell,
        on_change: Callable[[], None],
    ) -> None:
        self._fetch = fetch
        self._answers = answers
        self._storage = storage
        self._load = load
        self._renew_ratio = renew_ratio
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._on_change = on_change
        self._held: dict[str, Held] = {}
        self._digests: dict[str, str] = {}
        self._answered: set[Challenge] = set()

    async def update(self, domains: tuple[str, ...]) -> None:
        """Serve these domains from now on, with what is on disk already."""
        known, self._held = self._held, {}
        for domain in domains:
            self._held[domain] = known.get(domain) or Held(domain)
            if domain not in known:
                await self._restore(self._held[domain])
        self._on_change()
        self._count()

    def served(self) -> dict[str, ServerContext]:
        """Return what can be served now, by domain."""
        return {d: held.context for d, held in self._held.items() if held.context is not None}

    def statuses(self) -> list[CertificateStatus]:
        """Return how each domain is, as far as this node knows."""
        now, wall = self._clock.now(), self._clock.wall()
        return [held.status(now, wall) for held in self._held.values()]

    async def check(self) -> None:
        """Ask the other node, and do as it says."""
        try:
            state = decode_state(await self._fetch(STATE))
            await self._answer(state)
            wanted = [
                domain
                for domain, digest in state.certificates.items()
                if domain in self._held and self._digests.get(domain) != digest
            ]
            if wanted:
                pairs = decode_pairs(await self._fetch(PAIRS))
                for domain in wanted:
                    await self._take(self._held[domain], pairs.get(domain, b""))
        except PeerError as error:
            # cluster.peer_lost tells of it; what is here is served on.
            self._log.debug("acme.peer_silent", reason=str(error))
        self._count()

    async def _answer(self, state: State) -> None:
        wanted = {
            Challenge(r.domain, r.kind, r.token, r.key_authorization) for r in state.challenges
        }
        for challenge in self._answered - wanted:
            self._answers.take(challenge)
        for challenge in wanted - self._answered:
            await self._answers.put(challenge)
        self._answered = wanted

    async def _take(self, held: Held, pair: bytes) -> None:
        self._digests[held.domain] = digest_of(pair)  # a pair that is refused once stays refused
        try:
            context = await asyncio.to_thread(self._storage.save, held.domain, pair, self._load)
        except OnetripError as error:
            held.error = str(error)
            self._log.warning("acme.certificate_refused", domain=held.domain, reason=str(error))
            return
        self._use(held, context)
        self._log.info("acme.certificate_received", domain=held.domain)
        self._tell("acme.certificate_received", held.domain, "from the node that orders")
        self._on_change()

    async def _restore(self, held: Held) -> None:
        try:
            pair = await asyncio.to_thread(self._storage.load, held.domain)
            if pair is not None:
                path = self._storage.path(held.domain)
                self._use(held, await asyncio.to_thread(self._load, path))
                self._digests[held.domain] = digest_of(pair)
        except OnetripError as error:
            self._log.warning("acme.certificate_unusable", domain=held.domain, reason=str(error))

    def _use(self, held: Held, context: ServerContext) -> None:
        # Chance plays no part: this node does not decide when to renew.
        held.take(context, str(self._storage.path(held.domain)), self._renew_ratio, Random(0))

    def _count(self) -> None:
        found = [status.state for status in self.statuses()]
        for state in CertificateState:
            self._metrics.acme_certificates.labels(state.value).set(found.count(state))
