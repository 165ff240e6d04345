"""Round trips counted from bytes and directions, with set-up apart."""

import pytest

from onetrip.model.catalog import BackendKind
from onetrip.wire.flip_setup import MAX_LINE, flips_for
from onetrip.wire.flips import LEAST_PAUSE, MAX_GUESSED, MAX_SETUP, FlipCounter, Tally
from support.transcripts import (
    CLIENT_HELLO,
    MYSQL,
    POSTGRES,
    REDIS,
    SSL_REQUEST,
    TALKS,
    TLS_DATA,
    Talk,
    count,
    pg,
    resp,
)


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.name)
def test_conversation_is_counted(talk: Talk) -> None:
    assert count(talk.kind, list(talk.turns)) == Tally(talk.trips, talk.setup_trips, talk.opaque)


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.name)
def test_conversation_byte_by_byte_gives_the_same_counts(talk: Talk) -> None:
    tally = Tally()
    counter = flips_for(talk.kind, tally)
    for index, (side, data) in enumerate(talk.turns):
        feed = counter.client_data if side == "client" else counter.server_data
        for i in range(len(data)):
            feed(data[i : i + 1], index * 0.001)
    assert tally == Tally(talk.trips, talk.setup_trips, talk.opaque)


def opaque_postgres() -> tuple[FlipCounter, Tally]:
    tally = Tally()
    counter = flips_for(POSTGRES, tally)
    counter.client_data(SSL_REQUEST, 0.0)
    counter.server_data(b"S", 0.050)
    return counter, tally


def ask(counter: FlipCounter, at: float, trip: float) -> float:
    counter.client_data(TLS_DATA, at)
    counter.server_data(TLS_DATA, at + trip)
    return at + trip


def test_opaque_set_up_ends_at_a_pause_longer_than_the_trip_before_it() -> None:
    counter, tally = opaque_postgres()
    at = 0.051
    for _ in range(3):
        at = ask(counter, at, trip=0.050) + 0.045
    assert (tally.setup_trips, tally.trips) == (4, 0)
    assert not counter.is_set_up
    ask(counter, at + 0.010, trip=0.050)  # 55 ms after the answer
    assert (tally.setup_trips, tally.trips) == (4, 1)
    ask(counter, at + 0.061, trip=0.050)
    assert tally.trips == 2


def test_a_short_pause_never_ends_an_opaque_set_up() -> None:
    counter, tally = opaque_postgres()
    at = ask(counter, 0.051, trip=0.0001)
    at = ask(counter, at + LEAST_PAUSE * 0.9, trip=0.0001)
    assert (tally.setup_trips, tally.trips) == (3, 0)
    ask(counter, at + LEAST_PAUSE * 1.1, trip=0.0001)
    assert (tally.setup_trips, tally.trips) == (3, 1)


def test_a_client_that_never_pauses_has_a_bounded_set_up() -> None:
    counter, tally = opaque_postgres()
    at = 0.051
    for _ in range(30):
        at = ask(counter, at, trip=0.050) + 0.001
    assert (tally.setup_trips, tally.trips) == (MAX_GUESSED, 31 - MAX_GUESSED)


def test_a_second_message_before_the_answer_is_no_pause() -> None:
    counter, tally = opaque_postgres()
    counter.client_data(CLIENT_HELLO, 0.051)
    counter.client_data(TLS_DATA, 9.0)
    counter.server_data(TLS_DATA, 9.1)
    assert tally == Tally(trips=0, setup_trips=2, opaque=1)


@pytest.mark.parametrize(
    ("kind", "side", "data"),
    [
        (POSTGRES, "client", b"GET / HTTP/1.1\r\n\r\n"),
        (POSTGRES, "client", b"\0\0\0\x07\0\x03\0\0"),
        (POSTGRES, "client", b"\0\0\0\x08\0\x02\0\0"),
        (POSTGRES, "server", b"HTTP/1.1 400 Bad Request\r\n"),
        (POSTGRES, "server", b"R\xff\xff\xff\xff"),
        (MYSQL, "server", b"HTTP/1.1 400 Bad Request\r\n"),
        (MYSQL, "server", b"\0\0\0\0\0"),
        (MYSQL, "client", b"\x03\0\0\1abcd"),
    ],
)
def test_another_protocol_degrades_to_flips(kind: BackendKind, side: str, data: bytes) -> None:
    turns = [(side, data), *[("client", b"?"), ("server", b"!")] * 3]
    tally = count(kind, [*turns, *[("client", b"?"), ("server", b"!")] * 20])
    assert tally == Tally(trips=23 - MAX_GUESSED, setup_trips=MAX_GUESSED, opaque=1)


def test_a_set_up_that_does_not_end_was_misread() -> None:
    turns = [("client", pg(b"p", b"x")), ("server", pg(b"R", b"\0\0\0\x0b"))]
    start = [("client", SSL_REQUEST), ("server", b"N")]
    tally = count(POSTGRES, [*start, ("client", b"\0\0\0\x09\0\x03\0\0\0"), *turns * 40])
    assert tally.setup_trips == MAX_SETUP
    assert tally.trips == 41 - MAX_SETUP


@pytest.mark.parametrize(
    "first",
    [
        resp(b"AUTHENTICATE", b"x"),
        resp(b"x" * MAX_LINE),
        b"*0\r\n",
        b"*1\r\n*1\r\n",
        b"\r\n",
        b"x" * 4096,
    ],
)
def test_redis_set_up_ends_at_whatever_is_no_command_about_the_connection(first: bytes) -> None:
    tally = count(REDIS, [("client", first), ("server", b"+OK\r\n")])
    assert tally == Tally(trips=1)


def test_empty_data_is_nothing() -> None:
    tally = count(BackendKind.TCP, [("client", b""), ("server", b"a"), ("server", b"")])
    assert tally == Tally()


def test_counters_of_one_relay_share_a_tally() -> None:
    tally = Tally()
    for _ in range(2):
        counter = flips_for(REDIS, tally)
        counter.client_data(resp(b"GET", b"k"), 0.0)
        counter.server_data(b"$-1\r\n", 0.001)
    assert tally == Tally(trips=2)


def test_waiting_is_told_for_the_drain() -> None:
    counter = flips_for(REDIS, Tally())
    assert not counter.is_waiting
    counter.client_data(resp(b"BLPOP", b"k", b"0"), 0.0)
    assert counter.is_waiting
    counter.server_data(b"*-1\r\n", 0.001)
    assert not counter.is_waiting
