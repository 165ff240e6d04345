"""The audit log: who changed what, from what to what. Rows are added, never altered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from onetrip.control.store import Store

MAX_ROWS = 10_000
"""Rows kept, at most about 20 MB; the oldest go first."""

MAX_SIDE = 1_000
"""Bytes of JSON kept of what was before, and of what is after; a project's policy has 200."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change that was made.

    Attributes:
        at: Unix time, s.
        caller: name of the token.
        address: IP address the request came from.
        request_id: as in the reply's X-Request-Id.
        operation: what was done, as in the API's document.
        subject: the project, token or region it was done to.
        before, after: what a read would have told; None where there is nothing to tell.
    """

    at: float
    caller: str
    address: str
    request_id: str
    operation: str
    subject: str
    before: Any
    after: Any


def append(store: Store, change: Change) -> None:
    """Keep a change, dropping the oldest beyond `MAX_ROWS`."""
    values = (
        *(change.at, change.caller, change.address, change.request_id),
        *(change.operation, change.subject, _side(change.before), _side(change.after)),
    )
    with store.write() as db:
        row = db.execute(
            "INSERT INTO audit (at, caller, address, request_id, operation, subject, before, after)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        ).lastrowid
        # Ids grow by one, so this needs no count of the table.
        db.execute("DELETE FROM audit WHERE id <= ?", ((row or 0) - MAX_ROWS,))


def page(store: Store, limit: int, before: int | None) -> list[tuple[int, Change]]:
    """Return at most `limit` changes with their ids, newest first.

    Args:
        before: only those with a smaller id.
    """
    rows = store.read(
        "SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?",
        (before if before is not None else 2**62, limit),
    )
    return [(row[0], _change(*row[1:])) for row in rows]


def _change(
    at: float, caller: str, address: str, request_id: str, operation: str, subject: str, *sides: str
) -> Change:
    before, after = (msgspec.json.decode(side) for side in sides)
    return Change(at, caller, address, request_id, operation, subject, before, after)


def _side(value: Any) -> str:
    text = msgspec.json.encode(value)
    if len(text) > MAX_SIDE:
        text = msgspec.json.encode(f"{len(text)} bytes, not kept")
    return text.decode()
