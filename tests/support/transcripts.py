"""Conversations between a client and a database server, as lists of (side, bytes), with counts."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from onetrip.model.catalog import BackendKind
from onetrip.wire.flip_setup import flips_for
from onetrip.wire.flips import Tally
from support.greetings import mysql_greeting, mysql_packet

Turn = tuple[str, bytes]
"""("client" or "server", what it sent at once)."""

CLIENT_HELLO = b"\x16\x03\x01\x02\x00" + b"h" * 512
"""The first bytes of a TLS connection; only the first five matter."""

TLS_DATA = b"\x17\x03\x03\x00\x40" + b"x" * 64

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation and what must be counted in it."""

    name: str
    kind: BackendKind
    turns: tuple[Turn, ...]
    setup_trips: int
    trips: int
    opaque: int = 0


def count(kind: BackendKind, turns: list[Turn], step: float = 0.001) -> Tally:
    """Feed a conversation to a counter, `step` s between turns, and return its tally."""
    tally = Tally()
    counter = flips_for(kind, tally)
    for index, (side, data) in enumerate(turns):
        feed = counter.client_data if side == "client" else counter.server_data
        feed(data, index * step)
    return tally


def pg(kind: bytes, body: bytes = b"") -> bytes:
    """Return a typed PostgreSQL message."""
    return kind + struct.pack("!I", 4 + len(body)) + body


def pg_startup() -> bytes:
    """Return a startup packet of protocol 3.0."""
    body = struct.pack("!I", 3 << 16) + b"user\0app\0database\0shop\0\0"
    return struct.pack("!I", 4 + len(body)) + body


def resp(*words: bytes) -> bytes:
    """Return a Redis command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


READY = pg(b"Z", b"I")
AUTH_OK = pg(b"R", struct.pack("!I", 0))
SESSION = AUTH_OK + pg(b"S", b"server_version\x0016\0") + pg(b"K", struct.pack("!II", 7, 9)) + READY
ROW = pg(b"T", b"\0\0") + pg(b"D", b"\0\0") + pg(b"C", b"SELECT 1\0") + READY
SASL = pg(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")

MYSQL_LOGIN = mysql_packet(b"\x05\xa2\x3a\x00" + b"\0" * 60, 1)
MYSQL_SSL_REQUEST = mysql_packet(b"\x05\xaa\x3a\x00" + b"\0" * 28, 1)
MYSQL_OK = mysql_packet(b"\x00\x00\x00\x02\x00\x00\x00", 2)
MYSQL_SWITCH = mysql_packet(b"\xfemysql_native_password\0" + b"s" * 20, 2)
MYSQL_MORE = mysql_packet(b"\x01\x03", 2)
MYSQL_QUERY = mysql_packet(b"\x03SELECT 1")
MYSQL_ROWS = b"".join(mysql_packet(b"\x01", n) for n in range(1, 5))

POSTGRES = BackendKind.POSTGRES
MYSQL = BackendKind.MYSQL
REDIS = BackendKind.REDIS


def _turns(*turns: bytes, first: str = "client") -> tuple[Turn, ...]:
    sides = ("client", "server") if first == "client" else ("server", "client")
    return tuple((sides[i % 2], data) for i, data in enumerate(turns))


TALKS = (
    Talk(
        "postgres trusts, two queries",
        POSTGRES,
        _turns(pg_startup(), SESSION, pg(b"Q", b"a\0"), ROW, pg(b"Q", b"b\0"), ROW),
        setup_trips=1,
        trips=2,
    ),
    Talk(
        "postgres without TLS, SCRAM",
        POSTGRES,
        _turns(
            SSL_REQUEST,
            b"N",
            pg_startup(),
            SASL,
            pg(b"p", b"first"),
            pg(b"R", struct.pack("!I", 11) + b"challenge"),
            pg(b"p", b"proof"),
            pg(b"R", struct.pack("!I", 12) + b"v=") + SESSION,
            pg(b"Q", b"a\0"),
            ROW,
        ),
        setup_trips=4,
        trips=1,
    ),
    Talk(
        "postgres refuses GSS, then TLS begins",
        POSTGRES,
        _turns(GSS_REQUEST, b"N", SSL_REQUEST, b"S", CLIENT_HELLO, TLS_DATA),
        setup_trips=3,
        trips=0,
        opaque=1,
    ),
    Talk(
        "postgres too old to know TLS",
        POSTGRES,
        _turns(SSL_REQUEST, pg(b"E", b"SFATAL\0\0")),
        setup_trips=1,
        trips=0,
    ),
    Talk(
        "postgres notifies an idle client, and one that waits",
        POSTGRES,
        (
            *_turns(pg_startup(), SESSION),
            ("server", pg(b"A", b"\0\0\0\7news\0\0")),
            ("server", pg(b"A", b"\0\0\0\7news\0\0")),
            ("client", pg(b"Q", b"a\0")),
            ("server", pg(b"A", b"\0\0\0\7news\0\0")),
            ("server", ROW),
        ),
        setup_trips=1,
        trips=1,
    ),
    Talk(
        "postgres pipeline of three",
        POSTGRES,
        (
            *_turns(pg_startup(), SESSION),
            ("client", pg(b"P") + pg(b"B") + pg(b"E")),
            ("client", pg(b"P") + pg(b"B")),
            ("client", pg(b"E") + pg(b"S")),
            ("server", pg(b"1") + pg(b"2")),
            ("server", ROW),
        ),
        setup_trips=1,
        trips=1,
    ),
    Talk(
        "mysql greets, switches authentication, asks twice",
        MYSQL,
        _turns(
            mysql_greeting(),
            MYSQL_LOGIN,
            MYSQL_SWITCH,
            mysql_packet(b"s" * 20, 3),
            MYSQL_OK,
            MYSQL_QUERY,
            MYSQL_ROWS,
            MYSQL_QUERY,
            MYSQL_ROWS,
            first="server",
        ),
        setup_trips=2,
        trips=2,
    ),
    Talk(
        "mysql fast authentication: more data and OK in one answer",
        MYSQL,
        _turns(
            mysql_greeting(),
            MYSQL_LOGIN,
            MYSQL_MORE + MYSQL_OK,
            MYSQL_QUERY,
            MYSQL_ROWS,
            first="server",
        ),
        setup_trips=1,
        trips=1,
    ),
    Talk(
        "mysql begins TLS",
        MYSQL,
        _turns(
            mysql_greeting(),
            MYSQL_SSL_REQUEST + CLIENT_HELLO,
            TLS_DATA,
            TLS_DATA,
            TLS_DATA,
            first="server",
        ),
        setup_trips=2,
        trips=0,
        opaque=1,
    ),
    Talk(
        "redis says hello, selects, gets twice",
        REDIS,
        _turns(
            resp(b"HELLO", b"3", b"AUTH", b"app", b"x" * 200),
            b"%1\r\n",
            resp(b"select", b"2"),
            b"+OK\r\n",
            resp(b"GET", b"k"),
            b"$1\r\nv\r\n",
            resp(b"AUTH", b"again"),
            b"+OK\r\n",
        ),
        setup_trips=2,
        trips=2,
    ),
    Talk(
        "redis pipelines its set-up with the first command",
        REDIS,
        _turns(resp(b"AUTH", b"pw") + resp(b"GET", b"k"), b"+OK\r\n$1\r\nv\r\n"),
        setup_trips=0,
        trips=1,
    ),
    Talk(
        "redis publishes to a subscriber",
        REDIS,
        (
            ("client", resp(b"SUBSCRIBE", b"news")),
            ("server", b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"),
            ("server", b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\na\r\n"),
            ("server", b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nb\r\n"),
        ),
        setup_trips=0,
        trips=1,
    ),
    Talk(
        "redis by hand", REDIS, _turns(b"AUTH pw\r\n", b"+OK\r\n", b"PING\r\n", b"+PONG\r\n"), 1, 1
    ),
    Talk("redis over TLS", REDIS, _turns(CLIENT_HELLO, TLS_DATA, TLS_DATA, TLS_DATA), 2, 0, 1),
    Talk("no protocol at all", BackendKind.TCP, _turns(b"a", b"b", b"c", b"d"), 0, 2),
)
"""What the counters must get right, whatever the segments."""
