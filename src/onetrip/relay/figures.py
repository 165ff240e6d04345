"""What a relay can tell of itself, as plain numbers that its parts count up.

Counting is an addition where something happens. Whoever wants metrics reads the numbers
(`relay/scrape`), so that a relay whose metrics nobody asks for does not load what makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onetrip.errors import Kind


@dataclass(slots=True)
class FreshnessWaits:
    """How reads that may run on a replica found one that has what was written before.

    Attributes:
        at_once: one was fresh already.
        waited: one became so in time.
        stale: none was, so the primary served.
        duration: all waits together, s.
    """

    at_once: int = 0
    waited: int = 0
    stale: int = 0
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """One server behind a routing relay.

    Attributes:
        is_up: it answered when it was looked at last.
        rtt: s; 0 before it was measured.
        lacking: log up to the floor that it has not replayed, bytes; 0 of the primary.
        used, idle: pooled connections to it, those being opened counted as used.
        waiting: sessions that wait for one.
    """

    name: str
    is_up: bool
    is_primary: bool
    rtt: float
    lacking: int
    used: int
    idle: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A relay, now and since its start.

    Attributes:
        sessions: connections of clients that are open.
        taken: connections of clients since the start.
        refused: of these, and of those that found no room, how many were not served, by kind.
        sent, received: bytes to and from the servers.
        endpoints: the servers, where it routes.
        transactions: since the start, by endpoint and kind (`read` or `write`).
        waits: see there.
        errors: what sessions were told that the relay, or a server's end, was the reason of.
        repeated: reads that a replica refused and that ran on the primary.
        pinned: sessions that were pinned to a connection.
    """

    sessions: int
    taken: int
    refused: Mapping[Kind, int]
    sent: int
    received: int
    endpoints: tuple[EndpointFigures, ...] = ()
    transactions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    waits: FreshnessWaits = field(default_factory=FreshnessWaits)
    errors: Mapping[Kind, int] = field(default_factory=dict)
    repeated: int = 0
    pinned: int = 0
