"""The PostgreSQL protocol core over SQLite, byte for byte and without a socket."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from onetrip_lab import pgwire
from onetrip_lab.embedded import SqliteEngine, seeded_engine
from onetrip_lab.pgmessages import SqlError
from onetrip_lab.pgwire import Session


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!ii", len(body) + 8, code) + body


def command(code: bytes, body: bytes = b"") -> bytes:
    return code + struct.pack("!i", len(body) + 4) + body


def parse(sql: str, name: str = "") -> bytes:
    return command(b"P", f"{name}\0{sql}\0".encode() + bytes(2))


def bind(*params: str | None, statement: str = "") -> bytes:
    body = f"\0{statement}\0".encode() + struct.pack("!hh", 0, len(params))
    for p in params:
        raw = None if p is None else p.encode()
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return command(b"B", body + bytes(2))


SYNC = command(b"S")
EXECUTE = command(b"E", bytes(5))
STARTUP = packet(pgwire.VERSION_3, b"user\0shop\0\0")


def codes(data: bytes) -> str:
    """The types of a run of backend messages."""
    out, at = "", 0
    while at < len(data):
        out += chr(data[at])
        at += 1 + struct.unpack_from("!i", data, at + 1)[0]
    assert at == len(data)
    return out


@pytest.fixture(scope="module")
def engine() -> Iterator[SqliteEngine]:
    engine = seeded_engine()
    yield engine
    engine.close()


@pytest.fixture
def session(engine: SqliteEngine) -> Session:
    session = Session(engine)
    session.receive_data(STARTUP)
    return session


def ask(session: Session, sql: str) -> bytes:
    return session.receive_data(command(b"Q", sql.encode() + b"\0"))


def test_encryption_is_declined_and_startup_goes_on(engine: SqliteEngine) -> None:
    session = Session(engine)
    assert session.receive_data(packet(pgwire.SSL_REQUEST)) == b"N"
    assert session.receive_data(packet(pgwire.GSS_REQUEST)) == b"N"
    assert codes(session.receive_data(STARTUP)) == "RSSSSSSSKZ"


def test_any_split_of_the_input_gives_the_same_output(engine: SqliteEngine) -> None:
    stream = STARTUP + command(b"Q", b"SELECT 1 AS one\0") + parse("SELECT $1") + SYNC
    whole = Session(engine).receive_data(stream)
    session = Session(engine)
    assert b"".join(session.receive_data(stream[i : i + 1]) for i in range(len(stream))) == whole


def test_simple_query_returns_description_rows_tag_and_ready(session: Session) -> None:
    reply = ask(session, "SELECT customer_id FROM carts WHERE customer_id < 0;")
    assert codes(reply) == "TCZ"
    reply = ask(
        session, "SELECT id, title, price_cents * 0.5, NULL AS gap FROM items ORDER BY id LIMIT 2"
    )
    assert codes(reply) == "TDDCZ"
    assert b"SELECT 2\0" in reply


def test_empty_query_has_its_own_reply(session: Session) -> None:
    assert codes(ask(session, " ; ")) == "IZ"


def test_write_returns_how_many_rows_it_changed(session: Session) -> None:
    sql = "INSERT INTO carts VALUES (1, 2, 1)"
    assert b"INSERT 0 1\0" in ask(session, sql)
    again = " ON CONFLICT (customer_id, item_id) DO UPDATE SET quantity = 9"
    assert b"INSERT 0 1\0" in ask(session, sql + again)
    assert b"DELETE 1\0" in ask(session, "DELETE FROM carts WHERE customer_id = 1")


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELEC 1", b"42601"),
        ("SELECT * FROM nowhere", b"42601"),
        ("INSERT INTO items VALUES (1, 'a', 1, 1)", b"23000"),
        ("BEGIN", b"0A000"),
        ("ATTACH 'x' AS x", b"42501"),
        ("PRAGMA database_list", b"42501"),
        ("SELECT 1; SELECT 2", b"42000"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            b"54000",
        ),
    ],
)
def test_failed_statement_is_typed_and_the_session_goes_on(
    session: Session, sql: str, code: bytes
) -> None:
    reply = ask(session, sql)
    assert codes(reply) == "EZ"
    assert b"C" + code + b"\0" in reply
    assert codes(ask(session, "SELECT 1")) == "TDCZ"


def test_endless_statement_is_interrupted() -> None:
    engine = SqliteEngine(max_run_time=-1.0)
    sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    with pytest.raises(SqlError) as caught:
        engine.run(sql, ())
    assert caught.value.code == "57014"
    engine.close()


def test_extended_query_with_parameters(session: Session) -> None:
    describe = command(b"D", b"S\0")
    reply = session.receive_data(parse("SELECT $2, '$1', $1") + describe + SYNC)
    assert codes(reply) == "1tTZ"
    reply = session.receive_data(bind("first", None) + EXECUTE + SYNC)
    assert codes(reply) == "2DCZ"
    assert b"\xff\xff\xff\xff\x00\x00\x00\x02$1\x00\x00\x00\x05first" in reply


def test_statement_without_rows_is_described_as_no_data(session: Session) -> None:
    reply = session.receive_data(
        parse("UPDATE items SET stock = $1 WHERE id = $2") + command(b"D", b"S\0") + SYNC
    )
    assert codes(reply) == "1tnZ"


def test_portal_is_suspended_at_the_row_limit(session: Session) -> None:
    three = parse("SELECT id FROM items ORDER BY id LIMIT 3") + bind()
    two = command(b"E", b"\0" + struct.pack("!i", 2))
    assert codes(session.receive_data(three + two + two + SYNC)) == "12DDsDCZ"


def test_after_an_error_everything_up_to_sync_is_skipped(session: Session) -> None:
    reply = session.receive_data(parse("SELEC") + bind() + EXECUTE + SYNC)
    assert codes(reply) == "EZ"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (bind(statement="nope"), b"26000"),
        (command(b"E", b"nope\0" + bytes(4)), b"34000"),
        (command(b"P", b"\xff\0\0\0\0"), b"22021"),
        (command(b"P", b"no end"), b"08P01"),
        (command(b"B", b"\0\0" + struct.pack("!hhh", 1, 1, 0)), b"0A000"),
    ],
)
def test_wrong_extended_message_is_typed(session: Session, sent: bytes, code: bytes) -> None:
    session.receive_data(parse("SELECT 1") + SYNC)
    reply = session.receive_data(sent + SYNC)
    assert codes(reply) == "EZ"
    assert code in reply


def test_named_statement_cannot_be_redefined_until_closed(session: Session) -> None:
    once = parse("SELECT 1", "s") + SYNC
    assert codes(session.receive_data(once)) == "1Z"
    assert b"42P05" in session.receive_data(once)
    close = command(b"C", b"Ss\0") + SYNC
    assert codes(session.receive_data(close)) == "3Z"
    assert codes(session.receive_data(once)) == "1Z"


def test_prepared_statements_are_bounded(session: Session) -> None:
    for n in range(pgwire.MAX_STATEMENTS):
        session.receive_data(parse("SELECT 1", f"s{n}"))
    assert b"53000" in session.receive_data(parse("SELECT 1", "more"))


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!ii", 7, pgwire.VERSION_3),
        struct.pack("!ii", pgwire.MAX_STARTUP + 1, pgwire.VERSION_3),
        packet(2 << 16, b"user\0x\0\0"),
        packet(pgwire.VERSION_3, b"database\0x\0\0"),
        packet(pgwire.VERSION_3, b"user\0x"),
    ],
)
def test_bad_startup_ends_the_connection(engine: SqliteEngine, sent: bytes) -> None:
    session = Session(engine)
    assert codes(session.receive_data(sent)) == "E"
    assert session.is_closing


@pytest.mark.parametrize(
    "sent",
    [
        b"Q" + struct.pack("!i", 3),
        b"Q" + struct.pack("!i", pgwire.MAX_MESSAGE + 1),
        command(b"d", b"copy"),
    ],
)
def test_broken_framing_ends_the_connection(session: Session, sent: bytes) -> None:
    assert codes(session.receive_data(sent)) == "E"
    assert session.is_closing


def test_nothing_is_read_after_terminate(session: Session) -> None:
    assert session.receive_data(command(b"X") + command(b"Q", b"SELECT 1\0")) == b""
    assert session.is_closing


def test_cancel_request_closes_without_a_reply(engine: SqliteEngine) -> None:
    session = Session(engine)
    assert session.receive_data(packet(pgwire.CANCEL_REQUEST, bytes(8))) == b""
    assert session.is_closing
