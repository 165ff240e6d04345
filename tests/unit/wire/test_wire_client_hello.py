"""The ClientHello: what real clients send, every split of it, and whatever is not one."""

from __future__ import annotations

import ssl
import struct

import pytest

from onetrip.errors import ProtocolError
from onetrip.wire.client_hello import MAX_HELLO_SIZE, ClientHello, read_client_hello


def hello_of(name: str | None, *protocols: str) -> bytes:
    """Return what this machine's TLS library sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def record(body: bytes, kind: int = 22) -> bytes:
    return struct.pack("!BHH", kind, 0x0301, len(body)) + body


def message(body: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


BARE = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
"""A body without extensions, as SSL 3 allowed it."""


def with_extensions(*extensions: tuple[int, bytes]) -> bytes:
    block = b"".join(struct.pack("!HH", kind, len(v)) + v for kind, v in extensions)
    return record(message(BARE + struct.pack("!H", len(block)) + block))


CASES = {
    "name-and-protocols": (
        hello_of("Shop.Test", "h2", "http/1.1"),
        ClientHello("shop.test", (b"h2", b"http/1.1")),
    ),
    "challenge": (hello_of("a.test", "acme-tls/1"), ClientHello("a.test", (b"acme-tls/1",))),
    "no-name": (hello_of(None, "h2"), ClientHello(None, (b"h2",))),
    "no-extensions": (record(message(BARE)), ClientHello(None, ())),
    "empty-name-list": (with_extensions((0, b"\x00\x00")), ClientHello(None, ())),
    "other-name-kind": (with_extensions((0, b"\x00\x04\x07\x00\x01x")), ClientHello(None, ())),
}


@pytest.mark.parametrize("case", CASES)
def test_whole_hello_is_read(case):
    data, expected = CASES[case]
    assert read_client_hello(data) == expected
    assert read_client_hello(data + b"early data") == expected


@pytest.mark.parametrize("case", CASES)
def test_every_part_of_it_asks_for_more(case):
    data, _ = CASES[case]
    for size in range(len(data)):
        wanted = read_client_hello(data[:size])
        assert isinstance(wanted, int)
        assert size < wanted <= len(data)


def test_hello_in_many_records_is_put_together():
    whole, expected = CASES["name-and-protocols"]
    body = whole[5:]
    for size in (1, 3, 4, 5, 100):
        pieces = [record(body[at : at + size]) for at in range(0, len(body), size)]
        assert read_client_hello(b"".join(pieces)) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (record(b"\x01" + bytes(8), kind=23), "record of type 23"),
        (record(b""), "with 0 bytes"),
        (record(message(BARE, kind=2)), "starts with message 2"),
        (record(message(BARE[:20])), "ends inside a field"),
        (with_extensions((0, b"\x00\x09\x00\x00\x01x")), "ends inside a field"),
        (with_extensions((16, b"\x00\x03\x05h2")), "ends inside a field"),
        (record(b"\x01\x00\xff\xff" + bytes(100)), "exceeds limit"),
        (struct.pack("!BHH", 22, 0x0301, MAX_HELLO_SIZE), "exceeds limit"),
        (b"GET / HTTP/1.1\r\n", "no handshake"),
    ],
)
def test_whatever_is_none_is_refused(data, message):
    with pytest.raises(ProtocolError, match=message):
        read_client_hello(data)
