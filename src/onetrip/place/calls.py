"""Services that call services: what a call costs from each region, as a column of the matrix.

A project that calls another one through onetrip does so from the region it runs in, and the node
there places that call for itself. What a call takes therefore depends on the caller's region alone:

    call(X) = min over Y of RTT(X, Y) + compute + Σ round_trips(d) · RTT(Y, d)

This is a column like the RTTs to a backend, and a caller counts calls as it counts round trips.
Columns of called services are made first, so that of a chain of services each is scored with the
best that those behind it can do: backward induction, which finds the placements of all of them that
are best together, as long as no service calls itself by way of others (configuration forbids it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onetrip.estimate.matrix import Column, RttMatrix
from onetrip.model.catalog import EnvironmentId, Mode, Policy
from onetrip.model.measure import RouteKey, ServiceSummary, TripEvidence
from onetrip.model.topology import RegionId
from onetrip.place.costs import CostBook
from onetrip.place.defaults import EnvironmentInput, usable_regions

MOST_ROUTES = 64
"""Routes of a called service whose times make its column: those with most requests."""


def call_name(environment: EnvironmentId) -> str:
    """Return the name of the column that holds what a call of `environment` takes."""
    return f"call {environment}"


@dataclass(frozen=True, slots=True)
class CalledRoute:
    """What is known of one route of a called service, in the whole cluster.

    Attributes:
        declared: round trips by backend name, or None to learn them.
        deny: regions it must never run in, beside the policy's.
    """

    key: RouteKey
    declared: Mapping[str, float] | None
    services: Sequence[ServiceSummary] = ()
    evidence: Sequence[TripEvidence] = ()
    deny: frozenset[RegionId] = frozenset()

    @property
    def requests(self) -> int:
        """Requests that were measured, of all regions."""
        return sum(row.count for row in self.services)


class CallColumns:
    """Makes the columns, run after run; remembers the costs between them."""

    def __init__(self) -> None:
        self._costs = CostBook()

    def add(
        self,
        matrix: RttMatrix,
        called: Sequence[EnvironmentInput],
        routes: Mapping[EnvironmentId, Sequence[CalledRoute]],
    ) -> RttMatrix:
        """Return the matrix with a column for each called service.

        A service of which nothing is known yet has a column of unknowns.

        Args:
            called: the services, none before one that it calls.
            routes: what is known of them.
        """
        ways = _ways(matrix)
        none = np.zeros(len(matrix.regions), dtype=bool)
        for environment in called:
            known = sorted(routes.get(environment.id, ()), key=lambda route: -route.requests)
            times, targets = self._column(matrix, ways, environment, known[:MOST_ROUTES])
            names = tuple(
                str(environment.id) if y < 0 else f"{environment.id} in {matrix.regions[y]}"
                for y in targets
            )
            column = Column(times, none, none, served_by=names)
            matrix = matrix.with_columns({call_name(environment.id): column})
        self._costs.keep({environment.id for environment in called})
        return matrix

    def _column(
        self,
        matrix: RttMatrix,
        ways: np.ndarray,
        environment: EnvironmentInput,
        routes: Sequence[CalledRoute],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what a call takes from each region, s, and where it runs; both of shape (R,)."""
        size = len(matrix.regions)
        total, weight = np.zeros(size), 0.0
        targets = np.full(size, -1)
        for route in routes:
            costs = self._costs.of(
                route.key, environment.backends, route.declared, route.services, route.evidence
            )
            if route.declared is None and not costs.estimate.requests:
                continue
            env = environment.without(route.deny)
            columns = [matrix.backends.index(name) for name in env.columns(route.key.method)]
            trips = costs.costs.trips
            needed = matrix.backend_rtt[:, columns][:, trips > 0]
            service = costs.costs.compute + needed @ trips[trips > 0]
            taken, chosen = _placed(ways, service, usable_regions(matrix, env), env.policy)
            share = float(max(1, route.requests))
            if not weight:
                targets = chosen
            total, weight = total + share * taken, weight + share
        return (total / weight if weight else np.full(size, np.nan)), targets


def _ways(matrix: RttMatrix) -> np.ndarray:
    # What is only estimated starts no placement, neither here nor there.
    ways = np.where(matrix.is_predicted, np.nan, matrix.rtt)
    np.fill_diagonal(ways, 0.0)
    return ways


def _placed(
    ways: np.ndarray, service: np.ndarray, usable: np.ndarray, policy: Policy
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a request takes from each edge where its node places it, s, and that place."""
    rows = np.arange(service.size)
    if not usable.any():
        return np.full(service.size, np.nan), np.full(service.size, -1)
    distance = np.where(usable, np.nan_to_num(ways, nan=np.inf), np.inf)
    default = np.where(usable, rows, np.argmin(distance, axis=1))
    time = np.where(usable, ways + service, np.nan)
    if policy.mode is Mode.OFF or policy.share == 0.0:
        return time[rows, default], default
    best = np.argmin(np.where(np.isnan(time), np.inf, time), axis=1)
    gain = time[rows, default] - time[rows, best]
    # An unknown time at the default is no reason to leave it: nothing is known to be gained.
    chosen = np.where(gain >= policy.least_gain, best, default)
    return time[rows, chosen], chosen
