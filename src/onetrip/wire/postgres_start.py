"""How a PostgreSQL connection starts, seen from the server: requests for encryption, cancel, start.

These messages have no type byte. Source: PostgreSQL documentation, "Message Flow" (Start-up,
Canceling Requests in Progress, SSL Session Encryption) and "Message Formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum, auto

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.postgres_messages import cstring, message, take_cstring

MAX_STARTUP = 10_000
"""Largest first message, bytes (MAX_STARTUP_PACKET_LENGTH of the server)."""

MAX_PARAMETERS = 64
"""Most parameters of a start; drivers send fewer than ten."""

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
VERSION = 3 << 16
"""Protocol 3.0, the one that is spoken to servers."""

_TWO = struct.Struct("!II")


class Encryption(Enum):
    """What a client asks for before it starts."""

    TLS = auto()
    GSSAPI = auto()


@dataclass(frozen=True, slots=True)
class Cancel:
    """A request to cancel what runs on another connection."""

    process: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Start:
    """A client starts a session.

    Attributes:
        minor: minor version of the protocol that it asks for.
        raw: the whole packet.
    """

    minor: int
    parameters: dict[str, str]
    raw: bytes = field(repr=False)

    @property
    def user(self) -> str:
        """Whom it wants to be."""
        return self.parameters.get("user", "")

    @property
    def database(self) -> str:
        """Where it wants to go; the user's name unless told."""
        return self.parameters.get("database") or self.user


Opening = Encryption | Cancel | Start


class StartReader:
    """Reads the packets of a start, one at a time."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def rest(self) -> bytes:
        """Bytes behind the packet that was read last."""
        return bytes(self._held)

    def feed(self, data: bytes) -> Opening | None:
        """Take bytes; return a packet once it is complete.

        Raises:
            LimitError: the packet is too large.
            ProtocolError: it is none of protocol 3.
        """
        held = self._held
        held += data
        if len(held) < 8:
            return None
        size, code = _TWO.unpack_from(held)
        if size > MAX_STARTUP:
            raise LimitError(
                f"start of {size} bytes exceeds limit of {MAX_STARTUP}", kind=Kind.HEAD_TOO_LARGE
            )
        if size < 8:
            raise ProtocolError(f"start of {size} bytes is shorter than 8")
        if len(held) < size:
            return None
        raw = bytes(held[:size])
        del held[:size]
        return _opening(code, raw)


def _opening(code: int, raw: bytes) -> Opening:
    if code == SSL_REQUEST:
        return Encryption.TLS
    if code == GSS_REQUEST:
        return Encryption.GSSAPI
    if code == CANCEL_REQUEST:
        if len(raw) < 16:
            raise ProtocolError(f"cancel request of {len(raw)} bytes is shorter than 16")
        return Cancel(int.from_bytes(raw[8:12], "big"), raw[12:])
    if code >> 16 != VERSION >> 16:
        raise ProtocolError(f"protocol {code >> 16}.{code & 0xFFFF} is not 3", kind=Kind.VERSION)
    return Start(code & 0xFFFF, _parameters(raw[8:]), raw)


def _parameters(body: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(body) and body[at]:
        name, at = take_cstring(body, at)
        value, at = take_cstring(body, at)
        found[name.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        if len(found) > MAX_PARAMETERS:
            raise ProtocolError(f"a start has more than {MAX_PARAMETERS} parameters")
    return found


def start_packet(parameters: dict[str, str]) -> bytes:
    """Return the packet that starts a session with a server."""
    body = b"".join(cstring(name) + cstring(value) for name, value in parameters.items()) + b"\0"
    return _TWO.pack(len(body) + 8, VERSION) + body


def cancel_packet(process: int, secret: bytes) -> bytes:
    """Return the packet that cancels what a server's process does."""
    return struct.pack("!III", 12 + len(secret), CANCEL_REQUEST, process) + secret


def negotiation(options: list[str]) -> bytes:
    """Return the answer to a minor version above 0, or to options that nobody knows."""
    body = struct.pack("!II", VERSION, len(options)) + b"".join(map(cstring, options))
    return message(b"v", body)


def backend_key(process: int, secret: bytes) -> bytes:
    """Return BackendKeyData."""
    return message(b"K", process.to_bytes(4, "big") + secret)
