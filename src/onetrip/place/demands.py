"""What is known of the traffic, as the demand that advice on a backend's data rests on.

Explain records tell the round trips of each route at each edge, what-if rows its requests; both
come from every node. Routes that are not known yet do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.advice import BackendAdvice
from onetrip.model.catalog import Backend, Catalog, Environment, EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.placement import Decision, WhatIf
from onetrip.model.topology import RegionId
from onetrip.place.advice import Demand, advise

INSIDE = 0.0005
"""RTT to a backend inside a region, s: IBM measured 0.1 ms in a zone and 1.5 ms between zones."""

LEAST_TRIPS = 0.05
"""Round trips a request below which a route does not use a backend: what noise leaves of zero."""

MOST_ROWS = 1000
"""Routes at edges that count, the busiest ones; 1,000 with 60 regions take some 10 ms."""

_NOWHERE: Mapping[str, str] = MappingProxyType({})


def advise_backends(
    matrix: RttMatrix,
    catalog: Catalog,
    decisions: Iterable[Decision],
    what_if: Iterable[WhatIf],
    project: str | None = None,
    anycast: frozenset[str] = frozenset(),
    moved: Mapping[str, str] = _NOWHERE,
) -> list[BackendAdvice]:
    """Return the advice for every backend that is bound, or that `project` is bound to.

    Args:
        matrix: RTTs of the cluster, with each endpoint of the backends as a column.
        decisions, what_if: of all nodes; those of other projects are ignored.
        anycast: backends that are answered in many places.
        moved: the endpoint that is the primary now, by backend, where that is not the declared one.
    """
    environments = {e.id: e for e in catalog.environments() if project in (None, e.id.project)}
    requests = {(row.key, row.edge): row.requests for row in what_if}
    rows = [
        (decision, requests.get((decision.key, decision.edge), 0))
        for decision in decisions
        if decision.key.environment in environments
    ]
    rows = sorted((row for row in rows if row[1] > 0), key=lambda row: -row[1])
    bound = {name for e in environments.values() for name in e.bindings.values()}
    table = _Table(matrix, catalog, environments, rows, moved)
    return [
        table.advice(backend, is_anycast=name in anycast)
        for name, backend in catalog.backends.items()
        if name in bound
    ]


class _Table:
    """The traffic, and the RTTs it meets."""

    def __init__(
        self,
        matrix: RttMatrix,
        catalog: Catalog,
        environments: Mapping[EnvironmentId, Environment],
        rows: Sequence[tuple[Decision, int]],
        moved: Mapping[str, str],
    ) -> None:
        self._matrix = matrix
        self._catalog = catalog
        self._environments = environments
        self._rows = rows
        self._moved = moved
        self._ways = np.nan_to_num(matrix.rtt, nan=np.inf)
        np.fill_diagonal(self._ways, 0.0)
        self._data = self._ways.copy()
        np.fill_diagonal(self._data, INSIDE)

    def advice(self, backend: Backend, *, is_anycast: bool) -> BackendAdvice:
        """Return the advice for one backend."""
        endpoints, (primary, *others) = self._endpoints(backend), self._names(backend)
        homes = [self._home(column) for column in endpoints.T]
        names = [None if home is None else self._matrix.regions[home] for home in homes]
        replicas = tuple(zip(others, names[1:], strict=True))
        rows = [row for row in self._rows if self._uses(row[0], backend.name)][:MOST_ROWS]
        requests = sum(count for _, count in rows)
        found, missing = None, ""
        if is_anycast:
            missing = "it is answered in many places"
        elif homes[0] is None:
            missing = "needs an RTT to it"
        elif not rows:
            missing = "needs traffic whose round trips to it are known"
        else:
            demands = [self._demand(decision, count, backend) for decision, count in rows]
            data, regions = self._data.copy(), self._matrix.regions
            # From where the primary is not measured, it may be there already, or out of reach.
            may_hold = [self._may_hold(backend, region) for region in regions]
            data[:, ~(np.array(may_hold) & np.isfinite(endpoints[:, 0]))] = np.inf
            found = advise(demands, data, endpoints, homes[0], regions)
            missing = "" if found else "needs the RTTs of its requests"
        return BackendAdvice(backend.name, primary, names[0], replicas, requests, found, missing)

    def _demand(self, decision: Decision, count: int, backend: Backend) -> Demand:
        environment = self._environments[decision.key.environment]
        policy = self._catalog.policy_of(environment.id)
        has_instance = {i.region for i in environment.instances}
        regions = self._matrix.regions
        is_read = decision.key.method is MethodClass.READ
        return Demand(
            weight=float(count),
            trips=decision.trips.round_trips[backend.name],
            edge=self._ways[regions.index(decision.edge)],
            other=self._other(decision, backend.name, environment),
            places=np.array([r in has_instance and policy.permits(r) for r in regions]),
            is_read=is_read,
            reads_nearest=is_read and backend.name in environment.reads_nearest,
        )

    def _other(self, decision: Decision, backend: str, environment: Environment) -> np.ndarray:
        total = np.zeros(len(self._matrix.regions))
        for name, trips in decision.trips.round_trips.items():
            other = self._catalog.backends.get(name)
            if name != backend and other is not None and trips >= LEAST_TRIPS:
                total += trips * self._seen(decision.key, other, environment)
        return total

    def _seen(self, key: RouteKey, backend: Backend, environment: Environment) -> np.ndarray:
        """Return the RTTs to a backend that a route meets, s, shape (R,)."""
        endpoints = self._endpoints(backend)
        is_read = key.method is MethodClass.READ
        if is_read and backend.name in environment.reads_nearest:
            return np.asarray(endpoints.min(axis=1))
        return np.asarray(endpoints[:, 0])

    def _names(self, backend: Backend) -> list[str]:
        """Return the endpoints of a backend, the one that is the primary now first."""
        primary = self._moved.get(backend.name, backend.name)
        return [primary, *(name for name in backend.endpoints if name != primary)]

    def _endpoints(self, backend: Backend) -> np.ndarray:
        """Return the RTTs to its endpoints, s, in the order of `_names`, inf unknown, (R, E)."""
        names, matrix = self._names(backend), self._matrix
        columns = [matrix.backends.index(name) for name in names]
        found = np.nan_to_num(matrix.backend_rtt[:, columns], nan=np.inf)
        if names[0] != backend.name:
            # Of a primary that was lost the last RTTs are known; it is no copy to read from.
            former = names.index(backend.name)
            found[matrix.backend_is_failing[:, columns[former]], former] = np.inf
        return found

    @staticmethod
    def _home(column: np.ndarray) -> int | None:
        nearest = int(np.argmin(column))
        return nearest if np.isfinite(column[nearest]) else None

    @staticmethod
    def _uses(decision: Decision, backend: str) -> bool:
        is_known = decision.trips.source == "declared" or decision.trips.requests > 0
        return is_known and decision.trips.round_trips.get(backend, 0.0) >= LEAST_TRIPS

    def _may_hold(self, backend: Backend, region: RegionId) -> bool:
        """Tell whether data in `region` suits every project that uses the backend."""
        return all(
            self._catalog.policy_of(environment.id).permits(region)
            for environment in self._environments.values()
            if backend.name in environment.bindings.values()
        )
