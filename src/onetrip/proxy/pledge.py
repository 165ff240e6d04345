"""What one request of a session is owed: where it may read, and what its answer can show.

See `proxy/consistency` for what is promised and how. Nothing here knows how requests are sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from onetrip.model.consistency import Carry, Consistency, Freshness
from onetrip.model.measure import MethodClass
from onetrip.model.replication import NOTHING
from onetrip.proxy.session_fields import cookie_line, read_line, token_line
from onetrip.wire.consistency_token import Refusal, Session, TokenSigner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onetrip.model.replication import Position
    from onetrip.model.topology import RegionId
    from onetrip.proxy.consistency import ConsistencyBook, Relays
    from onetrip.proxy.router import Match

RENEWED_AFTER = 0.5
"""Share of its life after which a token is signed anew, although nothing changed."""


class Pledge:
    """What is owed to one request.

    Attributes:
        tokens: that it brought and are believed, as they are.
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
        self._relays: dict[str, Relays] = {}
        self._held: dict[str, Position] = {}
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
            relays = guide.relays(backend, region)
            if relays is not None:
                self._relays[backend] = relays
                if not self.is_write and not await self._hold(backend, relays):
                    worst = Freshness.UNSURE
            elif not self.is_write and endpoint != primary:
                freshness = await self._look(backend, endpoint, ends_at)
                worst = max(worst, freshness, key=_ORDER.index)
                reads[backend] = primary if freshness is Freshness.PRIMARY else endpoint
            else:
                reads[backend] = primary
        self._reads[region] = {b: reads.get(b, guide.primary(b)) for b in self._backends}
        if not self.is_write:
            self.freshness = worst

    def note(self, freshness: Freshness | None) -> None:
        """Count how the request was kept fresh, if it had to be."""
        self.freshness = freshness
        if freshness is not None and self._session.positions:
            self._book.count(freshness)

    def read_line(self, region: RegionId) -> bytes:
        """Return the field that tells an instance where to read."""
        endpoints = self._endpoints(region)
        return read_line({b: e for b, e in endpoints.items() if b not in self._relays})

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
        answers = await asyncio.gather(
            *(self._ask(b, "" if reads[b] == primaries[b] else reads[b]) for b in reads)
        )
        shown: Mapping[str, Position | None] = dict(zip(reads, answers, strict=True))
        for backend, position in shown.items():
            needed, endpoint = known.get(backend), reads[backend]
            if self.is_write or needed is None or backend in self._relays:
                continue
            if endpoint == primaries[backend]:
                if endpoint != guide.primary(backend):  # it was none any more: asking told
                    return False
            elif position is None or not position.covers(needed):
                return False
        self._sign(shown)
        return True

    async def _ask(self, backend: str, endpoint: str) -> Position | None:
        """Return what covers the answer, of an endpoint or of the relays before it."""
        relays = self._relays.get(backend)
        if relays is None:
            return await self._book.ask(backend, endpoint)
        if not self.is_write:
            nothing = None if backend in self._session.positions else NOTHING
            return self._held.get(backend, nothing)
        written = await relays.written()
        if written is None:
            written = await self._book.ask(backend, "")
        return written

    async def _hold(self, backend: str, relays: Relays) -> bool:
        """Have relays read nothing that lacks what the client has seen."""
        positions = self._session.positions
        if backend not in positions:
            return True
        needed = positions[backend]
        if needed is None:  # whatever it was, the primary has it
            needed = await self._book.ask(backend, "")
        if needed is None:
            return False
        self._held[backend] = needed
        return await relays.hold(needed)

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
        needed = {b: p for b, p in shown.items() if p is None or p.ranges}
        session = Session(needed, wrote_at)
        if self._from_peer or session != self._session or not self._is_recent(now):
            self._answer = self._signer.sign(session, now)

    def _is_recent(self, now: float) -> bool:
        return now - self._signed_at < RENEWED_AFTER * self._terms.max_age


_ORDER = [Freshness.FRESH, Freshness.WAITED, Freshness.PRIMARY, Freshness.UNSURE]
