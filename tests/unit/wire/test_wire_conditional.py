from __future__ import annotations

import pytest

from onetrip.wire.conditional import (
    Validators,
    Verdict,
    allows_range,
    check_preconditions,
    is_entity_tag,
)
from onetrip.wire.http_date import format_date

NOW = 1_750_000_000
THEN = NOW - 3600
CURRENT = Validators(b'"v1"', THEN)
WEAK = Validators(b'W/"v1"', THEN)
SEND, NOT_MODIFIED, FAILED = Verdict.SEND, Verdict.NOT_MODIFIED, Verdict.FAILED


def date(offset):
    return format_date(THEN + offset)


@pytest.mark.parametrize(
    ("fields", "expected", "why"),
    [
        ({}, SEND, "no condition"),
        ({b"if-none-match": b'"v1"'}, NOT_MODIFIED, "the same tag"),
        ({b"if-none-match": b'W/"v1"'}, NOT_MODIFIED, "compared weakly"),
        ({b"if-none-match": b'"v0", "v1"'}, NOT_MODIFIED, "one of a list"),
        ({b"if-none-match": b'"a,b" ,, W/"v1" ,'}, NOT_MODIFIED, "commas in and between tags"),
        ({b"if-none-match": b"*"}, NOT_MODIFIED, "anything there is"),
        ({b"if-none-match": b'"v0"'}, SEND, "another tag"),
        ({b"if-none-match": b"v1"}, SEND, "not a tag"),
        ({b"if-none-match": b'"v1'}, SEND, "half a tag"),
        ({b"if-none-match": b'"v1" "v2"'}, SEND, "no list"),
        ({b"if-modified-since": date(0)}, NOT_MODIFIED, "the same date"),
        ({b"if-modified-since": date(1)}, NOT_MODIFIED, "not since"),
        ({b"if-modified-since": date(-1)}, SEND, "changed since"),
        ({b"if-modified-since": b"yesterday"}, SEND, "no date"),
        ({b"if-none-match": b'"v0"', b"if-modified-since": date(1)}, SEND, "the tag wins"),
        ({b"if-none-match": b'"v1"', b"if-modified-since": date(-1)}, NOT_MODIFIED, "here too"),
        ({b"if-match": b'"v1"'}, SEND, "as expected"),
        ({b"if-match": b"*"}, SEND, "there is one"),
        ({b"if-match": b'"v0"'}, FAILED, "another one"),
        ({b"if-match": b'W/"v1"'}, FAILED, "compared strongly"),
        ({b"if-match": b"v1"}, FAILED, "not a tag"),
        ({b"if-unmodified-since": date(0)}, SEND, "unmodified"),
        ({b"if-unmodified-since": date(-1)}, FAILED, "modified"),
        ({b"if-unmodified-since": b"never"}, SEND, "no date"),
        ({b"if-match": b'"v1"', b"if-unmodified-since": date(-1)}, SEND, "the tag wins"),
        ({b"if-match": b'"v0"', b"if-none-match": b'"v1"'}, FAILED, "If-Match comes first"),
        ({b"if-match": b'"v1"', b"if-none-match": b'"v1"'}, NOT_MODIFIED, "then the other"),
    ],
)
def test_preconditions_of_a_read(fields, expected, why):
    assert check_preconditions(fields, CURRENT, NOW, is_read=True) is expected, why


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({b"if-none-match": b"*"}, FAILED),
        ({b"if-none-match": b'"v1"'}, FAILED),
        ({b"if-none-match": b'"v0"'}, SEND),
        ({b"if-modified-since": date(1)}, SEND),
        ({b"if-match": b'"v1"'}, SEND),
    ],
)
def test_preconditions_of_a_write(fields, expected):
    assert check_preconditions(fields, CURRENT, NOW, is_read=False) is expected


def test_weak_tag_never_matches_strongly():
    assert check_preconditions({b"if-match": b'W/"v1"'}, WEAK, NOW, is_read=True) is FAILED
    assert check_preconditions({b"if-none-match": b'"v1"'}, WEAK, NOW, is_read=True) is NOT_MODIFIED


def test_without_validators_no_date_counts():
    nothing = Validators()
    for name in (b"if-modified-since", b"if-unmodified-since"):
        assert check_preconditions({name: date(0)}, nothing, NOW, is_read=True) is SEND
    assert check_preconditions({b"if-none-match": b'""'}, nothing, NOW, is_read=True) is SEND


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        (b'"v1"', True),
        (b'"v0"', False),
        (b'W/"v1"', False),
        (date(0), True),
        (date(1), False),
        (b"garbage", False),
    ],
)
def test_if_range(value, expected):
    assert allows_range(value, CURRENT, NOW) is expected


def test_if_range_needs_strong_validators():
    assert not allows_range(b'W/"v1"', WEAK, NOW)
    fresh = Validators(b"", NOW - 1)
    assert not allows_range(format_date(NOW - 1), fresh, NOW)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"a"', True),
        (b'W/"a"', True),
        (b'""', True),
        (b"a", False),
        (b'w/"a"', False),
        (b"", False),
    ],
)
def test_entity_tag(value, expected):
    assert is_entity_tag(value) is expected
