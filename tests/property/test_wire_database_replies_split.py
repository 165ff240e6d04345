"""Database replies: any byte split gives the same end, and no bytes are kept without bound."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.errors import ProtocolError
from onetrip.wire.mysql import MysqlGreeting
from onetrip.wire.postgres import PostgresGreeting
from onetrip.wire.redis import RedisPing
from onetrip.wire.redis_replication import RedisReply
from support.greetings import (
    MYSQL_BLOCKED,
    MYSQL_V9,
    POSTGRES_ERROR,
    mysql_error,
    mysql_greeting,
    mysql_packet,
)

Machine = PostgresGreeting | MysqlGreeting | RedisPing | RedisReply

readers = st.sampled_from([PostgresGreeting, MysqlGreeting, RedisPing, RedisReply])

valid = st.sampled_from(
    [
        b"S",
        b"N",
        POSTGRES_ERROR,
        mysql_greeting(),
        MYSQL_V9,
        MYSQL_BLOCKED,
        mysql_error(1040, "Too many connections"),
        b"+PONG\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"$11\r\nrole:master\r\n",
        b"$-1\r\n",
    ]
)


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """A valid reply with one byte changed, cut, or with more after it."""
    data = bytearray(draw(valid))
    data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(1, len(data)))]) + draw(st.binary(max_size=8))


replies = st.one_of(
    valid,
    nearly_valid(),
    st.binary(max_size=64),
    st.binary(max_size=64).map(mysql_packet),
    st.integers(4085, 4105).map(lambda size: b"-ERR " + b"x" * (size - 7) + b"\r\n"),
)


def end_of(machine: Machine, chunks: list[bytes]) -> object:
    """Return the events, or the error that ended the reading."""
    events: list[object] = []
    for chunk in chunks:
        try:
            machine.receive_data(chunk)
        except ProtocolError as error:
            return type(error), events
        events.extend(machine.next_events())
        assert len(machine._buffer) <= machine.limit
    return events


@settings(deadline=None)  # the machine may be busy
@given(readers, replies, st.data())
def test_any_split_gives_the_same_end(
    reader: type[Machine], data: bytes, choices: st.DataObject
) -> None:
    cuts = sorted(choices.draw(st.sets(st.integers(0, len(data)), max_size=8)))
    bounds = [0, *cuts, len(data)]
    chunks = [data[a:b] for a, b in pairwise(bounds)]
    single = [data[i : i + 1] for i in range(len(data))]
    whole = end_of(reader(), [data])
    assert end_of(reader(), chunks) == whole
    assert end_of(reader(), single) == whole


@settings(deadline=None)
@given(readers, st.lists(st.binary(max_size=300), max_size=30))
def test_only_typed_errors_and_at_most_one_event(
    reader: type[Machine], chunks: list[bytes]
) -> None:
    end = end_of(reader(), chunks)
    events = end[1] if isinstance(end, tuple) else end
    assert len(events) <= 1  # type: ignore[arg-type]
