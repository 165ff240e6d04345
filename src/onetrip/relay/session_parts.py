"""What the sessions of an account share: its servers, how SQL is read, and what is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from onetrip.errors import Kind, OnetripError, UpstreamError
from onetrip.relay.admission import RefusedError
from onetrip.relay.route_settings import Account
from onetrip.relay.server_link import ServerLink
from onetrip.relay.standing import Standings
from onetrip.wire.postgres_login import LoginError
from onetrip.wire.sql_classifier import Classifier

_STATES = {
    Kind.CONNECTION_LIMIT: "53300",
    Kind.QUEUE_LIMIT: "53300",
    Kind.UNSUPPORTED: "0A000",
    Kind.BODY_TOO_LARGE: "54000",
    Kind.MALFORMED: "08P01",
    Kind.UNAVAILABLE: "57P03",
}


def sqlstate(error: OnetripError) -> str:
    """Return the SQLSTATE that tells a client of `error`; a lost connection unless it says more.

    Source: PostgreSQL documentation, "PostgreSQL Error Codes".
    """
    if isinstance(error, LoginError | RefusedError):
        return error.code
    return _STATES.get(error.kind, "08006")


class Servers(Protocol):
    """The fleet, as sessions see it."""

    standings: Standings

    async def fresh_replica(self, within: float) -> str | None:
        """See `Fleet`."""

    async def acquire(self, name: str, account: Account, database: str) -> ServerLink:
        """See `Fleet`."""

    async def acquire_primary(self, account: Account, database: str, within: float) -> ServerLink:
        """See `Fleet`."""

    def release(self, link: ServerLink) -> None:
        """See `Fleet`."""


@dataclass(slots=True)
class Usage:
    """What the sessions of a relay did.

    Attributes:
        replica: transactions that ran on a replica.
        primary: transactions that ran on the primary.
        stale: of these, reads for which no replica was fresh in time.
        repeated: of these, reads that a replica refused.
        pinned: sessions that were pinned.
        transactions: all that began, by server and kind: `read` could run on a replica.
        errors: failures that sessions were told of and that no server reported.
    """

    replica: int = 0
    primary: int = 0
    stale: int = 0
    repeated: int = 0
    pinned: int = 0
    transactions: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[Kind] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What a session works with.

    Attributes:
        replica_wait: longest wait for a replica to be fresh, s.
        primary_wait: longest wait for somebody to be the primary, s.
    """

    servers: Servers
    account: Account
    database: str
    classifier: Classifier
    usage: Usage
    replica_wait: float
    primary_wait: float

    async def replica(self) -> ServerLink | None:
        """Return a connection to the nearest fresh replica, or None where there is none."""
        name = await self.servers.fresh_replica(self.replica_wait)
        if name is None:
            return None
        try:
            link = await self.servers.acquire(name, self.account, self.database)
        except UpstreamError:
            return None
        if name != self.servers.standings.primary:
            one = self.servers.standings.by_name[name]
            if one.position >= self.servers.standings.floor:
                self.usage.replica += 1
                return link
        # While it was opened it has become another one, or the floor has risen.
        self.servers.release(link)
        return None

    async def primary(self) -> ServerLink:
        """Return a connection to the primary, waiting for one to be found where none answers.

        Raises:
            UpstreamError: there is none.
        """
        servers, wait = self.servers, self.primary_wait
        return await servers.acquire_primary(self.account, self.database, wait)
