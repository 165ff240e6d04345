"""Positions: a partial order with a least upper bound, the same after a trip as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import ProtocolError
from onetrip.model.replication import NOTHING, Position, PositionKind, lsn, offsets, parse_position

UUIDS = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "4350f323-7565-4e59-8763-4b1b83a0ce0e")

small = st.integers(1, 12)
sources = st.sampled_from([*UUIDS, f"{UUIDS[0]}:red"])


@st.composite
def gtid_sets(draw: st.DrawFn) -> Position:
    """Few sources and few numbers, so that sets meet."""
    changes = draw(st.lists(st.tuples(sources, small, st.integers(0, 4)), max_size=6))
    return parse_position(",".join(f"{source}:{n}-{n + more}" for source, n, more in changes))


def lists() -> st.SearchStrategy[Position]:
    """Lists of MariaDB."""
    each = st.tuples(st.integers(0, 2), st.integers(1, 2), small)
    return st.lists(each, max_size=4).map(
        lambda found: parse_position(",".join(f"{d}-{s}-{n}" for d, s, n in found))
    )


histories = st.lists(st.tuples(st.sampled_from(["a" * 40, "0a" * 20]), small), max_size=3)

KINDS = {
    PositionKind.LSN: st.integers(0, 2**64 - 1).map(lsn),
    PositionKind.GTID: gtid_sets(),
    PositionKind.GTID_LIST: lists(),
    PositionKind.OFFSET: histories.map(lambda found: offsets(*found) if found else NOTHING),
}

triples = st.sampled_from(list(PositionKind)).flatmap(
    lambda kind: st.tuples(KINDS[kind], KINDS[kind], KINDS[kind])
)
anything = st.one_of(*KINDS.values())


@given(anything)
def test_text_and_back_is_the_same_position(position: Position) -> None:
    assert parse_position(str(position)) == position


@given(triples)
def test_covering_is_a_partial_order(three: tuple[Position, Position, Position]) -> None:
    a, b, c = three
    assert a.covers(a)
    assert not (a.covers(b) and b.covers(a)) or a == b
    assert not (a.covers(b) and b.covers(c)) or a.covers(c)


@given(triples)
def test_joining_is_commutative_associative_and_idempotent(
    three: tuple[Position, Position, Position],
) -> None:
    a, b, c = three
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a


@given(triples)
def test_a_join_covers_both_and_is_the_least_that_does(
    three: tuple[Position, Position, Position],
) -> None:
    a, b, c = three
    joined = a.join(b)
    assert joined.covers(a)
    assert joined.covers(b)
    assert joined.covers(c) is (joined.join(c) == joined)
    if c.covers(a) and c.covers(b):
        assert c.covers(joined)


@given(anything)
def test_nothing_is_covered_by_everything_and_changes_no_join(position: Position) -> None:
    assert position.covers(NOTHING)
    assert NOTHING.join(position) == position.join(NOTHING) == position


@given(anything, anything)
def test_positions_of_different_databases_never_cover_each_other(a: Position, b: Position) -> None:
    if a.kind is not b.kind and a.ranges and b.ranges:
        assert not a.covers(b)
        with pytest.raises(ProtocolError):
            a.join(b)


@given(st.text(max_size=80) | st.text("0123456789abcdefABCDEF/:-, \n", max_size=80))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    try:
        position = parse_position(text)
    except ProtocolError:
        return
    assert parse_position(str(position)) == position
