"""Which endpoint of a backend the routes of each environment read from, and where they write.

Reads that go to the nearest endpoint have a choice of those that are fresh, and that are not
declared to be in a region the project or the binding excludes. An endpoint whose region nobody
declared is not known to be excluded. Where no endpoint is left, the primary serves the reads, too:
writes go there anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onetrip.estimate.nearest import nearest_column
from onetrip.model.catalog import Backend, Catalog, Environment, EnvironmentId
from onetrip.model.topology import RegionId


class Reads:
    """The choices of one catalog at one time.

    Args:
        lagging: endpoints that are not to be read from; no primary is among them.
        moved: the endpoint that is the primary now, by backend, where that is not the declared one.

    Attributes:
        groups: endpoints by the name of the matrix's column that holds the RTTs to the nearest.
        columns: that column, by backend, of each environment that reads from nearby.
    """

    def __init__(
        self,
        catalog: Catalog,
        lagging: frozenset[str] = frozenset(),
        moved: Mapping[str, str] | None = None,
    ) -> None:
        self.catalog = catalog
        self.lagging = lagging
        self.moved = {
            name: endpoint
            for name, endpoint in (moved or {}).items()
            if name in catalog.backends and endpoint in catalog.backends[name].endpoints
        }
        self.groups: dict[str, tuple[str, ...]] = {}
        self.columns: dict[EnvironmentId, dict[str, str]] = {}
        for environment in catalog.environments():
            if environment.reads_nearest:
                self.columns[environment.id] = {
                    name: self._column(environment, backend)
                    for name in environment.reads_nearest
                    if (backend := catalog.backends.get(name)) is not None
                }

    def at(self, lagging: frozenset[str], moved: Mapping[str, str]) -> Reads:
        """Return the choices of another time."""
        is_same = (lagging, moved) == (self.lagging, self.moved)
        return self if is_same else Reads(self.catalog, lagging, moved)

    def endpoints(self, environment: EnvironmentId, backend: str) -> tuple[str, ...]:
        """Return the endpoints that reads have a choice of; () where they use the primary."""
        column = self.columns.get(environment, {}).get(backend)
        return self.groups[column] if column is not None else ()

    def primary(self, backend: str) -> str:
        """Return the endpoint that takes writes."""
        return self.moved.get(backend, backend)

    def _column(self, environment: Environment, backend: Backend) -> str:
        policy = self.catalog.policy_of(environment.id)
        denied = environment.data_deny.get(backend.name, frozenset())
        outside = {
            region
            for region in backend.places.values()
            if region is not None and (region in denied or not policy.permits(region))
        }
        name = nearest_column(backend.name, *sorted(outside))
        if name not in self.groups:
            self.groups[name] = readable(
                backend, lambda r: r not in outside, self.lagging, self.primary(backend.name)
            )
        return name


def readable(
    backend: Backend,
    permits: Callable[[RegionId], bool],
    lagging: frozenset[str],
    primary: str,
) -> tuple[str, ...]:
    """Return the endpoints that reads may go to, at least the primary."""
    found = (
        name
        for name, region in backend.places.items()
        if name not in lagging and (region is None or permits(region))
    )
    return tuple(found) or (primary,)
