"""Server-Timing: the grammar of the specification, and nothing from what does not fit it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.model.measure import Timing
from onetrip.wire.server_timing import MAX_METRICS, MAX_SIZE, parse_server_timing


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"db;dur=2510.3;trips=11", (Timing("db", 2.5103, 11.0),)),
        (b"db", (Timing("db", None, None),)),
        (b'db ; desc="a, b; dur=9" ; dur = 5', (Timing("db", 0.005, None),)),
        (b"a;dur=1, b;dur=2,", (Timing("a", 0.001, None), Timing("b", 0.002, None))),
        (b'db;dur="12"', (Timing("db", 0.012, None),)),
        (b"db;DUR=12;dur=99", (Timing("db", 0.012, None),)),
        (b"db;dur=-1", (Timing("db", None, None),)),
        (b"db;dur=nan;trips=inf", (Timing("db", None, None),)),
        (b"db;dur=1e300", (Timing("db", None, None),)),
        (b"db;dur", (Timing("db", None, None),)),
        (b"", ()),
        (b"db=3", ()),
        (b"db;dur=1;;", ()),
        (b'db;desc="open', ()),
        (b"d b", ()),
    ],
)  # fmt: skip
def test_values(value: bytes, expected: tuple[Timing, ...]) -> None:
    assert parse_server_timing(value) == expected


def test_bounds() -> None:
    assert len(parse_server_timing(b",".join([b"m;dur=1"] * 100))) == MAX_METRICS
    assert parse_server_timing(b"x" * (MAX_SIZE + 1)) == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(value: bytes) -> None:
    for timing in parse_server_timing(value):
        assert timing.duration is None or 0 <= timing.duration <= 3600
