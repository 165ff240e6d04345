"""Every row that this node knows: a merge that any order of arrival leaves alike.

Per thing the greatest row counts, which is a maximum of a total order, so merging is commutative,
associative and idempotent. What was deleted stays as a row without a body for a month: a node that
was away for so long and comes back would otherwise bring it to life again.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from onetrip.errors import Kind, OnetripError
from onetrip.model.resource import Resource, ResourceKey, ResourceKind
from onetrip.model.topology import RegionId

MAX_ROWS = 100_000
"""Rows of a cluster; about 400 bytes each in memory without their bodies."""

MAX_BODY = 64 * 1024
"""Largest body of a row, bytes."""

FORGET_AFTER = 30 * 86_400.0
"""Seconds that what was deleted is remembered."""

_MASK = (1 << 128) - 1


class Registry:
    """The rows of one node."""

    def __init__(self) -> None:
        self._rows: dict[ResourceKey, Resource] = {}
        self._groups: dict[tuple[ResourceKind, str], dict[str, Resource]] = {}
        self._sum = 0

    def __len__(self) -> int:
        return len(self._rows)

    def copy(self) -> Registry:
        """Return a registry that knows the same, and goes its own way."""
        other = Registry()
        other.merge(self._rows.values())
        return other

    @property
    def digest(self) -> str:
        """Equal for two nodes that know the same; does not depend on the order of arrival."""
        return f"{self._sum:032x}"

    def merge(self, rows: Iterable[Resource]) -> list[Resource]:
        """Take in rows and return those that are news.

        Raises:
            OnetripError: kind OVERLOADED, more rows than `MAX_ROWS`; the ones before are kept.
        """
        news: list[Resource] = []
        for row in rows:
            known = self._rows.get(row.key)
            if known is not None and known.order >= row.order:
                continue
            if known is None and len(self._rows) >= MAX_ROWS:
                raise OnetripError(
                    f"{MAX_ROWS + 1} rows exceed limit of {MAX_ROWS}", kind=Kind.OVERLOADED
                )
            self._put(row, known)
            news.append(row)
        return news

    def get(self, kind: ResourceKind, project: str, name: str) -> Resource | None:
        """Return what is known of a thing that exists."""
        row = self._rows.get(ResourceKey(kind, project, name))
        return None if row is None or row.is_gone else row

    def row(self, key: ResourceKey) -> Resource | None:
        """Return what is known of a thing, gone or not."""
        return self._rows.get(key)

    def of(self, kind: ResourceKind, project: str = "") -> list[Resource]:
        """Return the things of a kind that exist, of one project, by name."""
        group = self._groups.get((kind, project), {})
        return [group[name] for name in sorted(group) if not group[name].is_gone]

    def projects(self) -> set[str]:
        """Return the projects that rows name in their keys."""
        return {project for (_, project), group in self._groups.items() if project and group}

    def rows(self) -> list[Resource]:
        """Return every row, of what is gone as well."""
        return list(self._rows.values())

    def next(
        self,
        kind: ResourceKind,
        project: str,
        name: str,
        body: bytes,
        *,
        origin: RegionId,
        at: float,
    ) -> Resource:
        """Return the row that follows what is known of a thing; `merge` puts it in force."""
        key = ResourceKey(kind, project, name)
        known = self._rows.get(key)
        return Resource(key, (known.version if known else 0) + 1, origin, at, body)

    def forgettable(self, wall: float) -> list[Resource]:
        """Return the rows of what has been gone for so long that nobody can bring it back."""
        return [row for row in self._rows.values() if is_forgettable(row, wall)]

    def forget(self, rows: Iterable[Resource]) -> None:
        """Drop rows that are still what is known."""
        for row in rows:
            if self._rows.get(row.key) == row:
                del self._rows[row.key]
                del self._groups[row.key.kind, row.key.project][row.key.name]
                self._sum = (self._sum - _hash(row)) & _MASK

    def _put(self, row: Resource, known: Resource | None) -> None:
        # A row that is gone does not count: nodes forget those at different times.
        for each, sign in ((known, -1), (row, 1)):
            if each is not None:
                self._sum = (self._sum + sign * _hash(each)) & _MASK
        self._rows[row.key] = row
        self._groups.setdefault((row.key.kind, row.key.project), {})[row.key.name] = row


def is_forgettable(row: Resource, wall: float) -> bool:
    """Tell whether what a row is about has been gone for longer than `FORGET_AFTER`."""
    return row.is_gone and wall - row.at > FORGET_AFTER


def _hash(row: Resource) -> int:
    if row.is_gone:
        return 0
    text = f"{row.key.kind.value}\n{row.key.project}\n{row.key.name}\n{row.version}\n{row.origin}\n"
    return int.from_bytes(blake2b(text.encode() + row.body, digest_size=16).digest())
