"""What an endpoint of a database is asked about replication, whatever its protocol.

One connection an endpoint, kept; one question at a time. The accounts need not read any data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from onetrip.errors import Kind, ReplicationError
from onetrip.model.catalog import Backend, BackendKind
from onetrip.model.replication import NOTHING, Position, Role
from onetrip.model.topology import Endpoint

LOOK_TIMEOUT = 5.0
"""Longest time of one question, s, with a new connection: eight round trips around the world."""

MOST_SEEN = 64
"""Replicas that a primary is believed to have, at most."""


@dataclass(frozen=True, slots=True)
class Look:
    """One answer of an endpoint.

    Attributes:
        position: what a read sees; of a primary, what it has written out.
        answered: covers every change that has been answered for, of a primary; `position` itself
            where a database does not tell the two apart.
        told: lag by its own word, s; NaN without one.
        is_replicating: it receives and applies changes, or is the primary.
        timeline: see `EndpointState`.
    """

    role: Role
    position: Position
    answered: Position = NOTHING
    told: float = math.nan
    is_replicating: bool = True
    timeline: int = 0


class SeenReplica(NamedTuple):
    """A replica as its primary knows it.

    Attributes:
        name: what it calls itself, "" for nothing.
        host, port: where it came from, or says that it is; port 0 unknown.
    """

    name: str
    host: str
    port: int


class ReplicationClient(Protocol):
    """Asks one endpoint; opens its connection when it is needed. Questions are put in a line."""

    async def look(self, timeout: float) -> Look:
        """Ask for role, position and lag within `timeout` s.

        Raises:
            ReplicationError: no answer; the connection is closed then. Kind DENIED where the
                account is to blame; the message never holds the password.
        """

    async def replicas(self, timeout: float) -> list[SeenReplica]:
        """Ask a primary which replicas it has, `MOST_SEEN` at most.

        Raises:
            ReplicationError: as above.
        """

    async def close(self) -> None:
        """Drop the connection."""


MakeClient = Callable[[Backend, Endpoint], ReplicationClient]


def make_client(backend: Backend, endpoint: Endpoint) -> ReplicationClient:
    """Return the client for a backend's protocol, for one endpoint of it."""
    if backend.kind is BackendKind.MYSQL:
        from onetrip.probe.replication_mysql import MysqlClient  # an optional package

        return MysqlClient(backend, endpoint)
    if backend.kind is BackendKind.REDIS:
        from onetrip.probe.replication_redis import RedisClient  # many nodes do without

        return RedisClient(backend, endpoint)
    from onetrip.probe.replication_postgres import PostgresClient  # an optional package

    return PostgresClient(backend, endpoint)


def refused(backend: Backend, endpoint: Endpoint, field: str, reason: str) -> ReplicationError:
    """Return the error for an account that an endpoint does not take; `field` is to blame."""
    return ReplicationError(
        f"backends.{backend.name}.replication.{field}: {endpoint} says: {one_line(reason)}",
        kind=Kind.DENIED,
    )


def one_line(text: str) -> str:
    """Return what a server said, as one short line."""
    return " ".join(text.split())[:200]
