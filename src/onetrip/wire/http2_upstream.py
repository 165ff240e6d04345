"""The client's role in HTTP/2: requests for an upstream as header lists, and its responses.

What goes to an upstream was made by us as HTTP/1.1 field lines, so turning it into a header list is
mere splitting. What comes back becomes the same `ResponseHead` that an HTTP/1.1 response gives,
with the same refusals: both then take one path.

Knows bytes only. Source: RFC 9113 section 8.3; RFC 9110.
"""

from __future__ import annotations

import re

from onetrip.errors import LimitError, ProtocolError
from onetrip.wire.http1 import Fields, Limits, too_large
from onetrip.wire.http1_body import is_bodiless
from onetrip.wire.http1_head import MessageMeta, ResponseHead
from onetrip.wire.http2 import CONNECTION_FIELDS, split_headers

_STATUS = re.compile(rb"[1-9][0-9]{2}")
_PSEUDO = frozenset((b":status",))
_FIELD_COST = 4
"""Bytes that a field takes in an HTTP/1.1 head besides its name and value."""


class Http2ResponseHead(ResponseHead):
    """A response head that came over HTTP/2."""

    __slots__ = ()

    @property
    def version(self) -> bytes:
        """See `ResponseHead`."""
        return b"2.0"


def split_lines(block: bytes) -> Fields:
    """Return the fields of lines we made: lower-case names, nothing about the connection."""
    fields: Fields = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if colon and name not in CONNECTION_FIELDS:
            fields.append((name, value.strip(b" \t")))
    return fields


def request_headers(method: bytes, scheme: bytes, target: bytes, fields: Fields) -> Fields:
    """Return the header list of a request.

    Args:
        fields: as `split_lines` returns them; Host becomes `:authority`.
    """
    hosts = [value for name, value in fields if name == b"host"]
    pseudo = [(b":method", method), (b":scheme", scheme), (b":path", target)]
    if hosts:
        pseudo.insert(2, (b":authority", hosts[0]))
    return pseudo + [field for field in fields if field[0] != b"host"]


def read_response(headers: Fields, *, ends: bool, method: bytes, limits: Limits) -> ResponseHead:
    """Return the response that a header list makes.

    Args:
        ends: the stream ended with it.
        method: of the request.

    Raises:
        ProtocolError: malformed (RFC 9113 section 8.1.1).
        LimitError: too large.
    """
    pseudo, fields = split_headers(headers, _PSEUDO)
    status = pseudo.get(b":status", b"")
    if _STATUS.fullmatch(status) is None or status == b"101":  # section 8.6 leaves 101 out
        raise ProtocolError(":status is missing or none that HTTP/2 has")
    size = sum(len(name) + len(value) + _FIELD_COST for name, value in fields)
    if size > limits.head:
        raise too_large(size, limits.head)
    if len(fields) > limits.fields:
        raise LimitError(f"{len(fields)} header fields exceed limit of {limits.fields}")
    meta = MessageMeta(fields)
    if ends and not is_bodiless(method, int(status)):
        if meta.content_length:
            raise ProtocolError(f"response ended {meta.content_length} body bytes early")
        meta.content_length = 0  # known now, and an empty body needs no framing then
    return Http2ResponseHead(int(status), b"", 1, meta)
