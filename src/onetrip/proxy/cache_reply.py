"""What a client is sent of a stored response, and what it is told of the cache (RFC 9211)."""

from __future__ import annotations

from onetrip.proxy.asset_reply import Reply, range_reply
from onetrip.wire.cache_rules import Request, Stored
from onetrip.wire.conditional import Verdict, allows_range, check_preconditions
from onetrip.wire.http1 import serialise_fields
from onetrip.wire.ranges import parse_ranges

_NAME = b"onetrip"
_IN_304 = frozenset(
    b"cache-control content-location date etag expires vary via set-cookie cache-status".split()
)
"""What a 304 tells of the stored fields (RFC 9110 section 15.4.5), and what is about the way."""

_OF_WHOLE = frozenset((b"content-type",))


def stored_reply(
    stored: Stored,
    request: Request,
    notes: bytes,
    *,
    now: float,
    wall: float,
    is_head: bool,
    boundary: bytes,
) -> Reply:
    """Return the reply of a stored response to a GET or HEAD.

    Args:
        notes: further field lines.
        now, wall: monotonic and Unix time, s.
        boundary: for several ranges; must not occur in the body.
    """
    lines = b"Age: %d\r\n%b" % (min(int(stored.age_at(now)), 1 << 31), notes)
    fields, size = stored.fields, len(stored.body)
    if stored.status == 200:
        verdict = check_preconditions(request.fields, stored.validators, wall, is_read=True)
        if verdict is Verdict.NOT_MODIFIED:
            kept = [f for f in fields if f[0].lower() in _IN_304]
            return Reply(304, serialise_fields(kept) + lines)
        asked = None if is_head else request.fields.get(b"range")
        if_range = request.fields.get(b"if-range")
        if asked is not None and allows_range(if_range, stored.validators, wall):
            spans = parse_ranges(asked, size)
            if spans is not None:
                media_type = next((v for n, v in fields if n.lower() == b"content-type"), b"")
                part = range_reply(spans, size, media_type, boundary)
                kept = [f for f in fields if f[0].lower() not in _OF_WHOLE]
                return Reply(
                    part.status, serialise_fields(kept) + part.block + lines, body=part.body
                )
    length = b"" if stored.status == 204 else b"Content-Length: %d\r\n" % size
    body = ((0, size),) if size and not is_head else ()
    return Reply(stored.status, serialise_fields(fields) + length + lines, body=body)


def hit_note(stored: Stored, now: float, *, was_collapsed: bool) -> bytes:
    """Return the Cache-Status of a response that was not asked for upstream."""
    detail = b"; collapsed" if was_collapsed else b""
    return b"Cache-Status: %b; hit; ttl=%d%b\r\n" % (_NAME, int(stored.fresh_for(now)), detail)


def forward_note(reason: bytes, status: int | None, *, is_stored: bool = False) -> bytes:
    """Return the Cache-Status of a response that was asked for upstream.

    Args:
        reason: why, a token of RFC 9211 section 2.2.
        status: what came; None tells nothing.
    """
    came = b"; fwd-status=%d" % status if status is not None else b""
    return b"Cache-Status: %b; fwd=%b%b%b\r\n" % (
        _NAME,
        reason,
        came,
        b"; stored" if is_stored else b"",
    )
