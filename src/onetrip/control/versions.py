"""The versions of a project's override: each one that was kept, and the way back to it."""

from __future__ import annotations

from dataclasses import dataclass

from onetrip.control.store import Store, StoredPolicy, change_of, fields_of, put_row
from onetrip.model.status import PolicyChange
from onetrip.model.topology import RegionId

MAX_VERSIONS = 200
"""Versions kept of a project; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Version:
    """An override as it was.

    Attributes:
        id: grows with every version that this node kept.
        version: grows with every change of the project.
        origin: region whose node took the change.
        at: when this node kept it, Unix time, s.
        change: all that was different from the configuration.
    """

    id: int
    version: int
    origin: RegionId
    at: float
    change: PolicyChange


def put(store: Store, policy: StoredPolicy, at: float) -> bool:
    """Keep an override as `Store.put_policy` does, and its version in the same transaction.

    Args:
        at: Unix time, s.
    """
    with store.write() as db:
        if not put_row(db, policy):
            return False
        db.execute(
            "INSERT OR IGNORE INTO versions (project, version, origin, at, mode, hint, "
            "control_ratio, explore_ratio) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (policy.project, policy.version, policy.origin, at, *fields_of(policy.change)),
        )
        db.execute(
            "DELETE FROM versions WHERE project = ? AND id NOT IN "
            "(SELECT id FROM versions WHERE project = ? ORDER BY id DESC LIMIT ?)",
            (policy.project, policy.project, MAX_VERSIONS),
        )
        db.execute(
            "DELETE FROM shares WHERE project = ? AND (version, origin) NOT IN "
            "(SELECT version, origin FROM versions WHERE project = ?)",
            (policy.project, policy.project),
        )
        return True


def page(store: Store, project: str, limit: int, before: int | None) -> list[Version]:
    """Return at most `limit` versions of a project, newest first.

    Args:
        before: only those with a smaller id.
    """
    rows = store.read(
        f"{_VERSIONS} WHERE project = ? AND id < ? ORDER BY id DESC LIMIT ?",
        (project, before if before is not None else 2**62, limit),
    )
    return [_version(*row) for row in rows]


def find(store: Store, project: str, version: int) -> Version | None:
    """Return a version; of two that were made at once in different regions, the one that won."""
    rows = store.read(
        f"{_VERSIONS} WHERE project = ? AND version = ? ORDER BY origin DESC LIMIT 1",
        (project, version),
    )
    return _version(*rows[0]) if rows else None


_VERSIONS = (
    "SELECT id, version, origin, at, mode, hint, control_ratio, explore_ratio, share "
    "FROM versions LEFT JOIN shares USING (project, version, origin)"
)


def _version(
    id: int,
    version: int,
    origin: str,
    at: float,
    mode: str | None,
    hint: str | None,
    control: float | None,
    explore: float | None,
    share: float | None,
) -> Version:
    return Version(
        id, version, RegionId(origin), at, change_of(mode, hint, control, explore, share)
    )
