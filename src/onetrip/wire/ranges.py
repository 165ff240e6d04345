"""Byte ranges: which parts of a representation a client asks for, and how they are framed.

A range request is an offer that a server may ignore (RFC 9110 section 14.2). So whatever is
malformed, or asks for more work than the whole is worth, is ignored: many small ranges and
overlapping ones have been used to make servers build responses far larger than the file
(CVE-2011-3192; RFC 9110 section 17.15).
"""

from __future__ import annotations

import re

MAX_RANGES = 16
"""Ranges of one request; more are ignored. Viewers of documents ask for a handful."""

Span = tuple[int, int]
"""First byte, and the one after the last."""

_SPEC = re.compile(rb"(?i:bytes)=([0-9, \t-]+)")
_RANGE = re.compile(rb"([0-9]{0,18})-([0-9]{0,18})")


def parse_ranges(value: bytes, size: int) -> list[Span] | None:
    """Return the spans a Range field asks for.

    Args:
        size: of the whole representation, bytes.

    Returns:
        Spans within `size`, in the order asked for; an empty list when none of them is within it
        (416); None when the field is to be ignored (200).
    """
    spec = _SPEC.fullmatch(value)
    if spec is None or size == 0:
        return None  # some clients send a Range always; an empty file has no other answer
    members = [m for part in spec[1].split(b",") if (m := part.strip(b" \t"))]
    if not 0 < len(members) <= MAX_RANGES:
        return None
    spans: list[Span] = []
    for member in members:
        match = _RANGE.fullmatch(member)
        span = _span(match[1], match[2], size) if match is not None else None
        if span is None:
            return None
        if span[0] < span[1]:
            spans.append(span)
    if len(spans) > 1 and sum(end - start for start, end in spans) > size:
        return None  # they overlap
    return spans


def content_range(span: Span, size: int) -> bytes:
    """Return the value of Content-Range for one span."""
    return b"bytes %d-%d/%d" % (span[0], span[1] - 1, size)


def part_starts(spans: list[Span], size: int, media_type: bytes, boundary: bytes) -> list[bytes]:
    """Return what goes before each part of a multipart/byteranges body (section 14.6).

    The last one is the end of the body, so there is one more than spans.
    """
    kind = b"Content-Type: %b\r\n" % media_type if media_type else b""
    starts = [
        b"\r\n--%b\r\n%bContent-Range: %b\r\n\r\n" % (boundary, kind, content_range(span, size))
        for span in spans
    ]
    return [*starts, b"\r\n--%b--\r\n" % boundary]


def _span(first: bytes, last: bytes, size: int) -> Span | None:
    """Return one span, an empty one if it lies outside; None if it is not a range."""
    if not first:
        if not last:
            return None
        return max(0, size - int(last)), size
    start = int(first)
    if not last:
        return min(start, size), size
    if int(last) < start:
        return None
    return min(start, size), min(int(last) + 1, size)
