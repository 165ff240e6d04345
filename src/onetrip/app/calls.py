"""Calls between services, as one node knows them: columns of its matrix, and their last values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.catalog import Catalog, Environment, EnvironmentId, RouteRule
from onetrip.model.measure import RouteKey, ServiceSummary, TripEvidence
from onetrip.model.topology import RegionId
from onetrip.place.calls import CallColumns, CalledRoute, call_name
from onetrip.place.defaults import EnvironmentInput


class Calls:
    """The calls between the services of one catalog."""

    def __init__(self) -> None:
        self._columns = CallColumns()
        self._environments: dict[EnvironmentId, Environment] = {}
        self._times: dict[str, dict[RegionId, float]] = {}

    def update(self, catalog: Catalog) -> None:
        """Take over a new catalog."""
        environments = {e.id: e for e in catalog.environments()}
        self._environments = {id: environments[id] for id in catalog.called()}
        names = {call_name(id) for id in self._environments}
        self._times = {name: self._times.get(name, {}) for name in names}

    def time(self, name: str, region: RegionId) -> float | None:
        """Return what a call took from a region at the last run, s, NaN when unknown.

        None when `name` is not the name of such a column.
        """
        times = self._times.get(name)
        return None if times is None else times.get(region, math.nan)

    def add(
        self,
        matrix: RttMatrix,
        environments: Iterable[EnvironmentInput],
        services: Mapping[RouteKey, Sequence[ServiceSummary]],
        evidence: Mapping[RouteKey, Sequence[TripEvidence]],
    ) -> RttMatrix:
        """Return the matrix with a column for each called service.

        Args:
            services, evidence: of the whole cluster.
        """
        if not self._environments:
            return matrix
        inputs = {e.id: e for e in environments}
        routes: dict[EnvironmentId, list[CalledRoute]] = {id: [] for id in self._environments}
        for key, rows in services.items():
            environment = self._environments.get(key.environment)
            if environment is None:
                continue
            rule = next((r for r in environment.rules if r.pattern == key.route), None)
            if rule is None or not rule.is_local:
                declared, told = declared_trips(environment, rule), evidence.get(key, ())
                denied = environment.denied(rule)
                routes[key.environment].append(CalledRoute(key, declared, rows, told, denied))
        matrix = self._columns.add(matrix, [inputs[id] for id in self._environments], routes)
        for name in self._times:
            times = matrix.backend_rtt[:, matrix.backends.index(name)].tolist()
            self._times[name] = dict(zip(matrix.regions, times, strict=True))
        return matrix


def columns_of(environment: Environment) -> dict[str, str]:
    """Return the column of the matrix that each binding stands for."""
    calls = {binding: call_name(called) for binding, called in environment.calls.items()}
    return {**environment.bindings, **calls}


def declared_trips(environment: Environment, rule: RouteRule | None) -> dict[str, float] | None:
    """Return a route's declared round trips by column, or None to learn them."""
    if rule is None or rule.round_trips is None:
        return None
    columns, found = columns_of(environment), dict[str, float]()
    for binding, trips in rule.round_trips.items():
        found[columns[binding]] = found.get(columns[binding], 0.0) + trips
    return found
