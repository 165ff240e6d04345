"""Messages of PostgreSQL: whole from clients; from servers whole where they steer, else as runs."""

import struct

import pytest

from onetrip.errors import Kind, LimitError, ProtocolError
from onetrip.wire.postgres_messages import (
    MAX_REPLY,
    RUN,
    Message,
    ReplyReader,
    RequestReader,
    error_fields,
    error_response,
    message,
    parameter_status,
    query,
    read_parameter,
    ready,
    row_values,
    take_cstring,
)
from onetrip.wire.postgres_start import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    MAX_STARTUP,
    SSL_REQUEST,
    Cancel,
    Encryption,
    Start,
    StartReader,
    backend_key,
    cancel_packet,
    negotiation,
    start_packet,
)


def row(*values: bytes | None) -> bytes:
    parts = [struct.pack("!i", -1 if v is None else len(v)) + (v or b"") for v in values]
    return message(b"D", struct.pack("!H", len(values)) + b"".join(parts))


def test_requests_are_handed_out_whole() -> None:
    reader = RequestReader()
    sent = query("SELECT 1") + message(b"S")
    found = [each for at in range(len(sent)) for each in reader.feed(sent[at : at + 1])]
    assert found == [Message(ord("Q"), query("SELECT 1")), Message(ord("S"), message(b"S"))]
    assert found[0].body == b"SELECT 1\0"
    assert reader.is_empty


def test_requests_are_bounded() -> None:
    with pytest.raises(LimitError) as error:
        RequestReader(100).feed(b"Q" + struct.pack("!I", 101))
    assert error.value.kind is Kind.BODY_TOO_LARGE
    with pytest.raises(ProtocolError):
        RequestReader().feed(b"Q\0\0\0\3")


def test_replies_between_two_that_steer_are_one_run() -> None:
    rows = row(b"1") + row(b"2")
    found = ReplyReader().feed(rows + message(b"C", b"SELECT 2\0") + ready(b"I"))
    assert [each.kind for each in found] == [RUN, ord("C"), ord("Z")]
    assert found[0].data == rows
    assert found[2].body == b"I"


def test_a_row_larger_than_any_limit_is_never_held() -> None:
    reader = ReplyReader()
    size = MAX_REPLY * 2
    head = b"D" + struct.pack("!I", size + 4)
    found = reader.feed(head + b"x" * 10)
    assert found == [Message(RUN, head + b"x" * 10)]
    assert reader.feed(b"x" * (size - 10) + ready(b"T"))[-1] == Message(ord("Z"), ready(b"T"))


def test_a_steering_reply_is_bounded() -> None:
    with pytest.raises(LimitError):
        ReplyReader().feed(b"E" + struct.pack("!I", MAX_REPLY + 1))
    with pytest.raises(ProtocolError):
        ReplyReader().feed(b"D\0\0\0\0")


def test_fields() -> None:
    made = error_response("25006", "no \u2013", hint="wait")
    fields = error_fields(made[5:])
    assert fields == {"S": "ERROR", "V": "ERROR", "C": "25006", "M": "no \u2013", "H": "wait"}
    assert read_parameter(parameter_status("a", "b")[5:]) == ("a", "b")
    assert row_values(row(b"x", None, b"")[5:]) == ["x", None, ""]


@pytest.mark.parametrize("body", [b"", b"\0\1", b"\0\1\0\0\0\5abcd", b"\0\2\0\0\0\0"])
def test_a_row_that_does_not_fit_its_lengths_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        row_values(body)


def test_strings_must_end_and_hold_no_nul() -> None:
    with pytest.raises(ProtocolError):
        take_cstring(b"abc", 0)
    with pytest.raises(ProtocolError):
        query("a\0b")
    with pytest.raises(ProtocolError):
        error_fields(b"Cabc")


def opening(data: bytes) -> object:
    reader = StartReader()
    found = [each for at in range(len(data)) if (each := reader.feed(data[at : at + 1]))]
    assert len(found) == 1
    assert reader.rest == b""
    return found[0]


def test_openings() -> None:
    assert opening(struct.pack("!II", 8, SSL_REQUEST)) is Encryption.TLS
    assert opening(struct.pack("!II", 8, GSS_REQUEST)) is Encryption.GSSAPI
    assert opening(cancel_packet(7, b"1234")) == Cancel(7, b"1234")
    raw = start_packet({"user": "app", "database": "shop"})
    found = opening(raw)
    assert found == Start(0, {"user": "app", "database": "shop"}, raw)
    assert isinstance(found, Start)
    assert (found.user, found.database) == ("app", "shop")
    alone = opening(start_packet({"user": "app"}))
    assert isinstance(alone, Start)
    assert alone.database == "app"


def test_what_follows_an_opening_is_kept_apart() -> None:
    reader = StartReader()
    assert reader.feed(struct.pack("!II", 8, SSL_REQUEST) + b"more") is Encryption.TLS
    assert reader.rest == b"more"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!II", MAX_STARTUP + 1, 3 << 16),
        struct.pack("!II", 7, 3 << 16),
        struct.pack("!II", 8, 2 << 16),
        struct.pack("!II", 12, CANCEL_REQUEST) + b"1234",
        struct.pack("!II", 12, 3 << 16) + b"user",
        b"GET / HTTP/1.1\r\n",
        start_packet({f"p{number}": "x" for number in range(65)}),
    ],
)
def test_what_opens_no_session_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        StartReader().feed(data)


def test_answers_of_a_start() -> None:
    assert backend_key(258, b"abcd") == b"K\0\0\0\x0c\0\0\1\2abcd"
    assert negotiation(["_pq_.x"]) == message(b"v", struct.pack("!II", 3 << 16, 1) + b"_pq_.x\0")


def test_secrets_are_not_shown() -> None:
    assert "geheim" not in repr(Cancel(1, b"geheim"))
