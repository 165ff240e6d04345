"""A client's login to a PostgreSQL server, without I/O: from the start until it is ready.

Knows SCRAM-SHA-256, MD5 and the password in clear; the last one only where the caller says that
nobody can listen. Source: PostgreSQL documentation, "Message Flow", section "Start-up".
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from onetrip.errors import Kind, ProtocolError, UpstreamError
from onetrip.wire.postgres_messages import (
    Message,
    ReplyReader,
    cstring,
    error_fields,
    message,
    read_parameter,
    take_cstring,
)
from onetrip.wire.postgres_start import start_packet
from onetrip.wire.scram import MECHANISM, ScramClient

MAX_STEPS = 200
"""Most messages until a server is ready; with its parameters there are about twenty."""

_OK, _CLEAR, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


class LoginError(UpstreamError):
    """The server refused the login.

    Attributes:
        code: its SQLSTATE.
    """

    kind = Kind.DENIED

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"login refused: {text[:200]} ({code[:5]})")
        self.code = code


@dataclass(slots=True)
class Started:
    """What a server told while it started.

    Attributes:
        parameters: what it reports by ParameterStatus.
        process: its process, for a request to cancel.
    """

    parameters: dict[str, str] = field(default_factory=dict)
    process: int = 0
    secret: bytes = field(default=b"", repr=False)


class Login:
    """One login.

    Args:
        password: None where none is known.
        nonce: fresh random bytes, for SCRAM.
        is_private: nobody can listen, so a password may be sent in clear.
    """

    def __init__(
        self, user: str, database: str, password: str | None, nonce: bytes, *, is_private: bool
    ) -> None:
        self.started = Started()
        self.is_ready = False
        self._user = user
        self._database = database
        self._password = password
        self._is_private = is_private
        self._scram = ScramClient(password or "", nonce)
        self._is_proved = True
        self._reader = ReplyReader(range(1, 256))
        self._steps = 0

    def start(self) -> bytes:
        """Return the first packet."""
        return start_packet({"user": self._user, "database": self._database})

    def feed(self, data: bytes) -> bytes:
        """Take what the server sent; return what must be sent now.

        Raises:
            LoginError: by the server.
            UpstreamError: kind DENIED, it asks for what we do not give.
            ProtocolError: the bytes are no login.
        """
        answers = b""
        for reply in self._reader.feed(data):
            self._steps += 1
            if self.is_ready or self._steps > MAX_STEPS:
                raise ProtocolError(f"a login takes more than {MAX_STEPS} messages")
            answers += self._take(reply)
        return answers

    def _take(self, reply: Message) -> bytes:
        kind, body = chr(reply.kind), reply.body
        if kind == "R":
            return self._authenticate(body)
        if kind == "E":
            fields = error_fields(body)
            raise LoginError(fields.get("C", ""), fields.get("M", ""))
        if kind == "S":
            name, value = read_parameter(body)
            self.started.parameters[name] = value
        elif kind == "K":
            self.started.process = int.from_bytes(body[:4], "big")
            self.started.secret = body[4:]
        elif kind == "Z":
            if not self._is_proved:
                raise UpstreamError("the server did not prove itself", kind=Kind.DENIED)
            self.is_ready = True
        elif kind not in "Nv":
            raise ProtocolError(f"reply {kind!r} is not part of a login")
        return b""

    def _authenticate(self, body: bytes) -> bytes:
        if len(body) < 4:
            raise ProtocolError("a request to authenticate is shorter than 4 bytes")
        (code,) = struct.unpack_from("!I", body)
        if code == _OK:
            if not self._is_proved:
                raise UpstreamError("the server did not prove itself", kind=Kind.DENIED)
            return b""
        if self._password is None:
            raise UpstreamError("the server asks for a password, none is known", kind=Kind.DENIED)
        if code == _SASL:
            return self._begin_scram(body[4:])
        if code == _SASL_CONTINUE:
            return message(b"p", self._scram.final(body[4:]))
        if code == _SASL_FINAL:
            self._scram.verify(body[4:])
            self._is_proved = True
            return b""
        if code == _MD5 and len(body) == 8:
            return message(b"p", cstring(_md5(self._password, self._user, body[4:])))
        if code == _CLEAR and self._is_private:
            return message(b"p", cstring(self._password))
        name = "the password in clear" if code == _CLEAR else f"authentication {code}"
        raise UpstreamError(f"the server asks for {name}", kind=Kind.DENIED)

    def _begin_scram(self, body: bytes) -> bytes:
        offered, at = [], 0
        while at < len(body) and body[at]:
            name, at = take_cstring(body, at)
            offered.append(name.decode("latin-1"))
        if MECHANISM not in offered:
            raise UpstreamError(f"the server does not offer {MECHANISM}", kind=Kind.DENIED)
        self._is_proved = False
        first = self._scram.first()
        return message(b"p", cstring(MECHANISM) + struct.pack("!I", len(first)) + first)


def _md5(password: str, user: str, salt: bytes) -> str:
    inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest()
