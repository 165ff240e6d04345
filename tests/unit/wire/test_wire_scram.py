"""SCRAM-SHA-256: the example of RFC 7677, both sides back to back, and what must be refused."""

import base64
import hashlib
import hmac

import pytest

from onetrip.errors import ConfigError, DownstreamError, Kind, ProtocolError, UpstreamError
from onetrip.wire.scram import MAX_MESSAGE, ScramClient, ScramServer, Verifier, prepared

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def verifier_text(found: Verifier) -> str:
    salt, stored, server = (
        base64.b64encode(part).decode() for part in (found.salt, found.stored_key, found.server_key)
    )
    return f"SCRAM-SHA-256${found.iterations}:{salt}${stored}:{server}"


def test_the_proofs_of_rfc_7677() -> None:
    # Section 3: user "user", password "pencil".
    found = Verifier.of("pencil", SALT, 4096)
    said = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(found.stored_key, said, "sha256")
    key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(key).digest() == found.stored_key
    server = base64.b64encode(hmac.digest(found.server_key, said, "sha256"))
    assert server == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def exchange(client: ScramClient, server: ScramServer) -> None:
    client.verify(server.final(client.final(server.first(client.first()))))


@pytest.mark.parametrize(
    "password", ["pencil", "", "a,b=c", "mañana", "\u00a0x", "\u00aa", "\u0627x"]
)
def test_both_sides_agree(password: str) -> None:
    exchange(ScramClient(password, b"1" * 18), ScramServer(Verifier.of(password, SALT), b"2" * 18))


def test_a_verifier_is_read_as_postgres_writes_it() -> None:
    made = Verifier.of("pencil", SALT)
    assert Verifier.parse(verifier_text(made) + "\n") == made
    assert "pencil" not in repr(made)
    assert base64.b64encode(made.stored_key).decode() not in repr(made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5abc",
        "SCRAM-SHA-1$4096:AA==$AA==:AA==",
        "SCRAM-SHA-256$4096:AA==$AA==:AA==",
        "SCRAM-SHA-256$x:AA==$AA==:AA==",
    ],
)
def test_what_is_no_verifier_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        Verifier.parse(text)
    assert text == "" or text not in str(error.value)


def test_a_wrong_password_is_denied() -> None:
    with pytest.raises(DownstreamError) as error:
        exchange(ScramClient("pen", b"1" * 18), ScramServer(Verifier.of("pencil", SALT), b"2" * 18))
    assert error.value.kind is Kind.DENIED


def test_a_user_that_does_not_exist_is_denied_at_the_end_only() -> None:
    server = ScramServer(Verifier.of("pencil", SALT), b"2" * 18, is_known=False)
    with pytest.raises(DownstreamError):
        exchange(ScramClient("pencil", b"1" * 18), server)


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    client = ScramClient("pencil", b"1" * 18)
    server = ScramServer(Verifier.of("pencil", SALT), b"2" * 18)
    client.final(server.first(client.first()))
    with pytest.raises(UpstreamError):
        client.verify(b"v=" + base64.b64encode(b"x" * 32))
    with pytest.raises(UpstreamError):
        client.verify(b"e=other-error")
    with pytest.raises(UpstreamError):
        ScramClient("pencil", b"1").verify(b"v=")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"p=tls-server-end-point,,n=,r=x",
        b"n,,n=,r=",
        b"n,a=x,n=,r=y",
        b"\xff",
        b"n,,n=,r=\xc3\xa9",
    ],
)
def test_a_first_message_of_another_kind_is_refused(first: bytes) -> None:
    with pytest.raises(ProtocolError):
        ScramServer(Verifier.of("x", SALT), b"2").first(first)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"c=biws", b"c=eSws"),
        lambda text: text.replace(b"r=", b"r=x"),
        lambda text: text[:-4],
        lambda text: b"x" * (MAX_MESSAGE + 1),
    ],
)
def test_a_changed_proof_is_refused(change) -> None:
    client = ScramClient("pencil", b"1" * 18)
    server = ScramServer(Verifier.of("pencil", SALT), b"2" * 18)
    proof = client.final(server.first(client.first()))
    with pytest.raises((ProtocolError, DownstreamError)):
        server.final(change(proof))


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"r=other,s=AA==,i=4096",
        b"r=MQ==,s=AA==,i=4096",
        b"r=MQ==x,s=!,i=4096",
        b"r=MQ==x,s=AA==,i=0",
        b"r=MQ==x,s=AA==,i=99999999999",
        b"r=MQ==x,s=AA==,i=-1",
    ],
)
def test_a_server_cannot_make_the_client_work_for_ever(first: bytes) -> None:
    with pytest.raises(ProtocolError):
        ScramClient("x", b"1").final(first)


@pytest.mark.parametrize(
    ("password", "after"),
    [
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", "\u0007"),
        ("\u0627\u0031", "\u0627\u0031"),
    ],
)
def test_saslprep_of_rfc_4013(password: str, after: str) -> None:
    # Section 3; what it prohibits PostgreSQL takes as it is.
    assert prepared(password) == after
