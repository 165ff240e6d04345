"""PROXY protocol headers: both versions, every split, and whatever is not one."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from onetrip.errors import LimitError, ProtocolError
from onetrip.wire.proxy_protocol import MAX_BLOCK, MAX_LINE, read_header

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"


def v2(body: bytes = b"", *, command: int = 0x21, family: int = 0x11, size: int | None = None):
    return (
        SIGNATURE + struct.pack("!BBH", command, family, len(body) if size is None else size) + body
    )


def tcp4(source="192.0.2.7", extras=b""):
    pair = ipaddress.ip_address(source).packed + ipaddress.ip_address("10.0.0.1").packed
    return v2(pair + struct.pack("!HH", 5000, 443) + extras)


def tcp6(source="2001:db8::7"):
    pair = ipaddress.ip_address(source).packed + ipaddress.ip_address("::1").packed
    return v2(pair + struct.pack("!HH", 5000, 443), family=0x21)


TLV = b"\x01\x00\x02h2" + b"\x04\x00\x00"
LONGEST = b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"

HEADERS = {
    "line-tcp4": (b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n", "192.0.2.7"),
    "line-tcp6": (b"PROXY TCP6 2001:DB8::7 ::1 5000 443\r\n", "2001:db8::7"),
    "line-longest": (LONGEST, ":".join(["ffff"] * 8)),
    "line-unknown": (b"PROXY UNKNOWN\r\n", None),
    "line-unknown-more": (b"PROXY UNKNOWN ffff::1 anything at all\r\n", None),
    "line-mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7"),
    "line-port-zero": (b"PROXY TCP4 192.0.2.7 10.0.0.1 0 65535\r\n", "192.0.2.7"),
    "block-tcp4": (tcp4(), "192.0.2.7"),
    "block-tcp6": (tcp6(), "2001:db8::7"),
    "block-mapped": (tcp6("::ffff:192.0.2.7"), "192.0.2.7"),
    "block-tlvs": (tcp4(extras=TLV), "192.0.2.7"),
    "block-local": (v2(command=0x20, family=0), None),
    "block-local-filled": (v2(b"whatever", command=0x20), None),
    "block-unspecified": (v2(b"any bytes", family=0), None),
    "block-unix": (v2(bytes(216), family=0x31), None),
    "block-udp": (v2(bytes(12), family=0x12), None),
    "block-largest": (
        tcp4(extras=b"\x04" + struct.pack("!H", MAX_BLOCK - 15) + bytes(MAX_BLOCK - 15)),
        "192.0.2.7",
    ),
}


@pytest.mark.parametrize(("header", "address"), HEADERS.values(), ids=HEADERS.keys())
class TestValid:
    def test_header_is_read_and_what_follows_left_alone(self, header, address):
        assert read_header(header + b"GET / HTTP/1.1\r\n") == (len(header), address)

    def test_every_shorter_start_asks_for_more(self, header, address):
        for size in range(len(header)):
            assert read_header(header[:size]) is None

    def test_longest_line_is_within_the_limit(self, header, address):
        assert header.startswith(SIGNATURE) or len(header) <= MAX_LINE


INVALID = {
    "http": b"GET / HTTP/1.1\r\n",
    "tls": b"\x16\x03\x01",
    "lower-case": b"proxy ",
    "no-space": b"PROXYT",
    "other-family": b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "two-spaces": b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
    "trailing-space": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
    "missing-port": b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    "large-port": b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
    "padded-port": b"PROXY TCP4 1.2.3.4 1.2.3.4 080 2\r\n",
    "signed-port": b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
    "short-address": b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
    "padded-address": b"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
    "wrong-family": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "wrong-family-6": b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
    "scoped": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "name": b"PROXY TCP4 localhost 1.2.3.4 1 2\r\n",
    "lone-lf": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
    "unknown-glued": b"PROXY UNKNOWNS\r\n",
    "unicode-digit": "PROXY TCP4 1.2.3.4 1.2.3.4 \u0661 2\r\n".encode(),
    "v3": v2(bytes(12), command=0x31),
    "command": v2(bytes(12), command=0x22),
    "family": v2(bytes(12), family=0x41),
    "transport": v2(bytes(12), family=0x13),
    "short-block": v2(bytes(11)),
    "short-block-6": v2(bytes(35), family=0x21),
    "short-block-unix": v2(bytes(215), family=0x31),
    "cut-tlv": tcp4(extras=b"\x04\x00\x05abc"),
    "stub-tlv": tcp4(extras=b"\x04\x00"),
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID.keys())
def test_anything_else_is_an_error(data):
    with pytest.raises(ProtocolError):
        read_header(data)


@pytest.mark.parametrize(
    "data",
    [b"PROXY UNKNOWN " + b"x" * MAX_LINE, v2(size=MAX_BLOCK + 1), v2(size=65535)],
    ids=["line", "block", "largest"],
)
def test_too_long_is_refused_before_it_has_arrived(data):
    with pytest.raises(LimitError):
        read_header(data)


@pytest.mark.parametrize(
    "start", [b"GET", b"\r\n\r\nX", b"PRI * HTTP/2.0", b"\r\n\r\n\x00\r\nQUIX"]
)
def test_bytes_that_cannot_become_a_header_are_refused_at_once(start):
    with pytest.raises(ProtocolError):
        read_header(start)
