"""Where the set-up of a database session ends: PostgreSQL, MySQL and Redis, as far as in clear.

* PostgreSQL: at ReadyForQuery. Source: PostgreSQL documentation, "Message Flow", "Message Formats".
* MySQL, MariaDB: at the OK packet. Source: MySQL internals manual, "Connection Phase Packets";
  MariaDB knowledge base, "Connecting".
* Redis: at the first command that is not about the connection itself. Source: Redis serialization
  protocol specification; Redis documentation, "Commands", group Connection.

Nothing here reads a password, a statement or a row: heads of messages are looked at, bodies are
skipped. Whatever is not understood turns the counter opaque (`wire/flips`).
"""

from __future__ import annotations

import re
import struct

from onetrip.model.catalog import BackendKind
from onetrip.wire.flips import FlipCounter, Heads, Phase, Tally

MAX_SETUP_MESSAGE = 1024 * 1024
"""Largest message in a set-up, bytes; a larger length is taken as bytes of another protocol."""

MAX_STARTUP = 10_000
"""Largest PostgreSQL startup packet, bytes (MAX_STARTUP_PACKET_LENGTH of the server)."""

MAX_LINE = 64
"""Longest Redis line looked at, bytes; a longer one is no command about the connection."""

REDIS_SETUP = frozenset({b"AUTH", b"HELLO", b"SELECT", b"CLIENT", b"READONLY"})
"""Redis commands that drivers send to set a connection up."""

_TLS_HANDSHAKE = 0x16
"""Content type of the first TLS record (RFC 8446, section 5.1)."""

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_SESSION_VERSION = 3
"""Major version of the PostgreSQL protocol that a startup packet asks for."""

_POSTGRES_SETUP = frozenset(b"RSKENv")
"""PostgreSQL messages before ReadyForQuery (`Z`)."""

_MYSQL_GREETINGS = (9, 10, 0xFF)
_MYSQL_OK = 0x00
_MYSQL_SSL_REQUEST = 32
"""Payload of a MySQL SSLRequest, bytes; a HandshakeResponse41 is longer."""
_MYSQL_CLIENT_SSL = 0x0800

_COUNT = re.compile(rb"[*$]([0-9]{1,9})\r\n")


def flips_for(kind: BackendKind, tally: Tally) -> FlipCounter:
    """Return a counter for one connection to a backend of `kind`."""
    return _COUNTERS.get(kind, FlipCounter)(tally)


class PostgresFlips(FlipCounter):
    """Counts on a PostgreSQL connection."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._phase = Phase.READING
        self._requests = Heads(8)
        self._replies = Heads(5)
        self._is_started = False

    def _read_client(self, data: bytes) -> None:
        if self._is_started:
            return
        for head in self._requests.walk(data):
            size, code = struct.unpack("!II", head)
            if not 8 <= size <= MAX_STARTUP:
                self._turn_opaque()
                return
            self._requests.skip = size - 8
            if code in (_SSL_REQUEST, _GSS_REQUEST):
                self._replies.size = 1
            elif code >> 16 == _SESSION_VERSION or code == _CANCEL_REQUEST:
                self._is_started = True
                return
            else:
                self._turn_opaque()
                return

    def _read_server(self, data: bytes) -> None:
        for head in self._replies.walk(data):
            if self._replies.size == 1 and head != b"N":
                if head != b"E":
                    # S or G: from here on TLS or GSSAPI. Anything else is no answer at all.
                    self._turn_opaque()
                    return
                self._replies.unread(head)
            elif self._replies.size == 5 and not self._read_message(head):
                return
            self._replies.size = 5

    def _read_message(self, head: bytes) -> bool:
        kind, size = struct.unpack("!cI", head)
        if kind == b"Z":
            self._phase = Phase.QUERYING
            return False
        if kind[0] not in _POSTGRES_SETUP or not 4 <= size <= MAX_SETUP_MESSAGE:
            self._turn_opaque()
            return False
        self._replies.skip = size - 4
        return True


class MysqlFlips(FlipCounter):
    """Counts on a MySQL or MariaDB connection. The server's greeting answers nothing."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._phase = Phase.READING
        self._packets = Heads(8)
        self._replies = Heads(5)
        self._is_started = False

    def _read_client(self, data: bytes) -> None:
        if self._is_started:
            return
        for head in self._packets.walk(data):
            size, flags = int.from_bytes(head[:3], "little"), int.from_bytes(head[4:], "little")
            if size < 4 or (size == _MYSQL_SSL_REQUEST and flags & _MYSQL_CLIENT_SSL):
                self._turn_opaque()
            self._is_started = True
            return

    def _read_server(self, data: bytes) -> None:
        for head in self._replies.walk(data):
            size, first = int.from_bytes(head[:3], "little"), head[4]
            if not 1 <= size <= MAX_SETUP_MESSAGE:
                self._turn_opaque()
                return
            if self._is_started and first == _MYSQL_OK:
                self._phase = Phase.QUERYING
                return
            if not self._is_started and first not in _MYSQL_GREETINGS:
                self._turn_opaque()
                return
            self._replies.skip = size - 1


class RedisFlips(FlipCounter):
    """Counts on a Redis connection; only the names of its first commands are read."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._phase = Phase.READING
        self._line = bytearray()
        self._skip = 0
        self._left = 0
        """Arguments of the current command that are still to come, its name included."""
        self._wants_name = False
        self._is_name_next = False
        self._is_fresh = True

    def _read_client(self, data: bytes) -> None:
        if self._is_fresh and data[0] == _TLS_HANDSHAKE:
            self._turn_opaque()
            return
        self._is_fresh = False
        at = 0
        while at < len(data) and self._phase is Phase.READING:
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            else:
                step = (data.find(b"\n", at) + 1 or len(data)) - at
                self._read_line(data[at : at + step])
            at += step

    def _read_line(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > MAX_LINE:
            self._phase = Phase.QUERYING
            return
        self._line += piece
        if self._line.endswith(b"\n"):
            line = bytes(self._line)
            self._line.clear()
            if not self._take_line(line):
                self._phase = Phase.QUERYING

    def _take_line(self, line: bytes) -> bool:
        """Take one line; tell whether it can still belong to the set-up."""
        if self._is_name_next:
            self._is_name_next = False
            return line.strip().upper() in REDIS_SETUP
        found = _COUNT.fullmatch(line)
        if self._left == 0:
            if found is None or line[:1] != b"*":
                # An inline command: words, as people type them.
                return (line.split() or [b""])[0].upper() in REDIS_SETUP
            self._left = int(found[1])
            self._wants_name = True
            return self._left > 0
        if found is None or line[:1] != b"$":
            return False
        self._left -= 1
        if self._wants_name:
            self._wants_name, self._is_name_next = False, True
        else:
            self._skip = int(found[1]) + len(b"\r\n")
        return True


_COUNTERS: dict[BackendKind, type[FlipCounter]] = {
    BackendKind.POSTGRES: PostgresFlips,
    BackendKind.MYSQL: MysqlFlips,
    BackendKind.REDIS: RedisFlips,
}
