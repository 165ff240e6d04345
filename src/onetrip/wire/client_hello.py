"""The first message of a TLS connection, as far as a server has to see it before it answers.

OpenSSL tells a Python server the client's name, but not the protocols it offers, before the
certificate has to be chosen. An ACME authority that validates by TLS-ALPN-01 is known by its
protocol alone (RFC 8737 section 3), so the ClientHello is read here first, from bytes that stay in
the kernel. Format: RFC 8446 sections 4.1.2 and 5.1; the same for TLS 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from onetrip.errors import ProtocolError

MAX_HELLO_SIZE = 16 * 1024
"""Bytes of a ClientHello read at most, as framed; with two post-quantum key shares it has 3 kB."""

_RECORD_HEAD = 5
_MESSAGE_HEAD = 4
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _PROTOCOLS = 0, 16
"""Extension numbers: RFC 6066 section 3, RFC 7301 section 3.1."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client asks for.

    Attributes:
        server_name: lower-case, or None.
        protocols: ALPN names as offered, best first.
    """

    server_name: str | None
    protocols: tuple[bytes, ...]


def read_client_hello(data: bytes) -> ClientHello | int:
    """Read the ClientHello at the start of a connection, in one record or several.

    Returns:
        It, or the number of bytes that must have arrived before more can be said.

    Raises:
        ProtocolError: it is none, breaks its format, or exceeds `MAX_HELLO_SIZE`.
    """
    message = bytearray()
    start = 0
    wanted = _MESSAGE_HEAD
    while len(message) < wanted:
        end = _record_end(data, start)
        if end > len(data):
            return end
        message += data[start + _RECORD_HEAD : end]
        start = end
        if len(message) >= _MESSAGE_HEAD:
            if message[0] != _CLIENT_HELLO:
                raise ProtocolError(f"handshake starts with message {message[0]}, expected 1")
            wanted = _MESSAGE_HEAD + int.from_bytes(message[1:4], "big")
            if wanted > MAX_HELLO_SIZE:
                raise ProtocolError(f"ClientHello of {wanted} bytes exceeds limit")
    return _read_body(_Reader(bytes(message[_MESSAGE_HEAD:wanted])))


def _record_end(data: bytes, start: int) -> int:
    """Return where the record at `start` ends; its own head's end while that is missing."""
    head = data[start : start + _RECORD_HEAD]
    if len(head) < _RECORD_HEAD:
        return start + _RECORD_HEAD
    size = int.from_bytes(head[3:], "big")
    if head[0] != _HANDSHAKE or not size:
        raise ProtocolError(f"TLS record of type {head[0]} with {size} bytes is no handshake")
    end = start + _RECORD_HEAD + size
    if end > MAX_HELLO_SIZE:
        raise ProtocolError(f"ClientHello of over {MAX_HELLO_SIZE} bytes exceeds limit")
    return end


class _Reader:
    """Takes length-prefixed fields off the front of a block."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ProtocolError("ClientHello ends inside a field")
        taken, self._at = self._data[self._at : end], end
        return taken

    def vector(self, size: int) -> bytes:
        """Take a field whose length stands before it in `size` bytes."""
        return self.take(int.from_bytes(self.take(size), "big"))

    @property
    def is_done(self) -> bool:
        return self._at == len(self._data)


def _read_body(body: _Reader) -> ClientHello:
    body.take(2 + 32)  # version, random
    body.vector(1)  # session
    body.vector(2)  # cipher suites
    body.vector(1)  # compressions
    name: str | None = None
    protocols: tuple[bytes, ...] = ()
    if body.is_done:
        return ClientHello(name, protocols)
    extensions = _Reader(body.vector(2))
    while not extensions.is_done:
        kind = int.from_bytes(extensions.take(2), "big")
        value = extensions.vector(2)
        if kind == _SERVER_NAME:
            name = _read_name(value)
        elif kind == _PROTOCOLS:
            protocols = _read_protocols(value)
    return ClientHello(name, protocols)


def _read_name(value: bytes) -> str | None:
    names = _Reader(_Reader(value).vector(2))
    while not names.is_done:
        kind = names.take(1)[0]
        name = names.vector(2)
        if kind == 0:  # a host name, the only kind there is
            return name.decode("ascii", "replace").lower()
    return None


def _read_protocols(value: bytes) -> tuple[bytes, ...]:
    names = _Reader(_Reader(value).vector(2))
    found: list[bytes] = []
    while not names.is_done:
        found.append(names.vector(1))
    return tuple(found)
