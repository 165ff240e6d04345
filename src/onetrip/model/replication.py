"""Replication: positions in what a database wrote, and what is known of the endpoints that copy it.

A position is a set of changes, and only sets are compared: a PostgreSQL LSN stands for every byte
of the log before it, a MySQL GTID set for the transactions it lists, a MariaDB list for every
transaction of each domain up to one, a Redis offset for every byte of a history up to it. So
`covers` is "is a superset", a partial order, and `join` the union, the least position that covers
both. A LSN says nothing of its timeline: what a primary wrote and lost in a failover cannot be told
from what its successor wrote instead.

Whoever holds a request back until an endpoint has a position does so through `Replication`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from onetrip.errors import ProtocolError

MAX_POSITION = 4096
"""Longest text of a position, characters: some 80 sources of a MySQL GTID set."""

Range = tuple[int, int]
"""First and last change, both included."""


class PositionKind(Enum):
    """How a database counts its changes."""

    LSN = "lsn"
    """PostgreSQL: bytes of its write-ahead log."""
    GTID = "gtid"
    """MySQL: transactions by the server that first wrote them."""
    GTID_LIST = "gtid_list"
    """MariaDB: the last transaction of each domain."""
    OFFSET = "offset"
    """Redis: bytes of the stream of changes since the id of a history."""


@dataclass(frozen=True, slots=True)
class Position:
    """Changes that a database made, as a set. `str` is the text that `parse_position` reads.

    Attributes:
        ranges: changes by source, sorted, neither overlapping nor adjacent. The source is "" for
            a LSN, `uuid` or `uuid:tag` for MySQL, the domain for MariaDB (whose changes are
            numbered by sequence number, then server), the id of the history for Redis.
    """

    kind: PositionKind
    ranges: tuple[tuple[str, tuple[Range, ...]], ...] = ()

    def covers(self, other: Position) -> bool:
        """Tell whether every change of `other` is in this position, too."""
        if not other.ranges:
            return True
        own = dict(self.ranges)
        return self.kind is other.kind and all(
            any(start <= first and last <= end for start, end in own.get(source, ()))
            for source, ranges in other.ranges
            for first, last in ranges
        )

    def join(self, other: Position) -> Position:
        """Return the least position that covers both.

        Raises:
            ProtocolError: they are of different kinds, so nothing covers both.
        """
        if not other.ranges:
            return self
        if not self.ranges:
            return other
        if self.kind is not other.kind:
            raise ProtocolError(
                f"positions of kind {self.kind.value} and {other.kind.value} do not compare"
            )
        return _position(self.kind, [*_flat(self), *_flat(other)])

    def __str__(self) -> str:
        return ",".join(_TEXTS[self.kind](source, ranges) for source, ranges in self.ranges)


NOTHING = Position(PositionKind.GTID)
"""The position before any change: every other one covers it. The text "" is this one."""


WAL_PAGE = 8192
"""Bytes of a page of PostgreSQL's log."""

_PAGE_HEADS = (24, 40)
"""Bytes of the head of a page, and of a segment's first page."""


def log_end(value: int) -> int:
    """Return where the changes before a PostgreSQL LSN end, bytes.

    A primary whose last change ended a page tells that the next one begins behind the head of the
    page after it, where no replica is before there is a next one. A change that does end there
    began before the page, so no replica that has come to the page's start lacks it.
    """
    offset = value % WAL_PAGE
    return value - offset if offset in _PAGE_HEADS else value


def lsn(value: int) -> Position:
    """Return the position of a PostgreSQL LSN, bytes."""
    return Position(PositionKind.LSN, (("", ((0, log_end(value)),)),))


def offsets(*histories: tuple[str, int]) -> Position:
    """Return the position of a Redis server: offsets in bytes, by the id of their history."""
    return _position(PositionKind.OFFSET, ((id, (0, offset)) for id, offset in histories))


_BYTES = (PositionKind.LSN, PositionKind.OFFSET)


def behind(ahead: Position, position: Position) -> int | None:
    """Return how many bytes `position` lacks of the log of `ahead`, >= 0.

    None where they count no bytes, or those of logs that have nothing to do with each other.
    """
    if not (ahead.kind is position.kind and ahead.kind in _BYTES and ahead.ranges):
        return None
    source, ranges = ahead.ranges[0]
    own = dict(position.ranges).get(source)
    return None if own is None else max(0, ranges[-1][1] - own[-1][1])


def parse_position(text: str, limit: int = MAX_POSITION) -> Position:
    """Parse a LSN (`16/B374D848`), a GTID set or list, or offsets; the text may come from anyone.

    Raises:
        ProtocolError: it is none of them, or longer than `limit`.
    """
    if len(text) > limit:
        raise ProtocolError(f"position of {len(text)} characters exceeds limit of {limit}")
    if found := re.fullmatch(_LSN, text):
        return lsn(int(found[1], 16) << 32 | int(found[2], 16))
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not parts:
        return NOTHING
    if re.fullmatch(_GTID, parts[0]):
        return _position(PositionKind.GTID_LIST, [_parse_gtid(part) for part in parts])
    if re.fullmatch(_OFFSET, parts[0]):
        return offsets(*(_parse_offset(part) for part in parts))
    return _position(PositionKind.GTID, [each for part in parts for each in _parse_set(part)])


# Compiled when one is read: many nodes never do.
_LSN = r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})"
_GTID = r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})"
_OFFSET = r"([0-9a-f]{40}):([0-9]{1,19})"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TAG = r"[a-z_][a-z0-9_]{0,31}"
_INTERVAL = r"([0-9]{1,19})(?:-([0-9]{1,19}))?"

Change = tuple[str, Range]


def _parse_gtid(part: str) -> Change:
    found = re.fullmatch(_GTID, part)
    if found is None:
        raise ProtocolError(f"{part[:60]!r} is not a GTID domain-server-sequence")
    domain, server, sequence = (int(each) for each in found.groups())
    if max(domain, server) >= 1 << 32 or sequence >= 1 << 64:
        raise ProtocolError(f"{part!r} has a number out of range")
    return str(domain), (0, sequence << 32 | server)


def _parse_offset(part: str) -> tuple[str, int]:
    found = re.fullmatch(_OFFSET, part)
    if found is None or int(found[2]) >= 1 << 63:
        raise ProtocolError(f"{part[:60]!r} is not an offset of a Redis history")
    return found[1], int(found[2])


def _parse_set(part: str) -> list[Change]:
    """Parse the transactions of one server: `uuid[:tag]:interval[:interval…][:tag:interval…]`."""
    uuid, *words = (word.strip() for word in part.lower().split(":"))
    source, found = uuid, []
    for word in words:
        interval = re.fullmatch(_INTERVAL, word)
        if interval is not None:
            first, last = int(interval[1]), int(interval[2] or interval[1])
            if not 1 <= first <= last < 1 << 63:
                raise ProtocolError(f"{word!r} is not an interval of transactions")
            found.append((source, (first, last)))
        elif re.fullmatch(_TAG, word):
            source = f"{uuid}:{word}"
        else:
            raise ProtocolError(f"{word[:60]!r} is neither an interval of transactions nor a tag")
    if not re.fullmatch(_UUID, uuid) or not found:
        raise ProtocolError(f"{part[:60]!r} is not a position in replication")
    return found


def _flat(position: Position) -> Iterable[Change]:
    return ((source, each) for source, ranges in position.ranges for each in ranges)


def _position(kind: PositionKind, changes: Iterable[Change]) -> Position:
    merged: dict[str, list[Range]] = {}
    for source, (first, last) in sorted(changes):
        ranges = merged.setdefault(source, [])
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], last))
        else:
            ranges.append((first, last))
    return Position(kind, tuple((source, tuple(ranges)) for source, ranges in merged.items()))


def _lsn_text(_: str, ranges: tuple[Range, ...]) -> str:
    return f"{ranges[0][1] >> 32:X}/{ranges[0][1] & 0xFFFFFFFF:X}"


def _gtid_text(domain: str, ranges: tuple[Range, ...]) -> str:
    return f"{domain}-{ranges[0][1] & 0xFFFFFFFF}-{ranges[0][1] >> 32}"


def _set_text(source: str, ranges: tuple[Range, ...]) -> str:
    return ":".join(
        [source, *(str(first) if first == last else f"{first}-{last}" for first, last in ranges)]
    )


def _offset_text(id: str, ranges: tuple[Range, ...]) -> str:
    return f"{id}:{ranges[0][1]}"


_TEXTS = {
    PositionKind.LSN: _lsn_text,
    PositionKind.GTID: _set_text,
    PositionKind.GTID_LIST: _gtid_text,
    PositionKind.OFFSET: _offset_text,
}


class Role(Enum):
    """What an endpoint of a backend is now, by its own word."""

    PRIMARY = "primary"
    REPLICA = "replica"
    UNKNOWN = "unknown"
    """It could not be asked."""


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What one endpoint of a backend said of itself, and when.

    Attributes:
        position: what a read there sees; of the primary, what it wrote.
        lag: how old the data is that a read there sees, s; NaN unknown.
        lag_bytes: log that it has not applied, bytes; None where a database does not count so.
        is_replicating: it receives changes; always true of the primary.
        age: s since it said so.
        timeline: grows with each promotion; 0 of a replica, and where a database has no such count.
        problem: why it could not be asked, "" when it was.
    """

    role: Role
    position: Position = NOTHING
    lag: float = math.nan
    lag_bytes: int | None = None
    is_replicating: bool = True
    age: float = 0.0
    timeline: int = 0
    problem: str = ""


class Replication(Protocol):
    """What the endpoints of backends have; asked now, or as of the last look."""

    async def position(self, backend: str) -> Position:
        """Return a position that covers every change the backend has answered for until now.

        Raises:
            ReplicationError: no endpoint says that it is the primary, or it does not answer.
        """

    async def shown(self, backend: str, endpoint: str) -> Position:
        """Return a position that covers every change a read at an endpoint has shown until now.

        Asked after the call, never from an earlier look: of a replica what it has applied, of the
        primary what it has answered for.

        Raises:
            ReplicationError: the endpoint does not answer, or is none of the backend's.
        """

    async def reached(self, backend: str, endpoint: str, position: Position, within: float) -> bool:
        """Wait until an endpoint covers `position`, at most `within` s; tell whether it does.

        Asked after the call: a replica that was started again may show less than it once did.

        Args:
            endpoint: one of `Backend.endpoints`.

        Never raises `ReplicationError`: an endpoint that does not answer has not reached it.
        """

    def primary(self, backend: str) -> str:
        """Return the endpoint that was found to be the primary last; asks nobody."""

    def states(self, backend: str) -> Mapping[str, EndpointState]:
        """Return what is known of the endpoints of a backend; asks nobody.

        Empty where the backend is not watched.
        """
