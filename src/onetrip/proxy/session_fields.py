"""Consistency tokens in the fields of messages: where clients bring them, and how they get them.

Clients bring them in `onetrip-consistency` or in two cookies, one for what they wrote and one for
what they have seen: the answer to a read that was under way during a write must not take the
write's token away. Between nodes the field alone is used.
"""

from __future__ import annotations

from onetrip.model.consistency import Carry, Consistency
from onetrip.model.measure import MethodClass
from onetrip.proxy.headers import find_all
from onetrip.wire.consistency_token import MAX_TOKEN
from onetrip.wire.http1 import Fields

CONSISTENCY_HEADER = b"onetrip-consistency"
READ_HEADER = b"onetrip-read"
"""Tells an application from which endpoint of each backend to read: `orders=orders/fra, …`."""

COOKIES = {MethodClass.READ: b"onetrip-seen", MethodClass.WRITE: b"onetrip-wrote"}

MAX_TOKENS = 4
"""Tokens of one request that are looked at."""


def find_tokens(fields: Fields, carry: Carry, *, from_peer: bool) -> list[bytes]:
    """Return the tokens that a request brings, `MAX_TOKENS` at most."""
    if from_peer or carry is Carry.HEADER:
        lines = find_all(fields, CONSISTENCY_HEADER)
        found = [token.strip(b" \t") for line in lines for token in line.split(b",")]
    else:
        pairs = [pair for line in find_all(fields, b"cookie") for pair in line.split(b";")]
        split = [pair.strip(b" \t").partition(b"=") for pair in pairs]
        found = [value for name, _, value in split if name in COOKIES.values()]
    return [token for token in found if token][:MAX_TOKENS]


def find_answer(fields: Fields) -> bytes | None:
    """Return the token in a peer's response."""
    found = find_all(fields, CONSISTENCY_HEADER)
    return found[0] if len(found) == 1 and 0 < len(found[0]) <= MAX_TOKEN else None


def token_line(token: bytes) -> bytes:
    """Return the field that tells a peer, or a client that wants it so, a token."""
    return b"%b: %b\r\n" % (CONSISTENCY_HEADER, token)


def cookie_line(
    token: bytes, method: MethodClass, terms: Consistency, path: str, *, is_secure: bool
) -> bytes:
    """Return the field that has a browser keep a token.

    Args:
        path: prefix of the paths that the environment answers.
    """
    place = b"/" + path.strip("/").encode("ascii", "ignore")
    return b"Set-Cookie: %b=%b; Path=%b; Max-Age=%d; HttpOnly; SameSite=Lax%b\r\n" % (
        COOKIES[method],
        token,
        place if b";" not in place else b"/",
        terms.max_age,
        b"; Secure" if is_secure else b"",
    )


def read_line(endpoints: dict[str, str]) -> bytes:
    """Return the field that tells an application where to read; `endpoints` by backend."""
    if not endpoints:
        return b""
    pairs = ", ".join(f"{backend}={name}" for backend, name in endpoints.items())
    return b"%b: %b\r\n" % (READ_HEADER, pairs.encode("ascii"))
