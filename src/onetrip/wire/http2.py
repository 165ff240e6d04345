"""HTTP/2 from clients as HTTP/1.1 and back, and a meter that counts frames before they are read.

A request over HTTP/2 goes through the same code as one over HTTP/1.1, so its header list is written
as an HTTP/1.1 head and read by the one strict parser. What the two protocols could read
differently is refused before: a line end or a colon inside a field would become a second field
(RFC 9113 section 10.3), connection-specific fields and a Host other than `:authority` frame or
route a message twice (sections 8.2.2 and 8.3.1).

The meter reads frame headers only (section 4.1). It bounds what a protocol library would buffer
before it looks: announced frame sizes, header blocks and their CONTINUATIONs.

Knows bytes only. Source: RFC 9113.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.http1 import Fields, Limits
from onetrip.wire.http1_head import HeadReader, RequestHead, ResponseHead

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME = 16 * 1024
"""Largest frame payload we accept: the protocol's least allowed bound (section 6.5.2), bytes."""

MAX_CONTINUATIONS = 8
"""CONTINUATION frames of one header block; more than the head limit needs (CVE-2024-27316)."""

_DATA, _HEADERS, _RST_STREAM, _CONTINUATION = 0, 1, 3, 9
_END_STREAM, _END_HEADERS = 0x1, 0x4

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_PATH = re.compile(rb"/[!\"$-~]*|\*")
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields that HTTP/2 has other means for (section 8.2.2), lower-case."""


class Code(IntEnum):
    """Error codes (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13

    @classmethod
    def of(cls, value: int) -> Code:
        """Return the code, PROTOCOL_ERROR for one that is not known."""
        try:
            return cls(value)
        except ValueError:
            return cls.PROTOCOL_ERROR


@dataclass(frozen=True, slots=True)
class HeadArrived:
    """A header list that begins a message; `ends` when no body follows."""

    stream: int
    headers: Fields
    ends: bool


@dataclass(frozen=True, slots=True)
class BodyArrived:
    """Body bytes, which used `size` bytes of window, padding included."""

    stream: int
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """The end of a message, with its trailers; may come twice."""

    stream: int
    trailers: Fields


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The peer ended a stream with an error code."""

    stream: int
    code: Code


@dataclass(frozen=True, slots=True)
class WindowGrew:
    """More may be sent than before, perhaps."""


@dataclass(frozen=True, slots=True)
class PeerLeaves:
    """GOAWAY: streams of ours above `last_stream` were not acted on (section 6.8)."""

    last_stream: int
    code: Code


@dataclass(frozen=True, slots=True)
class PingAnswered:
    """The peer lives."""


Http2Event = (
    HeadArrived | BodyArrived | MessageEnded | StreamLost | WindowGrew | PeerLeaves | PingAnswered
)


class FloodError(LimitError):
    """A peer's doing that ends the whole connection, with GOAWAY `code`."""

    kind = Kind.OVERLOADED

    def __init__(self, message: str, code: Code = Code.ENHANCE_YOUR_CALM) -> None:
        super().__init__(message)
        self.code = code


def read_request(
    headers: Fields,
    *,
    has_body: bool,
    reader: HeadReader,
    upgrade: tuple[bytes, bytes] | None = None,
) -> RequestHead:
    """Return the request that a header list makes.

    Args:
        has_body: its stream has not ended with it.
        reader: parses the HTTP/1.1 form, with its limits.
        upgrade: make it a handshake for this protocol, with this nonce.

    Raises:
        ProtocolError: malformed (RFC 9113 section 8.1.1), or what the HTTP/1.1 parser refuses.
        LimitError: too large.
    """
    pseudo, fields = split_headers(headers, _PSEUDO)
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if _METHOD.fullmatch(method) is None:
        raise ProtocolError(":method is missing or no token")
    if method == b"CONNECT":
        raise ProtocolError("CONNECT is not supported", kind=Kind.UNSUPPORTED)
    if pseudo.get(b":scheme") not in (b"https", b"http"):
        raise ProtocolError(":scheme is missing or not https")
    if _PATH.fullmatch(path) is None:
        raise ProtocolError(":path is missing or no path")
    lines = [b"host: %b\r\n" % _authority(pseudo, fields)]
    cookies = [value for name, value in fields if name == b"cookie"]
    has_length = False
    for name, value in fields:
        if name in (b"host", b"cookie"):
            continue
        has_length |= name == b"content-length"
        lines.append(b"%b: %b\r\n" % (name, value))
    if cookies:
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))  # section 8.2.3
    if has_body and not has_length:
        lines.append(b"transfer-encoding: chunked\r\n")
    if upgrade is not None:
        own = b"connection: upgrade\r\nupgrade: %b\r\nsec-websocket-key: %b\r\n"
        lines.append(own % upgrade)
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, b"".join(lines))
    reader.find_end(head)  # raises when it is over a limit
    return reader.request(head)


def read_trailers(headers: Fields) -> Fields:
    """Return the trailer fields of a message.

    Raises:
        ProtocolError: malformed, or a pseudo-header among them.
    """
    return split_headers(headers, frozenset())[1]


def response_headers(head: ResponseHead) -> Fields:
    """Return the header list of a response."""
    fields = [(name.lower(), value.strip(b" \t")) for name, value in head.meta.fields]
    kept = [field for field in fields if field[0] not in CONNECTION_FIELDS]
    return [(b":status", b"%d" % head.status), *kept]


def goaway_frame(last_stream: int, code: int) -> bytes:
    """Return a GOAWAY frame (section 6.8): streams up to `last_stream` are still answered."""
    return struct.pack("!BHBBIII", 0, 8, 7, 0, 0, last_stream, code)


class FrameMeter:
    """Counts the frames of one direction of a connection.

    Args:
        has_preface: it is a client's direction, which starts with the preface.

    Attributes:
        cheap: frames so far that carry no message: PING, SETTINGS, PRIORITY, WINDOW_UPDATE,
            RST_STREAM, unknown ones, and empty DATA and CONTINUATION.
        resets: RST_STREAM frames so far.
        loads: DATA frames with content so far.
    """

    __slots__ = ("_block", "_continuations", "_head", "_limit", "_skip", "cheap", "loads", "resets")

    def __init__(self, limits: Limits, *, has_preface: bool = True) -> None:
        self._limit = 2 * limits.head  # a head over its limit is still worth an answer
        self._skip = len(PREFACE) if has_preface else 0
        self._head = b""
        self._block = 0
        self._continuations = 0
        self.cheap = self.resets = self.loads = 0

    def feed(self, data: bytes) -> None:
        """Count what `data` holds.

        Raises:
            FloodError: a frame or a header block over a limit.
        """
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            need = 9 - len(self._head)
            self._head += data[at : at + need]
            at += need
            if len(self._head) == 9:
                head, self._head = self._head, b""
                self._skip = int.from_bytes(head[:3], "big")
                self._count(head[3], head[4], self._skip)

    def _count(self, kind: int, flags: int, size: int) -> None:
        if size > MAX_FRAME:
            raise FloodError(
                f"frame of {size} bytes exceeds limit of {MAX_FRAME}", Code.FRAME_SIZE_ERROR
            )
        if kind in (_HEADERS, _CONTINUATION):
            self._count_block(kind, flags, size)
        elif kind == _DATA and size:
            self.loads += 1
        elif kind != _DATA or not flags & _END_STREAM:
            self.cheap += 1
            self.resets += kind == _RST_STREAM

    def _count_block(self, kind: int, flags: int, size: int) -> None:
        if kind == _HEADERS:
            self._block = self._continuations = 0
        else:
            self._continuations += 1
            self.cheap += not size
        self._block += size
        if self._block > self._limit or self._continuations > MAX_CONTINUATIONS:
            raise FloodError(
                f"header block of {self._block} bytes in {self._continuations + 1} frames exceeds "
                f"limit of {self._limit} in {MAX_CONTINUATIONS + 1}"
            )


def split_headers(
    headers: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]
) -> tuple[dict[bytes, bytes], Fields]:
    """Return pseudo-headers and fields, each checked on its own (section 8.2.1).

    Args:
        allowed: names of the pseudo-headers that may occur.

    Raises:
        ProtocolError: one of them is malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: Fields = []
    for name, value in headers:
        if _VALUE.fullmatch(value) is None:
            raise ProtocolError("a header value holds a control character or outer white space")
        if name.startswith(b":"):
            if name not in allowed or name in pseudo or fields:
                raise ProtocolError("a pseudo-header is unknown, repeated or after a field")
            pseudo[name] = value
            continue
        if _NAME.fullmatch(name) is None:
            raise ProtocolError("a header name is no lower-case token")
        if name in CONNECTION_FIELDS or (name == b"te" and value.lower() != b"trailers"):
            raise ProtocolError(f"field {name.decode()!r} is not allowed in HTTP/2")
        fields.append((name, value))
    return pseudo, fields


def _authority(pseudo: dict[bytes, bytes], fields: Fields) -> bytes:
    """Return the one host that a request is for (section 8.3.1)."""
    hosts = [value for name, value in fields if name == b"host"]
    authority = pseudo.get(b":authority") or (hosts[0] if hosts else b"")
    if any(host.lower() != authority.lower() for host in hosts):
        raise ProtocolError("Host differs from :authority")
    if not authority:
        raise ProtocolError("request has no :authority")
    return authority
