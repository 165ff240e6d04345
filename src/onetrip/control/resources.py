"""Declared things on disk: one row for each, the newest statement about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onetrip.control.store import Store
from onetrip.model.resource import Resource, ResourceKey, ResourceKind
from onetrip.model.topology import RegionId


def put(store: Store, rows: Sequence[Resource]) -> None:
    """Keep rows, all of them or none; of a thing the row that is later by its order stays.

    Raises:
        StoreError: the file cannot be written.
    """
    with store.write() as db:
        for row in rows:
            found = db.execute(f"SELECT {_COLUMNS} FROM resources {_WHERE}", _key(row)).fetchone()
            if found is None or _resource(*found).order < row.order:
                db.execute(
                    "INSERT OR REPLACE INTO resources VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*_key(row), row.version, row.origin, row.at, row.body),
                )


def forget(store: Store, rows: Sequence[Resource]) -> None:
    """Drop rows, where they are still what is kept.

    Raises:
        StoreError: the file cannot be written.
    """
    with store.write() as db:
        for row in rows:
            db.execute(
                f"DELETE FROM resources {_WHERE} AND version = ? AND origin = ?",
                (*_key(row), row.version, row.origin),
            )


def every(store: Store) -> list[Resource]:
    """Return every row; those of a kind that this version does not know are left out.

    Raises:
        StoreError: the file cannot be read.
    """
    known = {kind.value for kind in ResourceKind}
    rows = store.read(f"SELECT {_COLUMNS} FROM resources ORDER BY kind, project, name")
    return [_resource(*row) for row in rows if row[0] in known]


_COLUMNS = "kind, project, name, version, origin, at, body"
_WHERE = "WHERE kind = ? AND project = ? AND name = ?"


def _key(row: Resource) -> tuple[str, str, str]:
    return (row.key.kind.value, row.key.project, row.key.name)


def _resource(
    kind: str, project: str, name: str, version: int, origin: str, at: float, body: Any
) -> Resource:
    key = ResourceKey(ResourceKind(kind), project, name)
    return Resource(key, version, RegionId(origin), at, bytes(body))
