"""Redis and its kin: PING, one line back.

A server that wants a password answers `-NOAUTH`, one in protected mode `-DENIED`, one that is
loading `-LOADING`: each is an answer, so each is a round trip. Source: Redis serialization
protocol specification (RESP2), "Simple strings" and "Simple errors"; command PING.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onetrip.errors import ProtocolError
from onetrip.wire.reply import ReplyReader, ServerRefused

PING = b"*1\r\n$4\r\nPING\r\n"
"""PING as an array of bulk strings, which needs no inline-command support."""

_PONG = b"+PONG\r\n"
_ERROR = re.compile(rb"-([A-Z][A-Z0-9_]{0,31})?[^\r\n]*\r\n")


@dataclass(frozen=True, slots=True)
class Pong:
    """The server answered PING."""


RedisEvent = Pong | ServerRefused


class RedisPing(ReplyReader[RedisEvent]):
    """One PING and its reply."""

    question = PING
    limit = 4096  # the text of -DENIED alone has 1,067 bytes (Redis 7)

    def _parse(self, data: bytes) -> tuple[RedisEvent, int] | None:
        if data[:1] == b"-":
            return parse_error(data)
        if data.startswith(_PONG):
            return Pong(), len(_PONG)
        if _PONG.startswith(data):
            return None
        raise ProtocolError(f"Redis reply {data[:16]!r} to PING is neither +PONG nor an error")

    def _name(self) -> str:
        return "Redis"


def parse_error(data: bytes) -> tuple[ServerRefused, int] | None:
    """Return the error that `data` begins with and the bytes it takes; None while incomplete.

    Raises:
        ProtocolError: its line does not end with CRLF.
    """
    found = _ERROR.match(data)
    if found is not None:
        return ServerRefused((found[1] or b"").decode("ascii")), found.end()
    line_end = min((at for end in b"\r\n" if (at := data.find(end)) >= 0), default=-1)
    if line_end >= 0 and data[line_end:] != b"\r":
        raise ProtocolError("Redis error line must end with CRLF")
    return None
