"""First bytes of database servers, as captured or as their documentation draws them."""

from __future__ import annotations


def mysql_packet(payload: bytes, sequence: int = 0) -> bytes:
    """Return a MySQL packet."""
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


def mysql_greeting(version: str = "8.4.2") -> bytes:
    """Return an initial handshake of protocol version 10."""
    rest = b"\x11\0\0\0" + b"abcdefgh" + b"\0" + b"\xff\xf7\x08\x02\0\xff\x81\x15" + b"\0" * 10
    return mysql_packet(b"\x0a" + version.encode() + b"\0" + rest + b"abcdefghijkl\0" + PLUGIN)


def mysql_error(code: int, text: str) -> bytes:
    """Return an ERR packet as sent before the handshake: without an SQL state."""
    return mysql_packet(b"\xff" + code.to_bytes(2, "little") + text.encode())


PLUGIN = b"mysql_native_password\0"

MYSQL_V9 = mysql_packet(b"\x093.20.32\0" + b"\x01\0\0\0" + b"abcdefgh\0")

MYSQL_BLOCKED = mysql_error(
    1129,
    "Host '10.0.0.1' is blocked because of many connection errors; "
    "unblock with 'mysqladmin flush-hosts'",
)

POSTGRES_ERROR = b"E\0\0\0\x2bSFATAL\0C53300\0Mtoo many connections\0\0"
