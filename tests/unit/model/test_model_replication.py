"""Positions in replication: texts as the databases show them, and texts of anyone."""

import pytest

from onetrip.errors import ProtocolError
from onetrip.model.replication import (
    MAX_POSITION,
    NOTHING,
    PositionKind,
    behind,
    lsn,
    offsets,
    parse_position,
)

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4350f323-7565-4e59-8763-4b1b83a0ce0e"

REDIS, OLDER = "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb", "0" * 39 + "1"

MARIADB = PositionKind.GTID_LIST


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("16/B374D848", PositionKind.LSN, "16/B374D848"),
        ("0/0", PositionKind.LSN, "0/0"),
        ("0/8000018", PositionKind.LSN, "0/8000000"),  # only a page's header between the two
        ("0/9000028", PositionKind.LSN, "0/9000000"),  # that of a segment
        ("0/9000030", PositionKind.LSN, "0/9000030"),
        ("0/8000020", PositionKind.LSN, "0/8000020"),
        ("00000016/b374d848", PositionKind.LSN, "16/B374D848"),
        (f"{A.upper()}:1-5", PositionKind.GTID, f"{A}:1-5"),
        (f"{A}:1-3:4-5:9", PositionKind.GTID, f"{A}:1-5:9"),
        (f"{B}:7,\n{A}:1-5:3-8", PositionKind.GTID, f"{A}:1-8,{B}:7"),
        (f"{A}:1-5:red:1-2:4", PositionKind.GTID, f"{A}:1-5,{A}:red:1-2:4"),
        ("0-1-100", MARIADB, "0-1-100"),
        ("1-7-9, 0-2-18446744073709551615", MARIADB, "0-2-18446744073709551615,1-7-9"),
        ("0-1-100,0-2-90", MARIADB, "0-1-100"),
        (f"{REDIS}:0", PositionKind.OFFSET, f"{REDIS}:0"),
        (f"{REDIS}:7, {OLDER}:3,{OLDER}:2", PositionKind.OFFSET, f"{OLDER}:3,{REDIS}:7"),
        ("", PositionKind.GTID, ""),
        (" \n", PositionKind.GTID, ""),
    ],
)
def test_a_position_is_read_as_databases_show_it(text: str, kind: PositionKind, shown: str) -> None:
    position = parse_position(text)
    assert position.kind is kind
    assert str(position) == shown


@pytest.mark.parametrize(
    "text",
    [
        "16",
        "16/",
        "/B374D848",
        "123456789/0",
        "16/B374D848,0-1-2",
        A,
        f"{A}:",
        f"{A}:0",
        f"{A}:5-3",
        f"{A}:red",
        f"{A}:1-9999999999999999999",
        f"{A}:1-2,0-1-2",
        "0-1-2,",
        REDIS,
        f"{REDIS}:",
        f"{REDIS[1:]}:1",
        f"{REDIS}:{1 << 63}",
        f"{REDIS}:1,0-1-2",
        f"{A}:1,{REDIS}:1",
        f"0-1-2,{A}:1",
        "4294967296-1-2",
        "0-1-18446744073709551616",
        "0-1-٣",
        "0-1--2",
        "x" * (MAX_POSITION + 1),
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_position(text)


def test_a_text_that_is_too_long_is_refused_with_its_length() -> None:
    with pytest.raises(ProtocolError, match=f"5000 characters exceeds limit of {MAX_POSITION}"):
        parse_position("0-1-2," * 833 + "xx")


@pytest.mark.parametrize(
    ("covering", "covered"),
    [
        ("1/0", "0/FFFFFFFF"),
        ("1/0", "1/0"),
        (f"{A}:1-10,{B}:1", f"{A}:3-5:9"),
        ("0-1-100,1-1-1", "0-2-99"),
        ("0-1-100", ""),
        (f"{REDIS}:9,{OLDER}:3", f"{REDIS}:8"),
    ],
)
def test_a_position_covers_what_came_before(covering: str, covered: str) -> None:
    assert parse_position(covering).covers(parse_position(covered))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0/FFFFFFFF", "1/0"),
        (f"{A}:1-10:12", f"{A}:9-12"),
        (f"{A}:1-10", f"{A}:1-3,{B}:1"),
        (f"{A}:1-10", f"{A}:red:1"),
        ("0-1-100", "0-1-101"),
        ("0-1-100", "1-1-1"),
        ("1/0", "0-1-1"),
        ("", "0/0"),
        (f"{REDIS}:9", f"{OLDER}:3"),
    ],
)
def test_a_position_does_not_cover_what_it_lacks(one: str, other: str) -> None:
    assert not parse_position(one).covers(parse_position(other))


def test_positions_of_two_databases_cannot_be_joined() -> None:
    with pytest.raises(ProtocolError, match="lsn and gtid_list do not compare"):
        lsn(7).join(parse_position("0-1-2"))


def test_what_lacks_is_counted_in_bytes_where_positions_are_bytes() -> None:
    assert behind(lsn(4096), lsn(96)) == 4000
    assert behind(lsn(96), lsn(4096)) == 0
    assert behind(parse_position("0-1-9"), parse_position("0-1-2")) is None
    assert behind(lsn(1), NOTHING) is None
    assert behind(offsets((REDIS, 90)), offsets((OLDER, 99), (REDIS, 20))) == 70
    assert behind(offsets((REDIS, 90)), offsets((OLDER, 20))) is None
    assert behind(offsets((REDIS, 90)), lsn(1)) is None
