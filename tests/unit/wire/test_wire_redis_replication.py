"""`INFO replication`: texts as servers of several versions give them, and texts of anyone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.redis_replication import (
    MAX_OFFSET,
    MAX_REPLY,
    RedisReply,
    RedisStanding,
    command,
    parse_replication,
)

ID, OLDER = "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb", "f" * 40

PRIMARY = {
    "role": "master",
    "connected_slaves": "2",
    "slave0": "ip=10.2.0.7,port=6379,state=online,offset=1582,lag=0",
    "slave1": "ip=replica.example,port=6380,state=send_bulk,offset=0,lag=1",
    "master_failover_state": "no-failover",
    "master_replid": ID,
    "master_replid2": "0" * 40,
    "master_repl_offset": "1582",
    "second_repl_offset": "-1",
    "repl_backlog_active": "1",
}
REPLICA = {
    "role": "slave",
    "master_host": "10.1.0.1",
    "master_port": "6379",
    "master_link_status": "up",
    "master_last_io_seconds_ago": "3",
    "slave_read_repl_offset": "1582",
    "slave_repl_offset": "1582",
    "master_replid": ID,
    "master_replid2": "0" * 40,
    "master_repl_offset": "1582",
    "second_repl_offset": "-1",
}


def info(fields: dict[str, str], **changes: str | None) -> bytes:
    """Return the text of fields; a change to None leaves one out."""
    found = {n: v for n, v in {**fields, **changes}.items() if v is not None}
    lines = ["# Replication", *(f"{name}:{value}" for name, value in found.items()), ""]
    return "\r\n".join(lines).encode()


def test_a_primary_tells_its_history_and_the_replicas_that_have_it() -> None:
    standing = RedisStanding(True, ID, 1582, replicas=(("10.2.0.7", 6379),))
    assert parse_replication(info(PRIMARY)) == standing


def test_a_replica_tells_what_a_read_shows() -> None:
    assert parse_replication(info(REPLICA)) == RedisStanding(False, ID, 1582)
    behind = parse_replication(info(REPLICA, slave_repl_offset="900"))
    assert (behind.offset, behind.has_applied_all) == (900, False)
    assert not parse_replication(info(REPLICA, master_link_status="down")).is_linked


def test_before_version_7_a_replica_does_not_tell_what_it_received() -> None:
    assert parse_replication(info(REPLICA, slave_read_repl_offset=None)).has_applied_all


def test_after_a_failover_a_replica_has_the_history_before_it() -> None:
    text = info(REPLICA, master_replid2=OLDER, second_repl_offset="1201")
    assert parse_replication(text).older == (OLDER, 1200)


@pytest.mark.parametrize(
    ("fields", "changes", "told"),
    [
        (PRIMARY, {"role": None}, "INFO replication has no role"),
        (PRIMARY, {"role": "sentinel"}, "role 'sentinel' is not one of master, slave"),
        (PRIMARY, {"master_replid": None}, "has no master_replid"),
        (PRIMARY, {"master_replid": ID[1:]}, "is not 40 hexadecimal digits"),
        (PRIMARY, {"master_repl_offset": "-1"}, f"'-1' is not in 0..{MAX_OFFSET}"),
        (PRIMARY, {"master_repl_offset": str(MAX_OFFSET + 1)}, "master_repl_offset '92233720368"),
        (PRIMARY, {"master_repl_offset": "9" * 5000}, "is not in 0.."),
        (PRIMARY, {"slave0": "ip=10.2.0.7,port=70000,state=online"}, "port of slave0 '70000'"),
        (PRIMARY, {"slave0": "ip=,port=1,state=online"}, "ip of slave0 '' is not of 1 to 253"),
        (PRIMARY, {"slave0": "x" * 400}, "ip of slave0"),
        (REPLICA, {"master_link_status": "half"}, "master_link_status 'half' is not one of up,"),
        (REPLICA, {"slave_repl_offset": "1e9"}, "slave_repl_offset '1e9' is not in"),
        (REPLICA, {"slave_read_repl_offset": ""}, "slave_read_repl_offset '' is not in"),
        (REPLICA, {"master_replid2": OLDER}, "second_repl_offset '-1' is not in"),
    ],
)
def test_what_is_not_what_it_must_be_is_told_by_its_name(
    fields: dict[str, str], changes: dict[str, str | None], told: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_replication(info(fields, **changes))
    assert told in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_is_not_ascii_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not ASCII at byte 5"):
        parse_replication(b"role:\xff")


def test_a_reply_that_would_be_too_long_is_refused_by_its_head() -> None:
    with pytest.raises(LimitError, match=f"of 9999999 bytes exceeds limit of {MAX_REPLY}") as told:
        RedisReply().receive_data(b"$9999999\r\n")
    assert told.value.kind is Kind.MALFORMED


def test_words_of_a_command_may_hold_anything() -> None:
    assert command(b"AUTH", b"a\r\nb") == b"*2\r\n$4\r\nAUTH\r\n$4\r\na\r\nb\r\n"


names = st.sampled_from([*PRIMARY, *REPLICA, "slave9", "slave", ""])
values = st.one_of(
    st.sampled_from([*PRIMARY.values(), *REPLICA.values()]),
    st.integers().map(str),
    st.text(max_size=60),
)


@given(st.one_of(st.binary(max_size=200), st.dictionaries(names, values).map(info)))
def test_any_text_is_a_standing_or_a_typed_error(data: bytes) -> None:
    try:
        standing = parse_replication(data)
    except ProtocolError:
        return
    assert 0 <= standing.offset <= MAX_OFFSET
    assert all(0 <= port <= 65535 for _, port in standing.replicas)
