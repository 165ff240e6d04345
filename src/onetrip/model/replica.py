"""Copies of a backend, and how its endpoints are asked how far they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from onetrip.model.topology import Endpoint, RegionId


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a backend that answers reads.

    Attributes:
        name: unique in the cluster, `<backend>/<replica>`; what its RTTs are filed under.
        region: where it is, None where nobody said.
    """

    name: str
    endpoint: Endpoint
    region: RegionId | None = None


@dataclass(frozen=True, slots=True)
class ReplicationAccess:
    """How the endpoints of a database are asked for their positions.

    Attributes:
        user, password: of an account that every endpoint has, and that need not read any data.
        database: the one it logs in to; "" for none, or PostgreSQL's `postgres`.
        interval: time between two looks at an endpoint, s.
        max_lag: a replica whose data is older, s, is not read from.
        discover: networks that may be looked for replicas in, by the region they are in; without
            any, only declared replicas count.
        relays: URLs of the routing relays that applications read through, by region.
        relay_token: what those want to be shown, "" for nothing.
    """

    user: str
    password: str = field(repr=False)
    database: str = ""
    interval: float = 2.0
    max_lag: float = 5.0
    discover: tuple[tuple[RegionId, tuple[str, ...]], ...] = ()
    relays: tuple[tuple[RegionId, tuple[str, ...]], ...] = ()
    relay_token: str = field(default="", repr=False)
