"""Sessions: a client reads what it wrote, and never less than it has seen.

A token (`wire/consistency_token`) tells what its client has written and seen, as a position per
backend. The node that runs a request on an instance sees to it that the endpoint which the
application reads has that position: it asks the nearest one, waits for it up to a bound, and names
the primary to the application otherwise. Before it passes the answer on, it asks how far that
endpoint (after a write, the primary) is by then: whatever the answer shows is covered by that, so
it is the client's next position. A node that forwards to a peer passes tokens on as they are.

Where an endpoint shows less after the answer than the client had seen, it was started again
between the two questions, and the answer is not to be trusted; nor is it where what was read as
the primary is a replica by then.

Questions are asked now, not taken from an earlier look (`model/replication.Replication`). One that
has no answer leaves the position unknown, and then only the primary will do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from onetrip.errors import ReplicationError
from onetrip.model.consistency import Carry, Consistency, Freshness
from onetrip.model.measure import MethodClass
from onetrip.proxy.session_fields import cookie_line, find_tokens, read_line, token_line
from onetrip.wire.consistency_token import Refusal, Session, TokenSigner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onetrip.model.catalog import Catalog, Environment
    from onetrip.model.replication import Position, Replication
    from onetrip.model.topology import RegionId
    from onetrip.observe.metrics import Metrics
    from onetrip.proxy.router import Match
    from onetrip.timing import Clock
    from onetrip.wire.http1 import Fields

ANSWER_TIMEOUT = 1.0
"""Longest wait for the position that an answer shows, s; it holds the answer back. Three round
trips around the world."""

RENEWED_AFTER = 0.5
"""Share of its life after which a token is signed anew, although nothing changed."""


class Guide(Protocol):
    """What a node knows of where applications read."""

    @property
    def replication(self) -> Replication:
        """Who tells positions."""

    def nearest(self, environment: Environment, backend: str, region: RegionId) -> str:
        """Return the endpoint that an instance in `region` reads; must be quick."""

    def primary(self, backend: str) -> str:
        """Return the endpoint that takes writes now; must be quick."""

    def home(self, backend: str) -> RegionId | None:
        """Return the region that the primary is nearest to, None where that is not known."""


class ConsistencyBook:
    """The promises of one node's projects, and what keeps them.

    Args:
        guide: told where applications read.
    """

    def __init__(self, guide: Guide, clock: Clock, metrics: Metrics) -> None:
        self.guide = guide
        self.clock = clock
        self._metrics = metrics
        self._signers: dict[str, tuple[Consistency, TokenSigner]] = {}

    def update(self, catalog: Catalog) -> None:
        """Promise what the projects of `catalog` promise."""
        signers: dict[str, tuple[Consistency, TokenSigner]] = {}
        for environment in catalog.environments():
            terms = environment.consistency
            if terms is not None:
                signers[environment.id.project] = (terms, TokenSigner(terms.keys, terms.max_age))
        self._signers = signers

    def open(self, match: Match, fields: Fields, *, from_peer: bool) -> Pledge | None:
        """Return what is owed to a request, None where nothing is promised.

        Args:
            fields: of the request; its tokens may come from anyone.
        """
        known = self._signers.get(match.environment.id.project)
        if match.environment.consistency is None or known is None:
            return None
        terms, signer = known
        session, signed_at, now = Session(), 0, self.clock.wall()
        tokens = find_tokens(fields, terms.carry, from_peer=from_peer)
        for token in tokens:
            found = signer.read(token, now)
            if isinstance(found, Refusal):
                self._metrics.consistency_refused.labels(found.value).inc()
            else:
                session = session.join(found[0])
                signed_at = max(signed_at, found[1])
        return Pledge(self, match, terms, signer, session, signed_at, tokens, from_peer=from_peer)

    def count(self, outcome: Freshness) -> None:
        """Count one read that brought a token, by how it was kept fresh."""
        self._metrics.consistency.labels(outcome.value).inc()

    async def ask(self, backend: str, endpoint: str) -> Position | None:
        """Return what an endpoint shows now, None when it does not tell in time.

        Args:
            endpoint: "" for the primary, whichever that is.
        """
        replication = self.guide.replication
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                if endpoint:
                    return await replication.shown(backend, endpoint)
                return await replication.position(backend)
        except (TimeoutError, ReplicationError):
            return None


class Pledge:
    """What is owed to one request.

    Attributes:
        tokens: that it brought, as they are.
        freshness: how it was kept fresh; None before that is settled, and for what may write.
    """

    def __init__(
        self,
        book: ConsistencyBook,
        match: Match,
        terms: Consistency,
        signer: TokenSigner,
        session: Session,
        signed_at: int,
        tokens: Sequence[bytes],
        *,
        from_peer: bool,
    ) -> None:
        self._book = book
        self._environment = match.environment
        self._method = match.key.method
        self._terms = terms
        self._signer = signer
        self._session = session
        self._signed_at = signed_at
        self._from_peer = from_peer
        self._reads: dict[RegionId, dict[str, str]] = {}
        self._answer: bytes | None = None
        self.tokens = tokens
        self.freshness: Freshness | None = None

    @property
    def is_write(self) -> bool:
        """Tell whether the request may write."""
        return self._method is MethodClass.WRITE

    @property
    def avoids_kept(self) -> bool:
        """Tell whether a kept response may be older than what the client wrote."""
        return not self.is_write and self._session.wrote_at > 0

    @property
    def home(self) -> RegionId | None:
        """The region nearest to every primary, if there is one."""
        regions = {self._book.guide.home(backend) for backend in self._backends}
        return regions.pop() if len(regions) == 1 else None

    @property
    def _backends(self) -> list[str]:
        return sorted(self._environment.reads_nearest)

    async def settle(self, region: RegionId, within: float) -> None:
        """Find out which endpoints an instance in `region` may read, and wait for them.

        Args:
            within: longest wait, s, where the project does not set a shorter one.
        """
        guide, worst = self._book.guide, Freshness.FRESH
        ends_at = self._book.clock.now() + min(self._terms.wait, within)
        reads: dict[str, str] = {}
        for backend in self._backends:
            endpoint, primary = (
                guide.nearest(self._environment, backend, region),
                guide.primary(backend),
            )
            if not self.is_write and endpoint != primary:
                freshness = await self._look(backend, endpoint, ends_at)
                worst = max(worst, freshness, key=_ORDER.index)
                reads[backend] = primary if freshness is Freshness.PRIMARY else endpoint
            else:
                reads[backend] = primary
        self._reads[region] = reads
        if not self.is_write:
            self.freshness = worst

    def note(self, freshness: Freshness | None) -> None:
        """Count how the request was kept fresh, if it had to be."""
        self.freshness = freshness
        if freshness is not None and self._session.positions:
            self._book.count(freshness)

    def read_line(self, region: RegionId) -> bytes:
        """Return the field that tells an instance where to read."""
        return read_line(self._endpoints(region))

    def use_primary(self, region: RegionId) -> None:
        """Have an instance in `region` read from primaries."""
        self._reads[region] = self._primaries

    async def conclude(self, region: RegionId | None) -> bool:
        """Learn how far what the answer shows can be.

        Args:
            region: whose instance answered; None for a peer that told nothing.

        Returns:
            False when an endpoint shows less than the client has seen, so that the answer may, too.
        """
        guide = self._book.guide
        reads = self._primaries if region is None else self._endpoints(region)
        known, primaries = self._session.positions, self._primaries
        asked = ("" if reads[b] == primaries[b] else reads[b] for b in reads)
        answers = await asyncio.gather(
            *(self._book.ask(b, e) for b, e in zip(reads, asked, strict=True))
        )
        shown: Mapping[str, Position | None] = dict(zip(reads, answers, strict=True))
        for backend, position in shown.items():
            needed, endpoint = known.get(backend), reads[backend]
            if self.is_write or needed is None:
                continue
            if endpoint == primaries[backend]:
                if endpoint != guide.primary(backend):  # it was none any more: asking told
                    return False
            elif position is None or not position.covers(needed):
                return False
        self._sign(shown)
        return True

    def adopt(self, token: bytes) -> None:
        """Take the token that a peer answered with; it goes on to the client as it is."""
        now = self._book.clock.wall()
        found = self._signer.read(token, now)
        is_known = not isinstance(found, Refusal) and found[0] == self._session
        if not (is_known and self._is_recent(now)):
            self._answer = token

    def answer_line(self, *, is_secure: bool) -> bytes:
        """Return the field that gives the client, or the node before us, its next token."""
        token = self._answer
        if token is None:
            return b""
        if self._from_peer or self._terms.carry is Carry.HEADER:
            return token_line(token)
        path = self._environment.path_prefix
        return cookie_line(token, self._method, self._terms, path, is_secure=is_secure)

    @property
    def _primaries(self) -> dict[str, str]:
        return {backend: self._book.guide.primary(backend) for backend in self._backends}

    def _endpoints(self, region: RegionId) -> dict[str, str]:
        found = self._reads.get(region)
        return self._primaries if found is None else found

    async def _look(self, backend: str, endpoint: str, ends_at: float) -> Freshness:
        """Tell whether a replica has what the client has seen, waiting for it."""
        positions = self._session.positions
        if backend not in positions:
            return Freshness.FRESH
        needed = positions[backend]
        shown = await self._book.ask(backend, endpoint) if needed is not None else None
        if needed is None or shown is None:
            return Freshness.PRIMARY
        if shown.covers(needed):
            return Freshness.FRESH
        left = ends_at - self._book.clock.now()
        replication = self._book.guide.replication
        if left > 0 and await replication.reached(backend, endpoint, needed, left):
            return Freshness.WAITED
        return Freshness.PRIMARY

    def _sign(self, shown: Mapping[str, Position | None]) -> None:
        now = self._book.clock.wall()
        wrote_at = int(now) if self.is_write else self._session.wrote_at
        # Not joined with what was known: what was read covers it, or the primary has lost it.
        session = Session(dict(shown), wrote_at)
        if self._from_peer or session != self._session or not self._is_recent(now):
            self._answer = self._signer.sign(session, now)

    def _is_recent(self, now: float) -> bool:
        return now - self._signed_at < RENEWED_AFTER * self._terms.max_age


_ORDER = [Freshness.FRESH, Freshness.WAITED, Freshness.PRIMARY]
