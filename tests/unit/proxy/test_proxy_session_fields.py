"""Where tokens are found in messages, and how they are given to clients."""

from __future__ import annotations

import pytest

from onetrip.model.consistency import Carry, Consistency
from onetrip.model.measure import MethodClass
from onetrip.proxy.session_fields import (
    MAX_TOKENS,
    cookie_line,
    find_answer,
    find_tokens,
    read_line,
)
from onetrip.wire.consistency_token import MAX_TOKEN

FIELD, COOKIE = Carry.HEADER, Carry.COOKIE


@pytest.mark.parametrize(
    ("fields", "carry", "from_peer", "tokens"),
    [
        ([], FIELD, False, []),
        ([(b"Onetrip-Consistency", b"a, b ,,c")], FIELD, False, [b"a", b"b", b"c"]),
        ([(b"onetrip-consistency", b"a")], COOKIE, False, []),
        ([(b"onetrip-consistency", b"a"), (b"cookie", b"onetrip-seen=c")], COOKIE, True, [b"a"]),
        (
            [(b"Cookie", b"x=1; onetrip-seen=a;onetrip-wrote=b"), (b"cookie", b"onetrip-seen=c")],
            COOKIE,
            False,
            [b"a", b"b", b"c"],
        ),
        ([(b"Cookie", b"onetrip-seen=; onetrip-seenx=a; onetrip-wrote")], COOKIE, False, []),
        ([(b"onetrip-consistency", b",".join([b"t"] * 99))], FIELD, False, [b"t"] * MAX_TOKENS),
    ],
)
def test_tokens_of_a_request(
    fields: list[tuple[bytes, bytes]], carry: Carry, from_peer: bool, tokens: list[bytes]
) -> None:
    assert find_tokens(fields, carry, from_peer=from_peer) == tokens


@pytest.mark.parametrize(
    ("values", "token"),
    [([], None), ([b"a"], b"a"), ([b"a", b"b"], None), ([b""], None), ([b"x" * 5000], None)],
)
def test_token_of_a_peers_response(values: list[bytes], token: bytes | None) -> None:
    assert find_answer([(b"onetrip-consistency", value) for value in values]) == token


@pytest.mark.parametrize(
    ("path", "place"),
    [("/", b"/"), ("/shop", b"/shop"), ("/shop/", b"/shop"), ("/a;Domain=x", b"/")],
)
def test_a_cookie_is_for_the_paths_of_its_environment(path: str, place: bytes) -> None:
    terms = Consistency((b"k",), max_age=60.0)
    line = cookie_line(b"t" * MAX_TOKEN, MethodClass.WRITE, terms, path, is_secure=True)
    ends = b"; Path=%b; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n" % place
    assert line == b"Set-Cookie: onetrip-wrote=" + b"t" * MAX_TOKEN + ends
    assert len(line) < 4096


def test_an_application_is_told_an_endpoint_for_each_backend() -> None:
    line = read_line({"orders": "orders/fra", "users": "users"})
    assert line == b"onetrip-read: orders=orders/fra, users=users\r\n"
