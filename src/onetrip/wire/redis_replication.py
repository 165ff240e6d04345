"""Redis about replication: commands, their replies, and the fields of `INFO replication`.

A Redis server counts the bytes of its stream of changes from an id that begins with each history:
a replica has its primary's id, and one that is promoted makes a new id and keeps the old one
(`master_replid2`) with how far that was followed. Offsets of different ids do not compare.

Every byte is a stranger's: replies and numbers are bounded, and what a field must be and is not is
told by its name. Source: Redis serialization protocol specification (RESP2), Redis documentation
"INFO", "Replication"; `src/replication.c` and `src/server.c` of Redis 7.0 for what the fields hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.redis import parse_error
from onetrip.wire.reply import ReplyReader, ServerRefused

MAX_REPLY = 64 * 1024
"""Bytes of a reply: `INFO replication` has some 500, and about 80 for each replica."""

MAX_OFFSET = (1 << 63) - 1
"""Greatest offset: the server keeps them in signed 64 bits."""

INFO = (b"INFO", b"replication")

_LENGTH = re.compile(rb"\$(-?[0-9]{1,19})\r\n")
_ID = re.compile(r"[0-9a-f]{40}")
_NO_ID = "0" * 40
_REPLICA = re.compile(r"slave[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Said:
    """A simple string, such as `OK`."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk string."""

    data: bytes


RedisReplyEvent = Said | Bulk | ServerRefused


def command(*words: bytes) -> bytes:
    """Return a command as the array of bulk strings that servers take."""
    parts = [b"*%d\r\n" % len(words)]
    parts += (b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"".join(parts)


class RedisReply(ReplyReader[RedisReplyEvent]):
    """One reply to one command: a simple string, a bulk string or an error."""

    limit = MAX_REPLY

    def _parse(self, data: bytes) -> tuple[RedisReplyEvent, int] | None:
        if data[:1] == b"-":
            return parse_error(data)
        if data[:1] == b"+":
            line, end, _ = data.partition(b"\r\n")
            return (Said(line[1:]), len(line) + 2) if end else None
        if data[:1] == b"$":
            return self._bulk(data)
        raise ProtocolError(f"Redis reply {data[:16]!r} is no string and no error")

    def _bulk(self, data: bytes) -> tuple[RedisReplyEvent, int] | None:
        head = _LENGTH.match(data)
        if head is None:
            if len(data) > 24 or b"\n" in data:
                raise ProtocolError(f"Redis reply {data[:24]!r} has no length")
            return None
        size, at = int(head[1]), head.end()
        if size < 0:
            raise ProtocolError("Redis reply is null")
        if at + size + 2 > self.limit:
            raise LimitError(
                f"Redis reply of {size} bytes exceeds limit of {self.limit}", kind=Kind.MALFORMED
            )
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise ProtocolError(f"Redis reply of {size} bytes does not end with CRLF")
        return Bulk(data[at : at + size]), at + size + 2

    def _name(self) -> str:
        return "Redis"


@dataclass(frozen=True, slots=True)
class RedisStanding:
    """What a server says of replication.

    Attributes:
        is_primary: it replicates from nobody.
        id, offset: history that it has, and how many bytes of it a read shows.
        older: the history before, with how far that goes, or None.
        is_linked: a replica's connection to its primary is up; always true of a primary.
        has_applied_all: a replica shows everything it has received.
        replicas: addresses and ports of its replicas that have all of its data; 0 unknown.
    """

    is_primary: bool
    id: str
    offset: int
    older: tuple[str, int] | None = None
    is_linked: bool = True
    has_applied_all: bool = True
    replicas: tuple[tuple[str, int], ...] = ()


def parse_replication(data: bytes) -> RedisStanding:
    """Read the answer to `INFO replication`.

    Raises:
        ProtocolError: a field is missing, or is not what it must be; the message names it.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"INFO replication is not ASCII at byte {error.start}") from None
    pairs = (line.partition(":") for line in text.split("\r\n"))
    fields = {name: value for name, colon, value in pairs if colon}
    role = _one_of(fields, "role", "master", "slave")
    replid = _id_of(fields, "master_replid")
    if role == "master":
        replicas = [_replica(n, v) for n, v in fields.items() if _REPLICA.fullmatch(n)]
        seen = tuple(each for each in replicas if each is not None)
        return RedisStanding(True, replid, _offset(fields, "master_repl_offset"), replicas=seen)
    offset = _offset(fields, "slave_repl_offset")
    received = "slave_read_repl_offset"  # Redis 7.0 on
    return RedisStanding(
        False,
        replid,
        offset,
        _older(fields),
        _one_of(fields, "master_link_status", "up", "down") == "up",
        received not in fields or _offset(fields, received) <= offset,
    )


def _older(fields: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the history before the present one: all up to the byte before `second_repl_offset`."""
    if fields.get("master_replid2", _NO_ID) == _NO_ID:
        return None
    replid = _id_of(fields, "master_replid2")
    return replid, max(0, _offset(fields, "second_repl_offset") - 1)


def _replica(name: str, value: str) -> tuple[str, int] | None:
    """Return where a replica is: `ip=10.2.0.7,port=6379,state=online,offset=…,lag=…`."""
    pairs = (part.partition("=") for part in value.split(","))
    parts = {key: word for key, _, word in pairs}
    host, port = parts.get("ip", ""), parts.get("port", "")
    if not 1 <= len(host) <= 253:
        raise ProtocolError(f"ip of {name} {host[:60]!r} is not of 1 to 253 characters")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ProtocolError(f"port of {name} {port[:60]!r} is not in 0-65535")
    # Any other state is that of one whose data is still on its way.
    return (host, int(port)) if parts.get("state") == "online" else None


def _text(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise ProtocolError(f"INFO replication has no {name}")
    return fields[name]


def _one_of(fields: Mapping[str, str], name: str, *words: str) -> str:
    found = _text(fields, name)
    if found not in words:
        raise ProtocolError(f"{name} {found[:60]!r} is not one of {', '.join(words)}")
    return found


def _id_of(fields: Mapping[str, str], name: str) -> str:
    found = _text(fields, name)
    if not _ID.fullmatch(found):
        raise ProtocolError(f"{name} {found[:60]!r} is not 40 hexadecimal digits")
    return found


def _offset(fields: Mapping[str, str], name: str) -> int:
    found = _text(fields, name)
    if not re.fullmatch("[0-9]{1,19}", found) or int(found) > MAX_OFFSET:
        raise ProtocolError(f"{name} {found[:60]!r} is not in 0..{MAX_OFFSET}")
    return int(found)
