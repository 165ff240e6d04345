"""What HTTP/1 heads and trailers share: limits, the field line grammar and the list syntax.

One compiled pattern reads a whole field section. It is anchored at line starts and can only match
a complete, valid line, so *number of matches = number of line feeds* proves that every line was
valid: a bare CR or LF, a fold, a control byte or a space before the colon costs one match. That
check is what lets the parser be strict without looking at single bytes in Python.

Source: RFC 9110 section 5 (fields), RFC 9112 sections 2.2 and 5 (line ends, folding).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onetrip.errors import Kind, LimitError, ProtocolError

Fields = list[tuple[bytes, bytes]]
"""Field lines in order: (name as sent, value). A value may still end in white space, which RFC
9110 section 5.5 excludes from it; whoever interprets a value strips it first."""

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
"""One `tchar` of RFC 9110 section 5.6.2, as a pattern."""

VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]"
"""One byte of a field value: HTAB, SP, visible or obs-text (RFC 9110 section 5.5)."""

_FIELD_LINE = re.compile(rb"(?m)^(" + TOKEN + rb"++):[ \t]*+(" + VALUE + rb"*+)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r[^\n]|\x00")


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest message parts accepted.

    Attributes:
        head: start line and fields together, bytes.
        target: request-target, bytes.
        fields: field lines of a head or a trailer section.
        trailers: trailer section, bytes.
        chunk_line: one chunk-size line with its extensions, bytes.
        chunk_extensions: extension bytes of one whole body; senders have used endless
            extensions to burn a proxy's time (CVE-2023-39326).
    """

    head: int = 32 * 1024
    target: int = 8 * 1024
    fields: int = 100
    trailers: int = 8 * 1024
    chunk_line: int = 256
    chunk_extensions: int = 16 * 1024


def parse_fields(section: bytes, limit: int) -> Fields:
    """Parse field lines, each with its CRLF, without the empty line that ends them.

    Raises:
        ProtocolError: a line is no field line.
        LimitError: more than `limit` lines.
    """
    fields: Fields = _FIELD_LINE.findall(section)
    if len(fields) != section.count(b"\n") or section[-1:] not in (b"\n", b""):
        raise ProtocolError(_explain(section))
    if len(fields) > limit:
        raise LimitError(f"{len(fields)} header fields exceed limit of {limit}")
    return fields


def check_partial(data: bytes | bytearray, start: int = 0) -> None:
    """Refuse an unfinished head that can no longer become valid.

    Without this a client that ends its lines with a bare LF would wait for the header timeout.

    Raises:
        ProtocolError: a bare CR, a bare LF or a NUL after `start`.
    """
    if _BARE_LINE_END.search(data, start) is not None:
        raise ProtocolError("header lines must end with CRLF")


def parse_length(value: bytes) -> int:
    """Parse a stripped Content-Length: 1 to 18 digits (RFC 9110 section 8.6).

    Raises:
        ProtocolError: anything else, lists of equal values included.
    """
    if _LENGTH.fullmatch(value) is None:
        raise ProtocolError("Content-Length is not a number of 1 to 18 digits")
    return int(value)


def split_list(value: bytes) -> list[bytes]:
    """Return the lower-case members of a comma list, empty ones left out."""
    return [item for part in value.lower().split(b",") if (item := part.strip(b" \t"))]


def serialise_fields(fields: Fields) -> bytes:
    """Return the field lines, each with its CRLF; the caller adds the empty line."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def _explain(section: bytes) -> str:
    for line in section.split(b"\r\n"):
        if line and _FIELD_LINE.fullmatch(line + b"\r\n") is None:
            name = line.partition(b":")[0][:40].decode("ascii", "replace")
            if line[:1] in b" \t":
                return "folded header lines are not allowed (RFC 9112 section 5.2)"
            if b":" not in line:
                return "a header line has no colon"
            if not name.strip():
                return "a header field has no name"
            if re.fullmatch(TOKEN + rb"+", line.partition(b":")[0]) is None:
                return f"header field name {name!r} is not a token"
            return f"header field {name!r} holds a control character"
    return "header lines must end with CRLF"


def too_large(size: int, limit: int) -> LimitError:
    """Return the error for a head of `size` bytes over `limit`."""
    return LimitError(f"head of {size} bytes exceeds limit of {limit}", kind=Kind.HEAD_TOO_LARGE)
