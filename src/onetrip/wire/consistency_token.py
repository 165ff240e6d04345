"""Consistency tokens: what one client has written and seen, signed, for the client to bring along.

`v1.<payload>.<mac>`, both base64url without padding. The payload is text: when it was signed, when
the client last wrote (both Unix s, hexadecimal, 0 for never), then `backend=position` for each
backend, all joined by `;`. The mac is the first half of HMAC-SHA256 over everything before it,
under a key of the project alone, so that a token means nothing to another project. A token is
signed, not secret: whoever holds it can read how far the databases had come.

Instants are of the node that signs, and only tell how old a token is: a clock that is wrong by
minutes shortens or lengthens its life by as much.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from onetrip.errors import ProtocolError
from onetrip.model.replication import Position, parse_position

MAX_TOKEN = 2048
"""Longest token, bytes: half of what browsers keep of a cookie."""

MAX_SKEW = 600
"""Difference between two nodes' clocks that is taken for none, s; the same as for hop marks."""

MAC_SIZE = 16
"""Bytes of a mac; RFC 2104 section 5 asks for half of the hash's size at least."""

_TOKEN = re.compile(rb"(v1\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]{22})")
_UNKNOWN = "?"


class Refusal(Enum):
    """Why a token is not believed."""

    MALFORMED = "malformed"
    FORGED = "forged"
    """Changed, of another project, or under a key that is no longer in use."""
    OLD = "old"


@dataclass(frozen=True, slots=True)
class Session:
    """What one client has written and seen.

    Attributes:
        positions: per backend what it must not read behind; None where that is not known, so
            that only the primary is sure to have it.
        wrote_at: Unix time of its last request that may have written, s; 0 for none.
    """

    positions: Mapping[str, Position | None] = field(default_factory=dict)
    wrote_at: int = 0

    def join(self, other: Session) -> Session:
        """Return what a client has written and seen that brings the tokens of both."""
        positions = dict(self.positions)
        for backend, position in other.positions.items():
            if backend in positions:
                positions[backend] = _join(positions[backend], position)
            else:
                positions[backend] = position
        return Session(positions, max(self.wrote_at, other.wrote_at))


def project_key(key: bytes, project: str) -> bytes:
    """Return the key of one project's tokens, made of the key of a cluster."""
    return hmac.digest(key, b"onetrip consistency " + project.encode(), "sha256")


class TokenSigner:
    """Signs and reads the tokens of one project.

    Args:
        keys: the first one signs; a token under any of them is believed.
        max_age: tokens signed longer ago are not, s.
    """

    def __init__(self, keys: Sequence[bytes], max_age: float) -> None:
        assert keys, "no key"
        self._keys = tuple(keys)
        self._max_age = max_age

    def sign(self, session: Session, now: float) -> bytes:
        """Return the token of a session.

        Positions that do not fit into `MAX_TOKEN` are left unknown, the longest ones first.

        Args:
            now: Unix time, s.
        """
        texts = {
            backend: _UNKNOWN if position is None else str(position)
            for backend, position in session.positions.items()
        }
        head = f"{int(now):x};{session.wrote_at:x}"
        text = _encode(head, texts)
        while len(text) + 1 + len(_base64(bytes(MAC_SIZE))) > MAX_TOKEN:
            longest = max(texts, key=lambda backend: len(texts[backend]))
            if texts[longest] == _UNKNOWN:
                raise ProtocolError(f"token of {len(texts)} backends exceeds {MAX_TOKEN} bytes")
            texts[longest] = _UNKNOWN
            text = _encode(head, texts)
        return text + b"." + _base64(_mac(self._keys[0], text))

    def read(self, token: bytes, now: float) -> tuple[Session, int] | Refusal:
        """Return the session that a token tells of and when it was signed (Unix s), or why not.

        The token may come from anyone.

        Args:
            now: Unix time, s.
        """
        parts = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if parts is None:
            return Refusal.MALFORMED
        macs = [_base64(_mac(key, parts[1])) for key in self._keys]
        if not any(hmac.compare_digest(mac, parts[3]) for mac in macs):
            return Refusal.FORGED
        try:
            found, signed_at = _decode(parts[2])
        except (ValueError, ProtocolError):  # signed by a node that writes another payload
            return Refusal.MALFORMED
        if not -MAX_SKEW <= now - signed_at <= self._max_age:
            return Refusal.OLD
        return found, signed_at


def _join(one: Position | None, other: Position | None) -> Position | None:
    if one is None or other is None:
        return None
    try:
        return one.join(other)
    except ProtocolError:  # the backend is another kind of database now
        return None


def _encode(head: str, texts: Mapping[str, str]) -> bytes:
    payload = ";".join([head, *(f"{backend}={text}" for backend, text in sorted(texts.items()))])
    return b"v1." + _base64(payload.encode())


def _decode(payload: bytes) -> tuple[Session, int]:
    signed_at, wrote_at, *entries = urlsafe_b64decode(payload + b"==").decode("ascii").split(";")
    positions: dict[str, Position | None] = {}
    for entry in entries:
        backend, _, text = entry.partition("=")
        positions[backend] = None if text == _UNKNOWN else parse_position(text)
    return Session(positions, int(wrote_at, 16)), int(signed_at, 16)


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")[:MAC_SIZE]


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
