"""The PROXY protocol, versions 1 and 2: what a load balancer says about the client behind it.

It precedes everything else on a connection, TLS included, and whoever reads it must know that it
will be there: guessing would let any client claim any address. So the caller asks for it only on
connections from trusted proxies, and anything that is not exactly a header is an error.

Knows bytes only. Of what version 2 can carry besides addresses (TLVs) only the structure is
checked; its optional checksum is not.

Source: W. Tarreau, "The PROXY protocol, versions 1 & 2", HAProxy 2.9; section numbers below.
"""

from __future__ import annotations

import ipaddress
import re

from onetrip.errors import Kind, LimitError, ProtocolError

MAX_LINE = 107
"""Longest version 1 line with its CRLF, bytes (section 2.1)."""

MAX_BLOCK = 4096
"""Longest version 2 block after its 16 bytes: addresses take 36, the rest is for TLVs."""

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PREFIX = b"PROXY "
_FIXED = len(_SIGNATURE) + 4
_LINE = re.compile(
    rb"PROXY (?:(TCP[46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (\d{1,5}) (\d{1,5})|UNKNOWN(?: .*)?)"
)
_LOCAL, _PROXY = 0, 1
_ADDRESS_SIZES = {0x11: 4, 0x21: 16}
"""Bytes of one address for TCP over IPv4 and IPv6, by family and transport (section 2.2)."""

_BLOCK_SIZES = {0: 0, 1: 12, 2: 36, 3: 216}
"""Least bytes of both addresses (and ports) by family."""


def read_header(data: bytes) -> tuple[int, str | None] | None:
    """Read the header that a connection starts with.

    Returns:
        Its size in bytes and the client's IP address, None where the header tells none (a health
        check of the proxy itself, or a client that did not come over TCP); or None as a whole
        while the header is incomplete.

    Raises:
        ProtocolError: the bytes are no PROXY header, and cannot become one.
        LimitError: it is too long.
    """
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _read_block(data)
    if data[: len(_PREFIX)] == _PREFIX[: len(data)]:
        return _read_line(data)
    raise ProtocolError("connection does not start with a PROXY header")


def _read_line(data: bytes) -> tuple[int, str | None] | None:
    end = data.find(b"\r\n", 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE:
            raise LimitError(
                f"PROXY line exceeds limit of {MAX_LINE} bytes", kind=Kind.HEAD_TOO_LARGE
            )
        return None
    found = _LINE.fullmatch(data, 0, end)
    if found is None:
        raise ProtocolError("PROXY line is not 'PROXY TCP4|TCP6 source target port port'")
    if found[1] is None:
        return end + 2, None
    family = ipaddress.IPv4Address if found[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = family(found[2].decode()), family(found[3].decode())
    except ValueError as error:
        raise ProtocolError(f"PROXY line holds no {found[1].decode()} addresses") from error
    if any(int(port) > 65535 or (port[0] == 0x30 and len(port) > 1) for port in found.group(4, 5)):
        raise ProtocolError("PROXY line holds no port from 0 to 65535")
    return end + 2, _text(source)


def _read_block(data: bytes) -> tuple[int, str | None] | None:
    if len(data) < _FIXED:
        return None
    command, kind = data[12], data[13]
    size = int.from_bytes(data[14:16], "big")
    if command >> 4 != 2 or command & 15 not in (_LOCAL, _PROXY):
        raise ProtocolError(f"PROXY header has version and command {command:#04x}, expected 0x2?")
    if kind >> 4 not in _BLOCK_SIZES or kind & 15 > 2:
        raise ProtocolError(f"PROXY header has unknown family and transport {kind:#04x}")
    if size > MAX_BLOCK:
        raise LimitError(f"PROXY header of {size} bytes exceeds limit of {MAX_BLOCK}")
    if len(data) < _FIXED + size:
        return None
    if command & 15 == _LOCAL:
        return _FIXED + size, None
    least = _BLOCK_SIZES[kind >> 4]
    if size < least:
        raise ProtocolError(f"PROXY header of {size} bytes is too short for its addresses")
    if least:
        _check_extras(data[_FIXED + least : _FIXED + size])
    length = _ADDRESS_SIZES.get(kind)
    if length is None:
        return _FIXED + size, None
    return _FIXED + size, _text(ipaddress.ip_address(data[_FIXED : _FIXED + length]))


def _check_extras(data: bytes) -> None:
    """Check that TLVs fill the rest of the block exactly (section 2.2)."""
    at = 0
    while at < len(data):
        at += 3 + int.from_bytes(data[at + 1 : at + 3], "big")
    if at != len(data):
        raise ProtocolError("PROXY header ends inside an extension")


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = getattr(address, "ipv4_mapped", None)  # RFC 4291 section 2.5.5.2
    return str(mapped or address)
