"""Named tokens: what each may do, and how it is kept.

A token is 256 random bits, so nobody can guess it or try all of them, and its plain SHA-256 is as
safe to keep as a slow password hash would be: slowness only protects what people think up. It is
found by its digest. How long the search takes tells something of digests, and nothing of tokens.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from onetrip.control.store import Store, StoreError
from onetrip.errors import ApiError, Kind

PREFIX = "onetrip_"
"""Begins every token, so that scanners for leaked secrets can know one."""

SIZE = 32
"""Random bytes of a token."""

MAX_TOKENS = 1_000

USE_INTERVAL = 60.0
"""Least time between two writes of a token's last use, s."""


class Scope(Enum):
    """What a caller may do; each includes those before it."""

    READ = "read"
    """Look, at everything but tokens and the audit log."""
    OPERATE = "operate"
    """Drain, purge, reload, and report round trips."""
    WRITE = "write"
    """Change projects."""
    ADMIN = "admin"
    """Upgrade, make and revoke tokens, read the audit log."""

    def covers(self, needed: Scope) -> bool:
        """Tell whether it permits what needs `needed`."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from.

    Attributes:
        name: a token's name; "config" for the configuration's token, "local" for anybody on the
            machine of a node without one.
        project: the only project it may name, or "" for everything.
    """

    name: str
    scope: Scope
    project: str = ""


LOCAL = Caller("local", Scope.ADMIN)
CONFIG = Caller("config", Scope.ADMIN)
RESERVED = (LOCAL.name, CONFIG.name)


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without its secret. Instants are Unix time, s.

    Attributes:
        expires_at: None for one that does not expire.
        used_at: last use, to a minute; None before the first.
    """

    name: str
    scope: Scope
    project: str
    created_at: float
    expires_at: float | None
    used_at: float | None = None


def make(random: Callable[[int], bytes]) -> str:
    """Return a new token's text.

    Args:
        random: returns so many random bytes.
    """
    return PREFIX + base64.urlsafe_b64encode(random(SIZE)).decode().rstrip("=")


def digest_of(text: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(text.encode(errors="replace")).digest()


def put(store: Store, token: Token, digest: bytes) -> None:
    """Keep a new token.

    Raises:
        ApiError: its name is taken, or there are too many.
    """
    with store.write() as db:
        names = [name for (name,) in db.execute("SELECT name FROM tokens")]
        if token.name in names:
            raise ApiError(
                f"there is a token {token.name!r} already; revoke it first",
                field="name",
                kind=Kind.CONFLICT,
                value=token.name,
            )
        if len(names) >= MAX_TOKENS:
            raise ApiError(
                f"there are {len(names)} tokens, the most a node keeps; revoke some",
                kind=Kind.CONFLICT,
                limit=str(MAX_TOKENS),
            )
        scope = token.scope.value
        db.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL)",
            (token.name, digest, scope, token.project, token.created_at, token.expires_at),
        )


def every(store: Store) -> list[Token]:
    """Return every token, by name."""
    return [_token(row) for row in store.read(f"SELECT {_COLUMNS} FROM tokens ORDER BY name")]


def revoke(store: Store, name: str) -> Token | None:
    """Forget a token; return it, or None when there is none of that name."""
    with store.write() as db:
        rows = db.execute(f"SELECT {_COLUMNS} FROM tokens WHERE name = ?", (name,)).fetchall()
        db.execute("DELETE FROM tokens WHERE name = ?", (name,))
    return _token(rows[0]) if rows else None


def use(store: Store, digest: bytes, now: float) -> Token | None:
    """Return the token of a digest, and note its use; None when unknown or expired."""
    rows = store.read(f"SELECT {_COLUMNS}, digest FROM tokens WHERE digest = ?", (digest,))
    if not rows or not hmac.compare_digest(rows[0][-1], digest):
        return None
    token = _token(rows[0][:-1])
    if token.expires_at is not None and token.expires_at <= now:
        return None
    if token.used_at is None or not 0 <= now - token.used_at < USE_INTERVAL:
        _note(store, token.name, now)
    return token


_COLUMNS = "name, scope, project, created_at, expires_at, used_at"


def _note(store: Store, name: str, now: float) -> None:
    try:
        with store.write() as db:
            db.execute("UPDATE tokens SET used_at = ? WHERE name = ?", (now, name))
    except StoreError:
        # A full disk must not lock out who comes to look after it.
        return


def _token(row: tuple[Any, ...]) -> Token:
    name, scope, project, created_at, expires_at, used_at = row
    return Token(name, Scope(scope), project, created_at, expires_at, used_at)
