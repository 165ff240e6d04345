"""PostgreSQL: ask for TLS, read one byte. One round trip, before any credentials.

The client sends an SSLRequest; the server answers `S` or `N` and waits. Source: PostgreSQL
documentation, "Message Flow" section "SSL Session Encryption" and "Message Formats", SSLRequest.
A server that cannot start a session answers with an ErrorResponse (`E`) instead; so do servers
too old to know the question. Neither says anything about the path, so both count.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from onetrip.errors import ProtocolError
from onetrip.wire.reply import ReplyReader, ServerRefused

SSL_REQUEST = struct.pack("!II", 8, (1234 << 16) | 5679)
"""Length 8, then the request code 80877103, chosen to look like no protocol version."""


@dataclass(frozen=True, slots=True)
class SslAnswer:
    """The server's answer: whether it would speak TLS now."""

    is_accepted: bool


PostgresEvent = SslAnswer | ServerRefused


class PostgresGreeting(ReplyReader[PostgresEvent]):
    """The answer to an SSLRequest. The text of an ErrorResponse is not read."""

    question = SSL_REQUEST
    limit = 1

    def _parse(self, data: bytes) -> tuple[PostgresEvent, int]:
        if data == b"S":
            return SslAnswer(is_accepted=True), 1
        if data == b"N":
            return SslAnswer(is_accepted=False), 1
        if data == b"E":
            return ServerRefused(code=""), 1
        raise ProtocolError(f"PostgreSQL answer {data!r} to SSLRequest is not S, N or E")

    def _name(self) -> str:
        return "PostgreSQL"
