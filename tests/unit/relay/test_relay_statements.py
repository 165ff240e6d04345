"""Prepared statements that follow a session from one connection to another."""

from dataclasses import dataclass, field

import pytest

from onetrip.errors import LimitError
from onetrip.relay.statements import MAX_NAMED, MAX_PREPARED, Statements
from onetrip.wire.postgres_messages import Message, RequestReader, message
from onetrip.wire.sql_classifier import Classifier
from onetrip.wire.sql_intent import Act

TYPES = b"\0\0"
SYNC = message(b"S")


@dataclass
class Connection:
    """A server that knows what it was told, and answers."""

    prepared: dict[bytes, None] = field(default_factory=dict)
    unnamed: object = None
    there: dict[bytes, bytes] = field(default_factory=dict)
    ran: list[bytes] = field(default_factory=list)

    def run(self, statements: Statements, *messages: bytes, fails: bool = False) -> str:
        """Send a batch; return the kinds of the answers that the client gets."""
        sent = statements.rewrite(requests(*messages), self)
        told = ""
        for each in RequestReader().feed(sent):
            kind, told = chr(each.kind), told
            if kind == "P":
                name, text = each.body.split(b"\0")[:2]
                assert not name or name not in self.there, "42P05"
                if fails:
                    statements.failed()
                    return told + "E"
                self.there[name] = text
                told += "1" if statements.parsed(self) else ""
            elif kind == "C":
                self.there.pop(each.body[1:-1], None)
                told += "3" if statements.closed() else ""
            elif kind == "B":
                self.ran.append(self.there[each.body.split(b"\0")[1]])
                told += "2"
            elif kind == "D":
                assert each.body[1:-1] in self.there, "26000"
                told += "T"
        return told


def requests(*messages: bytes) -> list[Message]:
    return RequestReader().feed(b"".join(messages))


def parse(name: bytes, sql: bytes) -> bytes:
    return message(b"P", name + b"\0" + sql + b"\0" + TYPES)


def bind(name: bytes, portal: bytes = b"") -> bytes:
    return message(b"B", portal + b"\0" + name + b"\0" + b"\0\0\0\0\0\0")


def describe(name: bytes) -> bytes:
    return message(b"D", b"S" + name + b"\0")


def close(name: bytes) -> bytes:
    return message(b"C", b"S" + name + b"\0")


@pytest.fixture
def statements() -> Statements:
    return Statements(Classifier())


def test_a_statement_is_parsed_again_where_it_is_missing(statements: Statements) -> None:
    one, other = Connection(), Connection()
    assert one.run(statements, parse(b"s", b"SELECT 1"), describe(b"s"), SYNC) == "1T"
    for connection in (one, other, other, one):
        assert connection.run(statements, bind(b"s"), SYNC) == "2"
    assert one.ran == other.ran == [b"SELECT 1"] * 2
    assert len(other.there) == 1


def test_sessions_share_what_has_the_same_text() -> None:
    connection = Connection()
    for _ in range(3):
        statements = Statements(Classifier())
        assert connection.run(statements, parse(b"mine", b"SELECT 1"), bind(b"mine"), SYNC) == "12"
    assert len(connection.there) == len(connection.prepared) == 1


def test_names_of_one_session_are_nothing_to_another() -> None:
    connection = Connection()
    first, second = Statements(Classifier()), Statements(Classifier())
    connection.run(first, parse(b"s", b"SELECT 1"), SYNC)
    connection.run(second, parse(b"s", b"SELECT 2"), SYNC)
    connection.run(first, bind(b"s"), SYNC)
    connection.run(second, bind(b"s"), SYNC)
    assert connection.ran == [b"SELECT 1", b"SELECT 2"]


def test_the_unnamed_statement_follows_too(statements: Statements) -> None:
    one, other = Connection(), Connection()
    assert one.run(statements, parse(b"", b"SELECT 1"), bind(b""), SYNC) == "12"
    assert one.run(statements, bind(b""), SYNC) == "2"
    assert other.run(statements, bind(b""), SYNC) == "2"
    other.run(Statements(Classifier()), parse(b"", b"SELECT 2"), SYNC)
    assert other.run(statements, bind(b""), SYNC) == "2"
    assert other.ran == [b"SELECT 1"] * 2


def test_closing_is_heard_by_the_client_only(statements: Statements) -> None:
    connection = Connection()
    connection.run(statements, parse(b"s", b"SELECT 1"), SYNC)
    assert connection.run(statements, close(b"s"), SYNC) == "3"
    assert len(connection.there) == 1
    with pytest.raises(KeyError):
        connection.run(statements, bind(b"s"), SYNC)


def test_a_parse_that_failed_left_nothing(statements: Statements) -> None:
    connection = Connection()
    assert connection.run(statements, parse(b"s", b"SELEKT"), bind(b"s"), SYNC, fails=True) == "E"
    assert connection.prepared == {}
    assert connection.run(statements, parse(b"s", b"SELECT 1"), bind(b"s"), SYNC) == "12"
    assert connection.ran == [b"SELECT 1"]


def test_a_connection_is_left_with_a_bounded_number(statements: Statements) -> None:
    connection = Connection()
    for number in range(MAX_PREPARED + 50):
        connection.run(statements, parse(b"s%d" % number, b"SELECT %d" % number), SYNC)
    assert len(connection.there) == len(connection.prepared) == MAX_PREPARED
    assert connection.run(statements, bind(b"s0"), SYNC) == "2"
    assert connection.ran == [b"SELECT 0"]


def test_a_session_has_a_bounded_number(statements: Statements) -> None:
    connection = Connection()
    for number in range(MAX_NAMED):
        connection.run(statements, parse(b"s%d" % number, b"SELECT 1"), SYNC)
    with pytest.raises(LimitError):
        statements.rewrite(requests(parse(b"one_more", b"SELECT 1")), connection)
    statements.drop(None)
    connection.run(statements, parse(b"one_more", b"SELECT 1"), SYNC)


def test_deallocate_in_sql_finds_what_the_servers_call_otherwise(statements: Statements) -> None:
    classifier, connection = Classifier(), Connection()
    connection.run(statements, parse(b"s", b"SELECT 1"), SYNC)
    (own,) = connection.prepared
    sql = b"DEALLOCATE s"
    intent = classifier.classify(sql)
    pinned = statements.own_text(sql, intent, connection, is_pinned=True)
    assert pinned == b"DEALLOCATE " + own
    assert connection.prepared == {}
    free = statements.own_text(sql, intent, connection, is_pinned=False)
    assert free == b"DEALLOCATE ALL"
    other = b"DEALLOCATE made_by_sql"
    assert (
        statements.own_text(other, classifier.classify(other), connection, is_pinned=True) == other
    )


def test_what_a_batch_does_is_what_it_binds(statements: Statements) -> None:
    connection = Connection()
    read, write = parse(b"r", b"SELECT 1"), parse(b"w", b"DELETE FROM t")
    assert statements.intent_of(requests(read, SYNC)).intent.act is Act.READ
    assert not statements.intent_of(requests(read, SYNC)).is_executed
    connection.run(statements, read, write, SYNC)
    for sent, act in (
        ((bind(b"r"), SYNC), Act.READ),
        ((bind(b"r"), bind(b"w"), SYNC), Act.WRITE),
        ((write, bind(b"r"), SYNC), Act.READ),
        ((bind(b"unknown"), SYNC), Act.WRITE),
        ((parse(b"", b"SELECT 1"), bind(b""), SYNC), Act.READ),
        ((message(b"F", b"x"), SYNC), Act.WRITE),
        ((SYNC,), Act.NEUTRAL),
    ):
        assert statements.intent_of(requests(*sent)).intent.act is act
