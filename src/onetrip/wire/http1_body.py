"""HTTP/1 body framing: decoders that cut a body out of a connection's bytes, and the encoder.

A decoder is fed whatever arrived and returns the payload in it. It is complete at the last byte
of its message and keeps anything after that in `leftover`, which belongs to the next message.
What it returns never depends on how the bytes were split.

Source: RFC 9112 sections 6.3 (which framing applies), 7.1 (chunked), 8 (incomplete messages).
"""

from __future__ import annotations

import re
from typing import Protocol

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.http1 import TOKEN, Fields, Limits, parse_fields, serialise_fields
from onetrip.wire.http1_head import MessageMeta, ResponseHead

FORBIDDEN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-range "
    b"content-type cookie expect expires forwarded host keep-alive location max-forwards "
    b"proxy-authenticate proxy-authorization proxy-connection range set-cookie te trailer "
    b"upgrade vary via www-authenticate x-forwarded-for x-forwarded-host "
    b"x-forwarded-proto x-real-ip x-request-id onetrip-hop".split()
)
"""Lower-case names that must not arrive after the body (RFC 9110 section 6.5.1): framing, routing,
credentials and control data that a recipient would have to act on before the body."""

# These two are refused rather than left out: only an attack sends them, and other parsers refuse
# a message for them.
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))

_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)((?:;" + TOKEN + rb"++(?:=(?:" + TOKEN + rb'++|"'
    rb'(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"))?)*+)\r\n'
)


class BodyDecoder(Protocol):
    """Cuts one body out of a stream of bytes."""

    is_complete: bool
    """The last byte of the message has been seen."""
    leftover: bytes
    """Bytes after the message's end."""
    trailers: Fields
    """Trailer fields, forbidden ones left out; final once complete."""

    def decode(self, data: bytes) -> bytes:
        """Return the payload in `data`; call it only while not complete."""

    def finish(self) -> None:
        """Note the end of the stream.

        Raises:
            ProtocolError: kind RESET: the message was not complete.
        """


class LengthDecoder:
    """A body of a known length; `LengthDecoder(0)` is the empty body."""

    __slots__ = ("_left", "is_complete", "leftover", "trailers")

    def __init__(self, size: int) -> None:
        self._left = size
        self.is_complete = size == 0
        self.leftover = b""
        self.trailers: Fields = []

    def decode(self, data: bytes) -> bytes:
        """See `BodyDecoder`."""
        size = len(data)
        if size < self._left:
            self._left -= size
            return data
        body, self.leftover = data[: self._left], data[self._left :]
        self._left = 0
        self.is_complete = True
        return body

    def finish(self) -> None:
        """See `BodyDecoder`."""
        if not self.is_complete:
            raise ProtocolError(f"connection closed {self._left} body bytes early", kind=Kind.RESET)


class CloseDecoder:
    """A response body that ends with its connection."""

    __slots__ = ("is_complete", "leftover", "trailers")

    def __init__(self) -> None:
        self.is_complete = False
        self.leftover = b""
        self.trailers: Fields = []

    def decode(self, data: bytes) -> bytes:
        """See `BodyDecoder`."""
        return data

    def finish(self) -> None:
        """See `BodyDecoder`."""
        self.is_complete = True


class ChunkedDecoder:
    """A body in the chunked coding (RFC 9112 section 7.1), read without any leniency."""

    __slots__ = (
        "_buffer",
        "_extensions",
        "_in_trailers",
        "_left",
        "_limits",
        "is_complete",
        "leftover",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = b""  # an unfinished line
        self._left = 0  # bytes of the current chunk to come, its CRLF included
        self._extensions = 0
        self._in_trailers = False
        self.is_complete = False
        self.leftover = b""
        self.trailers: Fields = []

    def decode(self, data: bytes) -> bytes:
        """See `BodyDecoder`.

        Raises:
            LimitError: chunk line, extensions or trailers over a limit.
            ProtocolError: not the chunked coding.
        """
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if self._left > 2 and len(data) <= self._left - 2:
            self._left -= len(data)
            return data
        payload: list[bytes] = []
        at = 0
        while not self._in_trailers:
            if self._left:
                at = self._take(data, at, payload)
                if self._left:
                    break
            start = at
            at = self._size_line(data, at)
            if at == start:
                break
        if self._in_trailers:
            self._trailer_section(data[at:])
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def finish(self) -> None:
        """See `BodyDecoder`."""
        if not self.is_complete:
            raise ProtocolError("connection closed inside a chunked body", kind=Kind.RESET)

    def _take(self, data: bytes, at: int, payload: list[bytes]) -> int:
        """Take what there is of the current chunk and its CRLF; return the new position."""
        size = self._left - 2
        if size > 0:
            piece = data[at : at + size]
            if piece:
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
        if 0 < self._left <= 2:
            want = b"\r\n"[2 - self._left :]
            end = data[at : at + self._left]
            if not want.startswith(end):
                raise ProtocolError("chunk data is not followed by CRLF")
            at += len(end)
            self._left -= len(end)
        return at

    def _size_line(self, data: bytes, at: int) -> int:
        """Read one chunk-size line; return the position after it, or `at` if it is unfinished."""
        line = _SIZE_LINE.match(data, at)
        if line is None:
            self._keep_line(data, at)
            return at
        if line.end() - at > self._limits.chunk_line:
            raise self._line_too_long(line.end() - at)
        digits, extensions = line.groups()
        if extensions:
            self._extensions += len(extensions)
            if self._extensions > self._limits.chunk_extensions:
                raise LimitError(
                    f"chunk extensions of {self._extensions} bytes exceed limit of "
                    f"{self._limits.chunk_extensions}"
                )
        size = int(digits, 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True
        return line.end()

    def _keep_line(self, data: bytes, at: int) -> None:
        rest = data[at:]
        end = rest.find(b"\n")
        if end >= 0 or not _could_be_size_line(rest):
            raise ProtocolError("chunk size line is not hexadecimal digits and CRLF")
        if len(rest) > self._limits.chunk_line:
            raise self._line_too_long(len(rest))
        self._buffer = rest

    def _line_too_long(self, size: int) -> LimitError:
        return LimitError(
            f"chunk size line of {size} bytes exceeds limit of {self._limits.chunk_line}"
        )

    def _trailer_section(self, data: bytes) -> None:
        if data.startswith(b"\r\n"):
            self._complete(b"", data[2:])
            return
        end = data.find(b"\r\n\r\n")
        size = len(data) if end < 0 else end + 4
        if size > self._limits.trailers:
            raise LimitError(f"trailers of {size} bytes exceed limit of {self._limits.trailers}")
        if end < 0:
            self._buffer = data
        else:
            self._complete(data[: end + 2], data[end + 4 :])

    def _complete(self, section: bytes, leftover: bytes) -> None:
        fields = parse_fields(section, self._limits.fields)
        if any(name.lower() in _FRAMING for name, _ in fields):
            raise ProtocolError("a trailer field would frame the body again")
        self.trailers = [f for f in fields if f[0].lower() not in FORBIDDEN_TRAILERS]
        self.leftover = leftover
        self.is_complete = True


def request_decoder(meta: MessageMeta, limits: Limits) -> BodyDecoder:
    """Return the decoder for a request's body; a request without a length has none."""
    if meta.is_chunked:
        return ChunkedDecoder(limits)
    return LengthDecoder(meta.content_length or 0)


def is_bodiless(method: bytes, status: int) -> bool:
    """Tell whether a response has no body whatever its fields say (RFC 9112 section 6.3)."""
    return method == b"HEAD" or status in (204, 304) or status < 200


def response_decoder(head: ResponseHead, method: bytes, limits: Limits) -> BodyDecoder:
    """Return the decoder for the body of the response to a `method` request."""
    if is_bodiless(method, head.status):
        return LengthDecoder(0)
    if head.meta.is_chunked:
        return ChunkedDecoder(limits)
    if head.meta.content_length is not None:
        return LengthDecoder(head.meta.content_length)
    return CloseDecoder()


def chunk_start(size: int) -> bytes:
    """Return the line before a chunk of `size` > 0 bytes; CRLF follows the data."""
    return b"%x\r\n" % size


def last_chunk(trailers: Fields) -> bytes:
    """Return the end of a chunked body."""
    return b"0\r\n%b\r\n" % serialise_fields(trailers) if trailers else b"0\r\n\r\n"


_PARTIAL_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{0,16}(?:\r|;[\t -~\x80-\xff]*\r?)?")


def _could_be_size_line(data: bytes) -> bool:
    return _PARTIAL_SIZE_LINE.fullmatch(data) is not None
