"""What is answered for a file: status, fields and parts of the body, decided before any is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onetrip.proxy.asset_store import Asset
from onetrip.wire.codings import choose_coding
from onetrip.wire.conditional import Validators, Verdict, allows_range, check_preconditions
from onetrip.wire.http1 import Fields
from onetrip.wire.http_date import format_date
from onetrip.wire.ranges import Span, content_range, parse_ranges, part_starts

ASKED = frozenset(
    b"accept accept-encoding if-match if-none-match if-modified-since if-range "
    b"if-unmodified-since range".split()
)
"""Lower-case names of the request fields that a reply depends on."""

ALLOWED = b"GET, HEAD"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, without the fields that every reply of an exchange gets.

    Attributes:
        block: field lines, each with its CRLF.
        coding: which of the asset's files its spans are of.
        body: literal bytes and spans of the file, in order.
    """

    status: int
    block: bytes
    coding: bytes = b""
    body: tuple[bytes | Span, ...] = ()


def asked_fields(fields: Fields) -> dict[bytes, bytes]:
    """Return the fields that a reply depends on, several lines of one joined by commas."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        if key in ASKED:
            value = value.strip(b" \t")
            found[key] = found[key] + b", " + value if key in found else value
    return found


def file_reply(
    asset: Asset,
    fields: Mapping[bytes, bytes],
    now: float,
    *,
    is_head: bool,
    boundary: bytes,
    status: int = 200,
    varies: bytes = b"",
) -> Reply:
    """Return the reply to a GET or HEAD for an asset.

    Args:
        fields: see `asked_fields`.
        now: Unix time, s.
        boundary: for several parts; must not occur in the file.
        status: other than 200, neither conditions nor ranges count.
        varies: further fields that the choice of this asset depended on.
    """
    coding = choose_coding(fields.get(b"accept-encoding"), asset.files)
    file = asset.files[coding]
    etag = b'%b-%b"' % (file.etag[:-1], coding) if coding else file.etag
    current = Validators(etag, min(file.modified, int(now)))
    block = _common(asset, current, now, varies)
    if status == 200:
        verdict = check_preconditions(fields, current, now, is_read=True)
        if verdict is Verdict.NOT_MODIFIED:
            return Reply(304, block)
        if verdict is Verdict.FAILED:
            return Reply(412, block + b"Content-Length: 0\r\n")
    block += b"X-Content-Type-Options: nosniff\r\n"
    if coding:
        block += b"Content-Encoding: %b\r\n" % coding
    spans = None
    if status == 200:
        block += b"Accept-Ranges: bytes\r\n"
        asked = None if is_head else fields.get(b"range")
        if asked is not None and allows_range(fields.get(b"if-range"), current, now):
            spans = parse_ranges(asked, file.size)
    reply = (
        _whole(asset, file.size, status)
        if spans is None
        else range_reply(spans, file.size, asset.media_type, boundary)
    )
    return Reply(reply.status, block + reply.block, coding, () if is_head else reply.body)


def method_reply(now: float) -> Reply:
    """Return the reply to a method that files do not have (RFC 9110 section 15.5.6)."""
    block = b"Date: %b\r\nAllow: %b\r\nContent-Length: 0\r\n" % (format_date(now), ALLOWED)
    return Reply(405, block)


def missing_reply(now: float) -> Reply:
    """Return the reply where nothing but files exists, and no file does."""
    return Reply(404, b"Date: %b\r\nContent-Length: 0\r\n" % format_date(now))


def folder_reply(target: bytes, now: float) -> Reply:
    """Return the redirect that adds the slash to a folder's path.

    It may be kept only when checked: tomorrow's deployment may have a file there.
    """
    path, mark, query = target.partition(b"?")
    block = b"Date: %b\r\nLocation: %b/%b%b\r\nCache-Control: no-cache\r\nContent-Length: 0\r\n"
    return Reply(301, block % (format_date(now), path, mark, query))


def range_reply(spans: list[Span], size: int, media_type: bytes, boundary: bytes) -> Reply:
    """Return the reply for ranges of a body; none of them is within it when there are none.

    Args:
        media_type: of the whole; may be empty.
        boundary: for several ranges; must not occur in the body.
    """
    if not spans:
        return Reply(416, b"Content-Range: bytes */%d\r\nContent-Length: 0\r\n" % size)
    if len(spans) == 1:
        span = spans[0]
        block = b"Content-Type: %b\r\n" % media_type if media_type else b""
        block += b"Content-Range: %b\r\nContent-Length: %d\r\n" % (
            content_range(span, size),
            span[1] - span[0],
        )
        return Reply(206, block, body=(span,))
    *starts, end = part_starts(spans, size, media_type, boundary)
    body = [piece for pair in zip(starts, spans, strict=True) for piece in pair]
    length = sum(map(len, starts)) + len(end) + sum(stop - start for start, stop in spans)
    block = b"Content-Type: multipart/byteranges; boundary=%b\r\nContent-Length: %d\r\n"
    return Reply(206, block % (boundary, length), body=(*body, end))


def _common(asset: Asset, current: Validators, now: float, varies: bytes) -> bytes:
    """Return what a 304 has as well (RFC 9110 section 15.4.5)."""
    vary = [b"Accept-Encoding"] if len(asset.files) > 1 else []
    vary += [varies] if varies else []
    return b"Date: %b\r\nETag: %b\r\nLast-Modified: %b\r\nCache-Control: %b\r\n%b" % (
        format_date(now),
        current.etag,
        format_date(current.modified or 0),
        asset.cache_control,
        b"Vary: %b\r\n" % b", ".join(vary) if vary else b"",
    )


def _whole(asset: Asset, size: int, status: int) -> Reply:
    block = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (asset.media_type, size)
    return Reply(status, block, body=((0, size),) if size else ())
