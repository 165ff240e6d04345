"""Extended CONNECT as the handshake it stands for, and back (RFC 8441)."""

from __future__ import annotations

import pytest

from onetrip.errors import Kind, ProtocolError
from onetrip.wire.http1 import Limits
from onetrip.wire.http1_head import HeadReader, MessageMeta, RequestHead, ResponseHead
from onetrip.wire.http2_websocket import (
    accept_of,
    connect_answer,
    connect_headers,
    is_connect,
    key_of,
    make_key,
    proves,
    read_connect,
    switched,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CONNECT = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":path", b"/chat"),
    (b":authority", b"a.test"),
    (b"origin", b"https://a.test"),
]


def read(headers, *, ends=False):
    return read_connect(headers, KEY, ends=ends, reader=HeadReader(Limits()))


def response(status: int, *fields: tuple[bytes, bytes]) -> ResponseHead:
    return ResponseHead(status, b"", 1, MessageMeta(list(fields)))


def test_answer_to_a_nonce_is_that_of_the_specification():
    assert accept_of(KEY) == ACCEPT
    assert make_key(b"the sample nonce") == KEY


def test_connect_becomes_a_handshake_and_a_handshake_a_connect():
    assert is_connect(CONNECT)
    head = read(CONNECT)
    assert (head.method, head.target, head.authority) == (b"GET", b"/chat", b"a.test")
    assert (head.meta.upgrade, head.meta.connection) == (b"websocket", [b"upgrade"])
    assert not head.has_body
    assert key_of(head) == KEY
    as_request = [
        (b":method", b"GET"),
        *CONNECT[2:],
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
    ]
    assert connect_headers(as_request) == [*CONNECT, (b"sec-websocket-version", b"13")]


@pytest.mark.parametrize(
    "headers",
    [
        [(b":method", b"GET"), *CONNECT[1:]],
        [*CONNECT[:2], (b":protocol", b"websocket"), *CONNECT[2:]],
        [field for field in CONNECT if field[0] != b":path"],
        [field for field in CONNECT if field[0] != b":authority"],
        [*CONNECT, (b"content-length", b"0")],
        [*CONNECT, (b"upgrade", b"websocket")],
    ],
)
def test_malformed_connects_are_refused(headers):
    with pytest.raises(ProtocolError) as caught:
        read(headers)
    assert caught.value.kind is Kind.MALFORMED


def test_ended_connect_and_other_protocols_are_refused():
    with pytest.raises(ProtocolError):
        read(CONNECT, ends=True)
    other = [(n, b"connect-udp" if n == b":protocol" else v) for n, v in CONNECT]
    with pytest.raises(ProtocolError) as caught:
        read(other)
    assert caught.value.kind is Kind.UNSUPPORTED


def test_nonce_sent_by_a_client_is_replaced():
    head = read([*CONNECT, (b"sec-websocket-key", b"x")])
    assert key_of(head) == KEY


def test_switch_is_proven_by_protocol_and_answer():
    good = response(101, (b"Upgrade", b"WebSocket"), (b"Sec-WebSocket-Accept", ACCEPT))
    assert proves(good, KEY)
    assert not proves(good, b"other")
    assert not proves(response(101, (b"Sec-WebSocket-Accept", ACCEPT)), KEY)
    assert not proves(response(101, (b"Upgrade", b"websocket")), KEY)


def test_answers_are_each_others_counterpart():
    head = switched(response(200, (b"x-a", b"1"), (b"content-length", b"0")), KEY)
    assert head.status == 101
    assert proves(head, KEY)
    back = connect_answer(head)
    assert back.status == 200
    assert (b"x-a", b"1") in back.meta.fields
    assert not [name for name, _ in back.meta.fields if name == b"sec-websocket-accept"]


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (b"POST", [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", KEY)]),
        (b"GET", [(b"Upgrade", b"other"), (b"Sec-WebSocket-Key", KEY)]),
        (b"GET", [(b"Upgrade", b"websocket")]),
    ],
)
def test_what_is_no_handshake_has_no_nonce(method, fields):
    head = RequestHead(method, b"/", b"a.test", 1, MessageMeta(fields))
    assert key_of(head) == b""
