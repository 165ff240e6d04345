"""Strict HTTP/1 heads: bytes to `RequestHead` or `ResponseHead`, and back.

A proxy that reads a message differently from the server behind it can be made to smuggle a second
request inside a first one. So a head whose framing two readers could see differently is refused,
never repaired: both lengths at once, repeated or odd lengths, any coding but a lone `chunked`,
several Hosts, bare line ends, folds. The caller maps the error's `kind` to a reply.

Knows bytes only: no socket, no clock, no task.

Source: RFC 9110, RFC 9112 (section numbers beside the rules).
"""

from __future__ import annotations

import re

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.http1 import (
    TOKEN,
    VALUE,
    Fields,
    Limits,
    check_partial,
    parse_fields,
    parse_length,
    serialise_fields,
    split_list,
    too_large,
)

MAX_METHOD = 32
"""Longest method, bytes; the longest registered one has 17 (UPDATEREDIRECTREF)."""

MEMO_SIZE = 4096
"""Largest field section remembered per connection, bytes: keeps an idle connection small."""

_REQUEST_LINE = re.compile(
    rb"(" + TOKEN + rb"{1,%d}+) ([!\"$-~]++) HTTP/1\.([01])\r\n" % MAX_METHOD
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + VALUE + rb"*+))?\r\n")
_OTHER_VERSION = re.compile(rb"[^\r\n]* HTTP/[0-9](?:\.[0-9])?\r\n")
_AUTHORITY = re.compile(rb"(?:[0-9A-Za-z._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*+)(/[^\r\n]*|\?[^\r\n]*)?")
_HEAD_END = b"\r\n\r\n"

# Field names that decide framing, routing or the connection's life; all others pass through.
_META = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"expect",
        b"upgrade",
        b"server-timing",
    )
)


class MessageMeta:
    """What a field section says about its message, apart from its start line.

    Attributes:
        fields: every field line, in order.
        host: value of Host, or None.
        content_length: bytes, or None when absent.
        is_chunked: the body is framed by the chunked coding.
        connection: lower-case connection options, in order.
        expects_continue: the client waits for 100 (Continue).
        upgrade: value of Upgrade, or b"".
        server_timing: value of Server-Timing, or b"".
    """

    __slots__ = (
        "connection",
        "content_length",
        "expects_continue",
        "fields",
        "host",
        "is_chunked",
        "server_timing",
        "upgrade",
    )

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.host: bytes | None = None
        self.content_length: int | None = None
        self.is_chunked = False
        self.connection: list[bytes] = []
        self.expects_continue = False
        self.upgrade = b""
        self.server_timing = b""
        for name, value in fields:
            key = name.lower()
            if key in _META:
                self._note(key, value.rstrip(b" \t"))
        self._check()

    def _check(self) -> None:
        if self.is_chunked and self.content_length is not None:
            # RFC 9112 section 6.1 allows a repair, and asks to treat it as an attack.
            raise ProtocolError("message has both Content-Length and Transfer-Encoding")

    def _note(self, key: bytes, value: bytes) -> None:
        if key == b"host":
            if self.host is not None:
                raise ProtocolError("message has more than one Host")
            self.host = value
        elif key == b"content-length":
            if self.content_length is not None:
                raise ProtocolError("message has more than one Content-Length")
            self.content_length = parse_length(value)
        elif key == b"transfer-encoding":
            if self.is_chunked or value.lower() != b"chunked":
                raise ProtocolError("Transfer-Encoding is not exactly one 'chunked'")
            self.is_chunked = True
        elif key == b"connection":
            self.connection += split_list(value)
        elif key == b"expect":
            self.expects_continue |= value.lower() == b"100-continue"
        elif key == b"server-timing":
            known = self.server_timing
            self.server_timing = known + b", " + value if known else value
        else:
            self.upgrade = self.upgrade + b", " + value if self.upgrade else value


class RequestHead:
    """A parsed request head.

    Attributes:
        method: as sent; methods are case-sensitive.
        target: what to send to an origin server: `path?query`, or `*`.
        authority: host and port the request is for; b"" only in HTTP/1.0.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        meta: its fields and what they mean; the same object while a connection repeats them.
    """

    __slots__ = ("authority", "meta", "method", "minor", "target")

    def __init__(
        self, method: bytes, target: bytes, authority: bytes, minor: int, meta: MessageMeta
    ) -> None:
        self.method = method
        self.target = target
        self.authority = authority
        self.minor = minor
        self.meta = meta

    @property
    def has_body(self) -> bool:
        """Tell whether body bytes may follow (RFC 9112 section 6.3)."""
        return self.meta.is_chunked or bool(self.meta.content_length)

    @property
    def keeps_alive(self) -> bool:
        """Tell whether the client wants to use the connection again (RFC 9112 section 9.3)."""
        return _keeps_alive(self.minor, self.meta.connection)


class ResponseHead:
    """A parsed response head.

    Attributes:
        status: 100–999.
        reason: as sent, may be empty.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        meta: its fields and what they mean.
    """

    __slots__ = ("meta", "minor", "reason", "status")

    def __init__(self, status: int, reason: bytes, minor: int, meta: MessageMeta) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.meta = meta

    @property
    def keeps_alive(self) -> bool:
        """Tell whether the sender keeps the connection open after this response."""
        return _keeps_alive(self.minor, self.meta.connection)

    @property
    def version(self) -> bytes:
        """HTTP version that it came over, as in Via."""
        return b"1.%d" % self.minor


class HeadReader:
    """Finds the end of a head in the bytes of one connection, and parses it.

    The last field section is remembered: clients that keep a connection mostly repeat their
    fields, and comparing a few hundred bytes is much cheaper than parsing them.
    """

    __slots__ = ("_checked", "_memo", "_section", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._checked = 0
        self._section: bytes | None = None
        self._memo: MessageMeta | None = None

    def find_end(self, data: bytes | bytearray, is_request: bool = True) -> int:
        """Return the length of the head that `data` starts with, or -1 if it is not complete.

        Call it again with the same bytes and more after them until it returns a length. One
        empty line before a request counts as part of its head (RFC 9112 section 2.2).

        Raises:
            LimitError: the head, or its request-target, exceeds a limit already.
            ProtocolError: the head can no longer become valid.
        """
        skip = 2 if is_request and data.startswith(b"\r\n") else 0
        end = data.find(_HEAD_END, max(skip, self._checked - 3))
        if end >= 0:
            self._checked = 0
            if end + 4 > self.limits.head:
                raise self._oversized(data, end + 4, is_request)
            return end + 4
        check_partial(data, max(0, self._checked - 1))
        self._checked = len(data)
        if len(data) > self.limits.head:
            raise self._oversized(data, len(data), is_request)
        return -1

    def request(self, head: bytes) -> RequestHead:
        """Parse a complete request head, its empty line included.

        Raises:
            LimitError: request-target or field count over a limit.
            ProtocolError: anything RFC 9112 forbids, ambiguous framing, HTTP versions other than
                1.0 and 1.1 (kind VERSION), CONNECT (kind UNSUPPORTED).
        """
        if head.startswith(b"\r\n"):
            head = head[2:]
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise self._bad_request_line(head)
        method, target, minor = line.groups()
        if len(target) > self.limits.target:
            raise _target_too_long(len(target), self.limits.target)
        meta = self._meta(head[line.end() : -2])
        return _request(method, target, 1 if minor == b"1" else 0, meta)

    def response(self, head: bytes) -> ResponseHead:
        """Parse a complete response head, its empty line included.

        Raises:
            LimitError: too many fields.
            ProtocolError: anything RFC 9112 forbids, or ambiguous framing.
        """
        line = _STATUS_LINE.match(head)
        if line is None:
            raise ProtocolError("status line is not 'HTTP/1.x status reason'")
        minor, status, reason = line.groups()
        meta = self._meta(head[line.end() : -2])
        if minor == b"0" and meta.is_chunked:
            raise ProtocolError("Transfer-Encoding in an HTTP/1.0 response")
        return ResponseHead(int(status), reason or b"", 1 if minor == b"1" else 0, meta)

    def _meta(self, section: bytes) -> MessageMeta:
        if section == self._section:
            assert self._memo is not None
            return self._memo
        meta = MessageMeta(parse_fields(section, self.limits.fields))
        if len(section) <= MEMO_SIZE:
            self._section, self._memo = section, meta
        return meta

    def _oversized(self, data: bytes | bytearray, size: int, is_request: bool) -> LimitError:
        line_end = data.find(b"\r\n")
        target = (line_end if line_end >= 0 else len(data)) - len(b"GET  HTTP/1.1")
        if is_request and target > self.limits.target:
            return _target_too_long(target, self.limits.target)
        return too_large(size, self.limits.head)

    def _bad_request_line(self, head: bytes) -> ProtocolError:
        line = head[: head.find(b"\r\n") + 2]
        if len(line) > self.limits.target + MAX_METHOD + 12:
            return _target_too_long(len(line), self.limits.target)
        if _OTHER_VERSION.fullmatch(line) and _REQUEST_LINE.match(_as_http11(line)):
            return ProtocolError("HTTP version is not 1.0 or 1.1", kind=Kind.VERSION)
        return ProtocolError("request line is not 'METHOD target HTTP/1.x'")


def serialise_request(method: bytes, target: bytes, fields: Fields) -> bytes:
    """Return an HTTP/1.1 request head."""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, serialise_fields(fields))


def serialise_response(status: int, reason: bytes, fields: Fields) -> bytes:
    """Return an HTTP/1.1 response head."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, serialise_fields(fields))


def _request(method: bytes, target: bytes, minor: int, meta: MessageMeta) -> RequestHead:
    host = meta.host
    if method == b"CONNECT":
        raise ProtocolError("CONNECT is not supported", kind=Kind.UNSUPPORTED)
    if host is None:
        if minor:
            raise ProtocolError("HTTP/1.1 request has no Host")
    elif _AUTHORITY.fullmatch(host) is None:
        raise ProtocolError("Host is not a host name or address with an optional port")
    if minor == 0 and meta.is_chunked:
        # RFC 9112 section 6.1: a message like this has faulty framing.
        raise ProtocolError("Transfer-Encoding in an HTTP/1.0 request")
    if target[0] == 0x2F:
        return RequestHead(method, target, host or b"", minor, meta)
    return _unusual_target(method, target, minor, meta)


def _unusual_target(method: bytes, target: bytes, minor: int, meta: MessageMeta) -> RequestHead:
    """Accept `*` for OPTIONS and the absolute form (RFC 9112 sections 3.2.2 and 3.2.4)."""
    if target == b"*" and method == b"OPTIONS":
        return RequestHead(method, target, meta.host or b"", minor, meta)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or _AUTHORITY.fullmatch(absolute[1]) is None:
        raise ProtocolError("request target is neither a path nor an http URL")
    authority, rest = absolute[1], absolute[2] or (b"*" if method == b"OPTIONS" else b"/")
    if meta.host is not None and meta.host.lower() != authority.lower():
        # The authority would win (RFC 9112 section 3.2.2), but a server behind us that lets Host
        # win instead would answer for another site: two readers, so refuse.
        raise ProtocolError("Host differs from the authority of the request target")
    target = b"/" + rest if rest[0] == 0x3F else rest
    return RequestHead(method, target, authority, minor, meta)


def _keeps_alive(minor: int, connection: list[bytes]) -> bool:
    if not connection:
        return minor == 1
    return b"close" not in connection and (minor == 1 or b"keep-alive" in connection)


def _target_too_long(size: int, limit: int) -> LimitError:
    return LimitError(
        f"request target of {size} bytes exceeds limit of {limit}", kind=Kind.URI_TOO_LONG
    )


def _as_http11(line: bytes) -> bytes:
    return line[: line.rfind(b" ")] + b" HTTP/1.1\r\n"
