"""MySQL and MariaDB: the server speaks first, so a probe only listens.

The first packet is the initial handshake (protocol version 10, or 9 for very old servers) or an
ERR packet when the server will not talk to us. Source: MySQL internals manual, "Protocol::
HandshakeV10", "HandshakeV9", "ERR_Packet"; MariaDB knowledge base, "Connecting".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.reply import ReplyReader, ServerRefused

HOST_BLOCKED = "1129"
"""Too many interrupted connections from this host; only `FLUSH HOSTS` on the server ends it."""

_HEADER = 4
"""Three bytes of payload length, little-endian, and a sequence number."""

_ERR = 0xFF

_LEAST_REST = {9: 4, 10: 4 + 8 + 1}
"""Fewest bytes after the version string, by protocol version: thread id, salt, filler."""

_VERSION = re.compile(rb"[\x20-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class ServerHello:
    """The server greeted us.

    Attributes:
        version: as sent, such as `8.4.2` or `5.5.5-10.11.6-MariaDB`.
    """

    version: str


MysqlEvent = ServerHello | ServerRefused


class MysqlGreeting(ReplyReader[MysqlEvent]):
    """The first packet of a server. Greetings are about 100 bytes; error texts at most 512."""

    limit = 1024

    def _parse(self, data: bytes) -> tuple[MysqlEvent, int] | None:
        if len(data) < _HEADER:
            return None
        size = int.from_bytes(data[:3], "little")
        if size > self.limit - _HEADER:
            raise LimitError(
                f"MySQL packet of {size} bytes exceeds limit of {self.limit - _HEADER}",
                kind=Kind.MALFORMED,
            )
        payload = data[_HEADER : _HEADER + size]
        if size == 0 or (payload and payload[0] not in (_ERR, *_LEAST_REST)):
            raise ProtocolError(f"MySQL first packet starts with {payload[:1]!r}, not 9, 10 or 255")
        if len(payload) < size:
            return None
        event = _refusal(payload) if payload[0] == _ERR else _hello(payload)
        return event, _HEADER + size

    def _name(self) -> str:
        return "MySQL"


def _refusal(payload: bytes) -> ServerRefused:
    if len(payload) < 3:
        raise ProtocolError(f"MySQL ERR packet of {len(payload)} bytes is shorter than 3")
    return ServerRefused(code=str(int.from_bytes(payload[1:3], "little")))


def _hello(payload: bytes) -> ServerHello:
    version, nul, rest = payload[1:].partition(b"\0")
    if not nul or _VERSION.fullmatch(version) is None:
        raise ProtocolError("MySQL server version is not 1-128 printable bytes and a NUL")
    if len(rest) < _LEAST_REST[payload[0]]:
        raise ProtocolError(
            f"MySQL handshake ends {len(rest)} bytes after the version, "
            f"needs {_LEAST_REST[payload[0]]}"
        )
    return ServerHello(version.decode("ascii"))
