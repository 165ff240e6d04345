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
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from onetrip.errors import ReplicationError
from onetrip.model.consistency import Consistency, Freshness
from onetrip.proxy.pledge import Pledge
from onetrip.proxy.session_fields import find_tokens
from onetrip.wire.consistency_token import Refusal, Session, TokenSigner

if TYPE_CHECKING:
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


class Relays(Protocol):
    """What the applications of one region read a backend through; see `app.relay_floors`."""

    async def hold(self, position: Position) -> bool:
        """Have everything read from now on that lacks nothing of `position`; False if not so."""

    async def written(self) -> Position | None:
        """Return a position that covers every commit through them; None where they are silent."""


class Guide(Protocol):
    """What a node knows of where applications read."""

    @property
    def replication(self) -> Replication:
        """Who tells positions."""

    def nearest(self, environment: Environment, backend: str, region: RegionId) -> str:
        """Return the endpoint that an instance in `region` reads; must be quick."""

    def primary(self, backend: str) -> str:
        """Return the endpoint that takes writes now; must be quick."""

    def relays(self, backend: str, region: RegionId) -> Relays | None:
        """Return what applications in `region` read through; None where they choose themselves."""

    def home(self, backend: str) -> RegionId | None:
        """Return the region that the primary is nearest to, None where that is not known."""


MakeGuide = Callable[[], Guide]


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
        believed: list[bytes] = []
        for token in find_tokens(fields, terms.carry, from_peer=from_peer):
            found = signer.read(token, now)
            if isinstance(found, Refusal):
                self._metrics.consistency_refused.labels(found.value).inc()
            else:
                believed.append(token)
                session = session.join(found[0])
                signed_at = max(signed_at, found[1])
        return Pledge(self, match, terms, signer, session, signed_at, believed, from_peer=from_peer)

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
