"""Placements on their way to the workers: what changed, and the snapshot that it makes.

A round of scoring makes a new snapshot twice a second, in which mostly nothing is new. Workers get
the differences, without the reasons, which only people read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from onetrip.app.worker_messages import Placements
from onetrip.errors import ProtocolError
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import RouteKey
from onetrip.model.placement import Placement, PlacementSnapshot

K = TypeVar("K")


class PlacementFeed:
    """What the workers have been told."""

    def __init__(self) -> None:
        self._version = 0
        self._routes: _Table[RouteKey] = _Table()
        self._environments: _Table[EnvironmentId] = _Table()

    def advance(self, snapshot: PlacementSnapshot) -> Placements:
        """Return the difference to the snapshot before."""
        base, self._version = self._version, snapshot.version
        return Placements(
            base,
            snapshot.version,
            *self._routes.advance(snapshot.routes),
            *self._environments.advance(snapshot.environments),
        )

    def whole(self) -> Placements:
        """Return everything, for a worker that knows nothing."""
        return Placements(
            None, self._version, self._routes.whole(), [], self._environments.whole(), []
        )


def patched(snapshot: PlacementSnapshot, news: Placements) -> PlacementSnapshot:
    """Return the snapshot that `news` makes of the one before; that one stays as it is.

    Raises:
        ProtocolError: the news is about another one.
    """
    if news.base is None:
        routes: dict[RouteKey, Placement] = {}
        environments: dict[EnvironmentId, Placement] = {}
    elif news.base == snapshot.version:
        routes, environments = dict(snapshot.routes), dict(snapshot.environments)
    else:
        raise ProtocolError(f"news about placements {news.base}, not {snapshot.version}")
    for gone in news.routes_gone:
        routes.pop(gone, None)
    for left in news.environments_gone:
        environments.pop(left, None)
    routes.update(news.routes)
    environments.update(news.environments)
    return replace(snapshot, version=news.version, routes=routes, environments=environments)


class _Table(Generic[K]):
    """Placements by key: as they were made, to find what is new, and as they are sent."""

    def __init__(self) -> None:
        self._made: dict[K, Placement] = {}
        self._sent: dict[K, Placement] = {}

    def advance(self, table: Mapping[K, Placement]) -> tuple[list[tuple[K, Placement]], list[K]]:
        """Return what is new or different in `table`, and what is gone."""
        news: list[tuple[K, Placement]] = []
        for key, placement in table.items():
            if self._made.get(key) is placement:
                continue
            self._made[key] = placement
            plain = replace(placement, reason="", missing="")
            if self._sent.get(key) != plain:
                self._sent[key] = plain
                news.append((key, plain))
        gone = (
            [key for key in self._made if key not in table] if len(self._made) > len(table) else []
        )
        for key in gone:
            del self._made[key], self._sent[key]
        return news, gone

    def whole(self) -> list[tuple[K, Placement]]:
        """Return all that was sent."""
        return list(self._sent.items())
