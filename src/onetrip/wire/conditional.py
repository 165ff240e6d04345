"""Conditional requests: whether a client's preconditions hold for what would be sent.

Source: RFC 9110 sections 8.8 (validators) and 13 (preconditions and their order).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from onetrip.wire.http_date import parse_date

NAMES = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range")
)
"""Lower-case names of the fields that make a request conditional."""

_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
_ONE = re.compile(_TAG)
_LIST = re.compile(rb"[ \t,]*+" + _TAG + rb"(?:[ \t]*+,[ \t]*+(?:" + _TAG + rb")?)*+[ \t]*+")


class Verdict(Enum):
    """What becomes of a conditional request."""

    SEND = "send"
    """Answer as if there were no condition."""
    NOT_MODIFIED = "not_modified"
    """304: the client has it."""
    FAILED = "failed"
    """412: it is not what the client expects."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What identifies one version of a representation.

    Attributes:
        etag: entity tag as sent, b"" for none.
        modified: Last-Modified as Unix time, s; None for none.
    """

    etag: bytes = b""
    modified: int | None = None


def check_preconditions(
    fields: Mapping[bytes, bytes], current: Validators, now: float, *, is_read: bool
) -> Verdict:
    """Evaluate the preconditions of a request in the order of RFC 9110 section 13.2.2.

    Args:
        fields: lower-case name to value, several lines joined by commas.
        current: of the representation that exists now.
        now: Unix time, s.
        is_read: the method is GET or HEAD.
    """
    if (tags := fields.get(b"if-match")) is not None:
        if not _matches(tags, current.etag, is_strong=True):
            return Verdict.FAILED
    elif _is_modified(fields.get(b"if-unmodified-since"), current, now):
        return Verdict.FAILED
    if (tags := fields.get(b"if-none-match")) is not None:
        if _matches(tags, current.etag, is_strong=False):
            return Verdict.NOT_MODIFIED if is_read else Verdict.FAILED
    elif is_read and _is_modified(fields.get(b"if-modified-since"), current, now) is False:
        return Verdict.NOT_MODIFIED
    return Verdict.SEND


def allows_range(value: bytes | None, current: Validators, now: float) -> bool:
    """Tell whether If-Range (None when absent) lets a Range count (section 13.1.5).

    A date counts only where it is a strong validator: more than a second old, so that the
    representation cannot have changed again within the second that it names (section 8.8.2.2).
    """
    if value is None:
        return True
    if _ONE.fullmatch(value):
        return value == current.etag and not value.startswith(b"W/")
    date = parse_date(value, now)
    return date is not None and date == current.modified and date < int(now) - 1


def is_entity_tag(value: bytes) -> bool:
    """Tell whether `value` is one entity tag, weak or strong."""
    return _ONE.fullmatch(value) is not None


def same_weakly(one: bytes, other: bytes) -> bool:
    """Compare two entity tags by the weak comparison (section 8.8.3.2)."""
    return bool(one) and one.removeprefix(b"W/") == other.removeprefix(b"W/")


def _matches(tags: bytes, etag: bytes, *, is_strong: bool) -> bool:
    """Tell whether a list of entity tags, or `*`, names `etag`; what is no list names nothing."""
    if tags == b"*":
        return True
    if not etag or _LIST.fullmatch(tags) is None:
        return False
    if is_strong:
        return not etag.startswith(b"W/") and etag in _ONE.findall(tags)
    return any(same_weakly(tag, etag) for tag in _ONE.findall(tags))


def _is_modified(value: bytes | None, current: Validators, now: float) -> bool | None:
    """Tell whether it changed after a date; None when that cannot be told, or nobody asked."""
    if value is None or current.modified is None:
        return None
    date = parse_date(value, now)
    return None if date is None else current.modified > date
