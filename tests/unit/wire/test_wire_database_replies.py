"""First replies of databases: what is an answer, and what is refused at which byte."""

import pytest

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.mysql import MysqlGreeting, ServerHello
from onetrip.wire.postgres import PostgresGreeting, SslAnswer
from onetrip.wire.redis import Pong, RedisPing
from onetrip.wire.redis_replication import MAX_REPLY, Bulk, RedisReply, Said
from onetrip.wire.reply import ServerRefused
from support.greetings import (
    MYSQL_BLOCKED,
    MYSQL_V9,
    POSTGRES_ERROR,
    mysql_error,
    mysql_greeting,
    mysql_packet,
)

Reader = type[PostgresGreeting] | type[MysqlGreeting] | type[RedisPing] | type[RedisReply]

ANSWERS: list[tuple[Reader, bytes, object]] = [
    (PostgresGreeting, b"S", SslAnswer(is_accepted=True)),
    (PostgresGreeting, b"N", SslAnswer(is_accepted=False)),
    (PostgresGreeting, POSTGRES_ERROR, ServerRefused("")),
    (MysqlGreeting, mysql_greeting(), ServerHello("8.4.2")),
    (
        MysqlGreeting,
        mysql_greeting("5.5.5-10.11.6-MariaDB-0+deb12u1"),
        ServerHello("5.5.5-10.11.6-MariaDB-0+deb12u1"),
    ),
    (MysqlGreeting, MYSQL_V9, ServerHello("3.20.32")),
    (MysqlGreeting, MYSQL_BLOCKED, ServerRefused("1129")),
    (MysqlGreeting, mysql_error(1040, "Too many connections"), ServerRefused("1040")),
    (MysqlGreeting, mysql_error(1130, ""), ServerRefused("1130")),
    (RedisPing, b"+PONG\r\n", Pong()),
    (RedisPing, b"-NOAUTH Authentication required.\r\n", ServerRefused("NOAUTH")),
    (RedisPing, b"-ERR max number of clients reached\r\n", ServerRefused("ERR")),
    (RedisPing, b"-DENIED Redis is running in protected mode\r\n", ServerRefused("DENIED")),
    (RedisPing, b"-\r\n", ServerRefused("")),
    (RedisReply, b"+OK\r\n", Said(b"OK")),
    (RedisReply, b"$4\r\na\r\nb\r\n", Bulk(b"a\r\nb")),
    (RedisReply, b"$0\r\n\r\n", Bulk(b"")),
    (RedisReply, b"-NOPERM this user has no permissions\r\n", ServerRefused("NOPERM")),
]


@pytest.mark.parametrize(("reader", "data", "event"), ANSWERS)
def test_answer_is_one_event(reader: Reader, data: bytes, event: object) -> None:
    machine = reader()
    machine.receive_data(data)
    assert machine.next_events() == [event]
    assert machine.next_events() == []
    assert machine.is_done


GARBAGE: list[tuple[Reader, bytes]] = [
    (PostgresGreeting, b"\0"),
    (PostgresGreeting, b"G"),
    (PostgresGreeting, b"HTTP/1.1 400 Bad Request\r\n"),
    (MysqlGreeting, b"HTTP/1.1 400 Bad Request\r\n"),
    (MysqlGreeting, b"\0\0\0\0"),
    (MysqlGreeting, mysql_packet(b"\x0b8.4.2\0" + b"\0" * 40)),
    (MysqlGreeting, mysql_packet(b"\x0a8.4.2\0" + b"\0" * 12)),
    (MysqlGreeting, mysql_packet(b"\x0a\0" + b"\0" * 40)),
    (MysqlGreeting, mysql_packet(b"\x0a8.4.2" + b"A" * 40)),
    (MysqlGreeting, mysql_packet(b"\x0a8.4\n2\0" + b"\0" * 40)),
    (MysqlGreeting, mysql_packet(b"\x0a" + b"8" * 129 + b"\0" * 40)),
    (MysqlGreeting, mysql_packet(b"\x093.20\0\0\0\0")),
    (MysqlGreeting, mysql_packet(b"\xff\x01")),
    (RedisPing, b"HTTP/1.1 400 Bad Request\r\n"),
    (RedisPing, b"+PONK\r\n"),
    (RedisPing, b"+PONG\n"),
    (RedisPing, b"$4\r\nPONG\r\n"),
    (RedisPing, b"-ERR no\n"),
    (RedisPing, b"-ERR no\rx"),
    (RedisReply, b"HTTP/1.1 400 Bad Request\r\n"),
    (RedisReply, b":1\r\n"),
    (RedisReply, b"*1\r\n$1\r\na\r\n"),
    (RedisReply, b"$-1\r\n"),
    (RedisReply, b"$ 4\r\nabcd\r\n"),
    (RedisReply, b"$4\nabcd\r\n"),
    (RedisReply, b"$" + b"0" * 40),
    (RedisReply, b"$4\r\nabcdef"),
    (RedisReply, b"$%d\r\n" % MAX_REPLY),
    (RedisReply, b"+" + b"x" * MAX_REPLY),
]


@pytest.mark.parametrize(("reader", "data"), GARBAGE)
def test_garbage_is_refused(reader: Reader, data: bytes) -> None:
    machine = reader()
    with pytest.raises(ProtocolError) as caught:
        machine.receive_data(data)
    assert caught.value.kind is Kind.MALFORMED
    assert machine.next_events() == []


def test_mysql_size_over_the_limit_is_refused_by_its_header() -> None:
    with pytest.raises(LimitError, match="16777215 bytes exceeds limit of 1020"):
        MysqlGreeting().receive_data(b"\xff\xff\xff\0")


def test_redis_line_without_end_is_refused_at_the_limit() -> None:
    machine = RedisPing()
    machine.receive_data(b"-" + b"A" * 4094)
    with pytest.raises(LimitError, match="4096 bytes exceeds limit of 4096"):
        machine.receive_data(b"A")


def test_questions_are_the_documented_bytes() -> None:
    assert PostgresGreeting().data_to_send() == bytes.fromhex("00000008 04d2162f")
    assert MysqlGreeting().data_to_send() == b""
    assert RedisPing().data_to_send() == b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize("split", [True, False])
def test_bytes_after_the_reply_make_the_connection_unfit_for_another(split: bool) -> None:
    machine = RedisPing()
    for data in [b"+PONG\r\n", b"+PONG\r\n"] if split else [b"+PONG\r\n+PONG\r\n"]:
        machine.receive_data(data)
    assert machine.next_events() == [Pong()]
    assert not machine.is_clean


def test_reply_alone_leaves_the_connection_clean() -> None:
    machine = RedisPing()
    machine.receive_data(b"+PONG\r\n")
    assert machine.is_clean
