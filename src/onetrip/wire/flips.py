"""Counting sequential round trips on a database connection, from its bytes and their direction.

A round trip is a flip: the client sent something, then the server answered. What the client sends
before an answer (a pipeline, one message in many segments) is one trip, and so is an answer in
many segments; what a server sends unasked (a PostgreSQL notification, Redis pub/sub, the MySQL
greeting) is none. That needs no credentials and no understanding of what is asked.

Trips that set a connection up are counted apart from those of queries: `wire/flip_setup` follows
the protocols until the session is ready, and only as far as they are in clear. Where TLS begins,
or the bytes are not what the protocol allows, the counter turns *opaque*: set-up is then taken to
end at the first pause of the client that is longer than the trip before it. A client that opens a
connection for each request may never pause; `MAX_GUESSED` bounds that error.

After set-up a counter is two flags. Nothing is ever kept but an incomplete header, no input
raises, and any split of the bytes gives the same counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

LEAST_PAUSE = 0.010
"""A client's pause shorter than this, s, never ends an opaque set-up: key exchange and password
hashing (4096 rounds of SHA-256 for SCRAM, RFC 7677) take it some milliseconds."""

MAX_GUESSED = 8
"""Most trips that count as an opaque set-up: TLS 1.2 (2), start (1), the longest password exchange
(3), and two statements that drivers like to send first."""

MAX_SETUP = 16
"""Most trips that count as set-up in clear; a session that is not ready by then was misread."""


@dataclass(slots=True)
class Tally:
    """What the connections of one relay have counted; they all add to the same one.

    Attributes:
        trips: round trips of queries.
        setup_trips: round trips until a session was ready.
        opaque: connections that turned opaque.
        sent, received: bytes to and from the servers.
    """

    trips: int = 0
    setup_trips: int = 0
    opaque: int = 0
    sent: int = field(default=0, compare=False)
    received: int = field(default=0, compare=False)


class Phase(Enum):
    """How far a connection has come."""

    READING = auto()
    """Set-up, followed message by message."""
    GUESSING = auto()
    """Set-up that cannot be read: it ends at a pause."""
    QUERYING = auto()


class FlipCounter:
    """Counts the round trips of one connection; this class knows no protocol and no set-up.

    Args:
        tally: what to add to.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._phase = Phase.QUERYING
        self._is_waiting = False
        self._counted = 0
        self._asked_at = self._answered_at = self._trip = 0.0

    @property
    def is_waiting(self) -> bool:
        """Tell whether the client waits for an answer."""
        return self._is_waiting

    @property
    def is_set_up(self) -> bool:
        """Tell whether further trips count as trips of queries."""
        return self._phase is Phase.QUERYING

    def client_data(self, data: bytes, at: float) -> None:
        """Take bytes that the client sent at monotonic time `at`, s."""
        if not data:
            return
        self._tally.sent += len(data)
        if self._phase is not Phase.QUERYING:
            if self._phase is Phase.GUESSING:
                self._judge_pause(at)
            else:
                self._read_client(data)
        self._is_waiting = True
        self._asked_at = at

    def server_data(self, data: bytes, at: float) -> None:
        """Take bytes that the server sent at monotonic time `at`, s."""
        if not data:
            return
        self._tally.received += len(data)
        if self._is_waiting:
            self._is_waiting = False
            if self._phase is Phase.QUERYING:
                self._tally.trips += 1
            else:
                self._count_setup(at)
        if self._phase is not Phase.QUERYING:
            self._answered_at = at
            if self._phase is Phase.READING:
                self._read_server(data)

    def _count_setup(self, at: float) -> None:
        self._tally.setup_trips += 1
        self._trip = at - self._asked_at
        self._counted += 1
        limit = MAX_GUESSED if self._phase is Phase.GUESSING else MAX_SETUP
        if self._counted >= limit:
            self._phase = Phase.QUERYING

    def _judge_pause(self, at: float) -> None:
        if self._counted and not self._is_waiting:
            if at - self._answered_at > max(self._trip, LEAST_PAUSE):
                self._phase = Phase.QUERYING

    def _turn_opaque(self) -> None:
        self._tally.opaque += 1
        self._phase = Phase.GUESSING

    def _read_client(self, data: bytes) -> None:
        """Follow the set-up; called while the phase is READING."""

    def _read_server(self, data: bytes) -> None:
        """Follow the set-up; called while the phase is READING."""


class Heads:
    """Walks over the messages of one direction: hands out each head, skips each body.

    Attributes:
        size: bytes of a head.
        skip: bytes of the message that follow its head; whoever takes a head sets it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.skip = 0
        self._held = bytearray()

    def walk(self, data: bytes) -> Iterator[bytes]:
        """Yield the heads that `data` completes."""
        at, size = 0, len(data)
        while at < size:
            if self.skip:
                step = min(self.skip, size - at)
                self.skip -= step
                at += step
                continue
            # `size` may have shrunk below what is held already.
            step = min(max(0, self.size - len(self._held)), size - at)
            self._held += data[at : at + step]
            at += step
            if len(self._held) >= self.size:
                head = bytes(self._held)
                self._held.clear()
                yield head

    def unread(self, data: bytes) -> None:
        """Put back what belongs to the next head; fewer bytes than `size`."""
        self._held[:0] = data
