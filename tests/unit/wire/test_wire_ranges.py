from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.wire.ranges import MAX_RANGES, content_range, parse_ranges, part_starts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-0", [(0, 1)]),
        (b"bytes=0-9", [(0, 10)]),
        (b"bytes=0-99", [(0, 10)]),
        (b"bytes=3-", [(3, 10)]),
        (b"bytes=-3", [(7, 10)]),
        (b"bytes=-99", [(0, 10)]),
        (b"Bytes=1-1", [(1, 2)]),
        (b"bytes=0-0, 5-5 ,,-1", [(0, 1), (5, 6), (9, 10)]),
        (b"bytes=8-8,0-0", [(8, 9), (0, 1)]),
        (b"bytes=0-0,10-", [(0, 1)]),
        (b"bytes=10-", []),
        (b"bytes=10-20,-0", []),
        (b"bytes=-0", []),
        (b"bytes=5-4", None),
        (b"bytes=a-b", None),
        (b"bytes=-", None),
        (b"bytes=", None),
        (b"bytes 0-1", None),
        (b"items=0-1", None),
        (b"bytes=0-1;2-3", None),
        (b"bytes=0 - 1", None),
        (b"bytes=0-9,0-9", None),
        (b"bytes=99999999999999999999-", None),
        (b"bytes=" + b",".join([b"0-0"] * (MAX_RANGES + 1)), None),
    ],
)
def test_ranges_of_ten_bytes(value, expected):
    assert parse_ranges(value, 10) == expected


def test_empty_file_is_sent_whole():
    assert parse_ranges(b"bytes=0-", 0) is None


@given(st.binary(max_size=60), st.integers(0, 100))
def test_whatever_is_asked_stays_within_the_file(value, size):
    spans = parse_ranges(b"bytes=" + value, size) or []
    assert all(0 <= start < end <= size for start, end in spans)
    assert sum(end - start for start, end in spans) <= size


def test_framing():
    assert content_range((0, 5), 10) == b"bytes 0-4/10"
    assert part_starts([(0, 5)], 10, b"text/plain", b"B") == [
        b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-4/10\r\n\r\n",
        b"\r\n--B--\r\n",
    ]
