"""A login to a server: each way to authenticate, and what is refused."""

import hashlib
import struct

import pytest

from onetrip.errors import Kind, ProtocolError, UpstreamError
from onetrip.wire.postgres_login import Login, LoginError
from onetrip.wire.postgres_messages import error_response, message, parameter_status, ready
from onetrip.wire.postgres_start import backend_key, start_packet
from onetrip.wire.scram import ScramServer, Verifier

END = (
    message(b"R", b"\0\0\0\0") + parameter_status("server_version", "15") + backend_key(9, b"abcd")
)


def login(password: str | None = "geheim", *, is_private: bool = False) -> Login:
    return Login("app", "shop", password, b"n" * 18, is_private=is_private)


def test_trust() -> None:
    one = login(None)
    assert one.start() == start_packet({"user": "app", "database": "shop"})
    sent = END + ready(b"I")
    answers = b"".join(one.feed(sent[at : at + 1]) for at in range(len(sent)))
    assert (answers, one.is_ready) == (b"", True)
    assert one.started.parameters == {"server_version": "15"}
    assert (one.started.process, one.started.secret) == (9, b"abcd")
    assert "abcd" not in repr(one.started)


def test_md5() -> None:
    inner = hashlib.md5(b"geheimapp").hexdigest()
    wanted = "md5" + hashlib.md5(inner.encode() + b"salt").hexdigest()
    assert login().feed(message(b"R", struct.pack("!I", 5) + b"salt")) == message(
        b"p", wanted.encode() + b"\0"
    )


def test_scram_to_the_end() -> None:
    one = login()
    server = ScramServer(Verifier.of("geheim", b"s" * 16), b"m" * 18)
    sasl = one.feed(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
    name, rest = sasl[5:].split(b"\0", 1)
    assert name == b"SCRAM-SHA-256"
    proof = one.feed(message(b"R", struct.pack("!I", 11) + server.first(rest[4:])))
    final = message(b"R", struct.pack("!I", 12) + server.final(proof[5:]))
    assert one.feed(final + END + ready(b"I")) == b""
    assert one.is_ready


def test_a_server_that_skips_its_proof_is_refused() -> None:
    one = login()
    one.feed(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
    with pytest.raises(UpstreamError) as error:
        one.feed(END)
    assert error.value.kind is Kind.DENIED


def test_a_password_is_sent_in_clear_only_where_nobody_listens() -> None:
    asks = message(b"R", struct.pack("!I", 3))
    assert login(is_private=True).feed(asks) == message(b"p", b"geheim\0")
    with pytest.raises(UpstreamError):
        login().feed(asks)
    with pytest.raises(UpstreamError):
        login(None, is_private=True).feed(asks)


def test_a_refusal_tells_its_code() -> None:
    with pytest.raises(LoginError) as error:
        login().feed(error_response("28P01", "no", severity="FATAL"))
    assert error.value.code == "28P01"
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        message(b"D", b"\0\0"),
        message(b"R", b"\0"),
        END + ready(b"I") + ready(b"I"),
        parameter_status("a", "b") * 201,
    ],
)
def test_what_is_no_login_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        login().feed(data)


@pytest.mark.parametrize("code", [2, 7, 9, 10])
def test_other_ways_to_authenticate_are_refused(code: int) -> None:
    with pytest.raises(UpstreamError):
        login().feed(message(b"R", struct.pack("!I", code) + b"OTHER\0\0"))
