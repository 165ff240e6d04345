"""Idempotency-Key: a change that is sent twice is made once, and answered twice.

Source: draft-ietf-httpapi-idempotency-key-header-07. Only replies of changes that were made are
kept: after a refusal nothing has changed, so the request can simply be tried again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from onetrip.control.problems import RefusedError
from onetrip.control.records import Records
from onetrip.control.store import Store, StoreError
from onetrip.errors import ApiError, Kind
from onetrip.observe.logs import Log

HEADER = "Idempotency-Key"

MAX_AGE = 86_400.0
"""Time for which a reply is kept, s."""

MAX_REPLIES = 1_000
"""Replies kept, about 1 kB each; the oldest go first."""

_KEY = re.compile(r"[!-~]{1,255}")

Act = Callable[[], Awaitable[web.Response]]
"""Makes a change and returns its reply."""

Reply = tuple[bytes, int, str, bytes]
"""Digest of the request; status, entity tag and body of its reply."""


class Replays:
    """Replies by caller and key.

    Args:
        wall: Unix time, s.
    """

    def __init__(self, records: Records, wall: Callable[[], float], log: Log) -> None:
        self._records = records
        self._wall = wall
        self._log = log
        self._in_progress: set[tuple[str, str]] = set()

    async def once(self, caller: str, key: str, request: bytes, act: Act) -> web.Response:
        """Make a change, or return the reply that its first request got.

        Args:
            request: everything that must be equal for two requests to be the same.

        Raises:
            ApiError: the key was used for another request (422); or its first request is
                still being worked on (409).
        """
        place, digest = (caller, key), hashlib.sha256(request).digest()
        if place in self._in_progress:
            raise ApiError(
                f"the first request with this {HEADER} is in progress; try again",
                field=HEADER.lower(),
                kind=Kind.CONFLICT,
            )
        self._in_progress.add(place)
        try:
            known = await self._records.call(find, caller, key, self._wall() - MAX_AGE)
            if known is not None:
                return _again(known, digest)
            reply = await act()
            await self._keep(place, digest, reply)
            return reply
        finally:
            self._in_progress.discard(place)

    async def _keep(self, place: tuple[str, str], digest: bytes, reply: web.Response) -> None:
        body = reply.body if isinstance(reply.body, bytes) else b""
        kept = (digest, reply.status, reply.headers.get("ETag", ""), body)
        try:
            await self._records.call(keep, place, self._wall(), kept)
        except StoreError as error:
            # The change is made: that it cannot be told again is no reason to call it failed.
            self._log.error("control.reply_not_kept", reason=str(error))


def check_key(key: str) -> None:
    """Raise `ApiError` unless a text can be a key."""
    if not _KEY.fullmatch(key):
        raise ApiError(
            f"{HEADER} has {len(key)} characters; it must be 1-255 of printable ASCII",
            field=HEADER.lower(),
            limit="1-255 of printable ASCII",
        )


def find(store: Store, caller: str, key: str, since: float) -> Reply | None:
    """Return the reply to a key's first request, unless it is from before `since`."""
    rows = store.read(
        "SELECT digest, status, etag, body FROM replies WHERE caller = ? AND key = ? AND at > ?",
        (caller, key, since),
    )
    return (rows[0][0], rows[0][1], rows[0][2], rows[0][3]) if rows else None


def keep(store: Store, place: tuple[str, str], now: float, reply: Reply) -> None:
    """Keep a reply; the oldest are dropped."""
    digest, status, etag, body = reply
    with store.write() as db:
        db.execute("DELETE FROM replies WHERE at <= ?", (now - MAX_AGE,))
        db.execute(
            "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*place, digest, now, status, etag, body),
        )
        db.execute(
            "DELETE FROM replies WHERE rowid IN "
            "(SELECT rowid FROM replies ORDER BY at DESC LIMIT -1 OFFSET ?)",
            (MAX_REPLIES,),
        )


def _again(known: Reply, digest: bytes) -> web.Response:
    first, status, etag, body = known
    if first != digest:
        raise RefusedError(
            422,
            f"this {HEADER} was used for another request",
            kind=Kind.CONFLICT,
            field=HEADER.lower(),
        )
    headers = {"Idempotency-Replayed": "true", **({"ETag": etag} if etag else {})}
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
