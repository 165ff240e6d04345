"""Tokens: what comes back is what was signed, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.model.replication import Position, lsn, parse_position
from onetrip.wire.consistency_token import (
    MAX_SKEW,
    MAX_TOKEN,
    Refusal,
    Session,
    TokenSigner,
    project_key,
)

NOW = 1_750_000_000.0
KEY, OTHER = b"k" * 32, b"o" * 32
SIGNER = TokenSigner([KEY], 3600.0)
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

positions = st.one_of(
    st.none(),
    st.integers(0, 2**64 - 1).map(lsn),
    st.integers(1, 10**6).map(lambda n: parse_position(f"0-1-{n},1-2-{n}")),
    st.integers(1, 10**6).map(lambda n: parse_position(f"{UUID}:1-{n}")),
)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
sessions = st.builds(
    Session, st.dictionaries(names, positions, max_size=8), st.integers(0, int(NOW))
)


@given(sessions)
def test_signed_and_read_is_the_same_session(session: Session) -> None:
    token = SIGNER.sign(session, NOW)
    assert len(token) <= MAX_TOKEN
    assert SIGNER.read(token, NOW) == (session, int(NOW))
    assert token.replace(b".", b"").replace(b"-", b"").replace(b"_", b"").isalnum()


@given(sessions, st.data())
def test_a_token_with_another_byte_is_not_believed(session: Session, data: st.DataObject) -> None:
    token = SIGNER.sign(session, NOW)
    place = data.draw(st.integers(0, len(token) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != token[place]))
    forged = token[:place] + bytes([byte]) + token[place + 1 :]
    assert SIGNER.read(forged, NOW) in (Refusal.FORGED, Refusal.MALFORMED)


@given(st.binary(max_size=MAX_TOKEN + 10))
def test_bytes_of_anyone_are_refused(token: bytes) -> None:
    assert SIGNER.read(token, NOW) in (Refusal.FORGED, Refusal.MALFORMED)
    assert SIGNER.read(b"v1." + token, NOW) in (Refusal.FORGED, Refusal.MALFORMED)


def test_keys_are_rotated_without_losing_sessions() -> None:
    session = Session({"db": lsn(77)})
    old = SIGNER.sign(session, NOW)
    both, new = TokenSigner([OTHER, KEY], 3600.0), TokenSigner([OTHER], 3600.0)
    assert both.read(old, NOW) == (session, int(NOW))
    assert new.read(old, NOW) is Refusal.FORGED
    assert new.read(both.sign(session, NOW), NOW) == (session, int(NOW)), "the first key signs"


def test_a_token_of_another_project_is_foreign() -> None:
    shop, blog = (TokenSigner([project_key(KEY, name)], 3600.0) for name in ("shop", "blog"))
    token = shop.sign(Session({"db": lsn(1)}), NOW)
    assert blog.read(token, NOW) is Refusal.FORGED


@pytest.mark.parametrize(
    ("age", "is_old"),
    [(0, False), (3600, False), (3601, True), (-MAX_SKEW, False), (-MAX_SKEW - 1, True)],
)
def test_a_token_counts_for_its_time(age: float, is_old: bool) -> None:
    token = SIGNER.sign(Session({"db": lsn(1)}), NOW)
    assert (SIGNER.read(token, NOW + age) is Refusal.OLD) is is_old


def test_what_does_not_fit_is_left_unknown_longest_first() -> None:
    intervals = ":".join(str(2 * n) for n in range(1, 500))
    long = parse_position(f"{UUID}:{intervals}")
    token = SIGNER.sign(Session({"long": long, "short": lsn(5)}, 3), NOW)
    assert len(token) <= MAX_TOKEN
    assert SIGNER.read(token, NOW) == (Session({"long": None, "short": lsn(5)}, 3), int(NOW))


@given(sessions, sessions, sessions)
def test_joining_is_commutative_associative_and_idempotent(
    a: Session, b: Session, c: Session
) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(a) == a
    assert a.join(b).join(c) == a.join(b.join(c))


def test_unknown_and_another_kind_of_database_stay_unknown() -> None:
    known, unknown = Session({"db": lsn(5)}, 9), Session({"db": None}, 4)
    other: dict[str, Position | None] = {"db": parse_position("0-1-5")}
    assert known.join(unknown) == Session({"db": None}, 9)
    assert known.join(Session(other)) == Session({"db": None}, 9)
