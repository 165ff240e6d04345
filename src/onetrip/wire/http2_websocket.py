"""WebSocket over HTTP/2 (RFC 8441) as the HTTP/1.1 handshake that it stands for, and back.

An extended CONNECT becomes a GET that asks for an upgrade, so it takes the path of one; its 101
becomes a 200. The nonce that HTTP/1.1 needs to prove that a server understood (RFC 6455 section
4.2.2) has no place in HTTP/2: it is made and checked on whichever side speaks HTTP/1.1.
"""

from __future__ import annotations

import base64
import hashlib

from onetrip.errors import Kind, ProtocolError
from onetrip.wire.http1 import Fields
from onetrip.wire.http1_head import HeadReader, MessageMeta, RequestHead, ResponseHead
from onetrip.wire.http2 import read_request
from onetrip.wire.http2_upstream import Http2ResponseHead

WEBSOCKET = b"websocket"
KEY, ACCEPT = b"sec-websocket-key", b"sec-websocket-accept"
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REPLACED = frozenset((b":method", b":protocol", KEY))


def make_key(random: bytes) -> bytes:
    """Return a handshake's nonce from 16 random bytes."""
    return base64.b64encode(random)


def accept_of(key: bytes) -> bytes:
    """Return what a server answers to a nonce."""
    return base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())


def is_connect(headers: Fields) -> bool:
    """Tell whether a request's header list asks for another protocol on its stream."""
    return any(name == b":protocol" for name, _ in headers)


def read_connect(headers: Fields, key: bytes, *, ends: bool, reader: HeadReader) -> RequestHead:
    """Return the handshake that an extended CONNECT stands for.

    Args:
        key: the nonce to put in.
        ends: its stream has ended with it.

    Raises:
        ProtocolError: malformed, or (kind UNSUPPORTED) for a protocol other than WebSocket.
        LimitError: too large.
    """
    methods = [value for name, value in headers if name == b":method"]
    protocols = [value for name, value in headers if name == b":protocol"]
    if methods != [b"CONNECT"] or len(protocols) != 1 or ends:
        raise ProtocolError(":protocol without one open CONNECT")
    if protocols[0].lower() != WEBSOCKET:
        raise ProtocolError("no protocol but websocket is supported", kind=Kind.UNSUPPORTED)
    if any(name == b"content-length" for name, _ in headers):
        raise ProtocolError("CONNECT with a Content-Length")
    fields = [field for field in headers if field[0] not in _REPLACED]
    as_get = [(b":method", b"GET"), *fields]
    return read_request(as_get, has_body=False, reader=reader, upgrade=(WEBSOCKET, key))


def connect_answer(head: ResponseHead) -> ResponseHead:
    """Return the answer to an extended CONNECT that a 101 stands for."""
    fields = [field for field in head.meta.fields if field[0].lower() != ACCEPT]
    return ResponseHead(200, b"", 1, MessageMeta(fields))


def proves(head: ResponseHead, key: bytes) -> bool:
    """Tell whether a 101 shows that the server understood the handshake of `key`."""
    accepts = [v.strip(b" \t") for n, v in head.meta.fields if n.lower() == ACCEPT]
    return head.meta.upgrade.lower() == WEBSOCKET and accepts == [accept_of(key)]


def key_of(head: RequestHead) -> bytes:
    """Return the nonce of a WebSocket handshake; b"" if the request is none."""
    keys = [v.strip(b" \t") for n, v in head.meta.fields if n.lower() == KEY]
    is_handshake = head.method == b"GET" and head.meta.upgrade.lower() == WEBSOCKET
    return keys[0] if is_handshake and len(keys) == 1 else b""


def connect_headers(headers: Fields) -> Fields:
    """Return the extended CONNECT for the header list of a handshake."""
    start = [(b":method", b"CONNECT"), (b":protocol", WEBSOCKET)]
    return start + [field for field in headers if field[0] not in _REPLACED]


def switched(head: ResponseHead, key: bytes) -> ResponseHead:
    """Return the 101 that a positive answer to an extended CONNECT stands for."""
    kept = [field for field in head.meta.fields if field[0] not in (ACCEPT, b"content-length")]
    own = [(b"connection", b"upgrade"), (b"upgrade", WEBSOCKET), (ACCEPT, accept_of(key))]
    return Http2ResponseHead(101, b"Switching Protocols", 1, MessageMeta(kept + own))
