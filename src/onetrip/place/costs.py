"""Route costs for scoring and for people: declared, or fitted to the measured service times."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onetrip.estimate.filters import RELATIVE_ERROR
from onetrip.estimate.roundtrips import Fit, fit
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import RouteKey, ServiceSummary, TripEvidence
from onetrip.model.placement import TripEstimate
from onetrip.model.topology import RegionId
from onetrip.place.frame import Costs

BOUND_MARGIN = 1.1
"""The measured service time is taken 10 % larger where it caps the round trips: it is an
estimate, and a cap that is too low would hide a region worth exploring."""


SETTLED_COUNT = 30
"""Requests from which on small changes of a summary are not worth a new fit."""

SAME_COUNT, SAME_MEAN, SAME_RTT = 0.2, 0.25, RELATIVE_ERROR
"""Small: of the count, of the standard error of the mean, of the RTT (the fit itself takes as much
of every service time as error)."""


@dataclass(frozen=True, slots=True, eq=False)
class RouteCosts:
    """A route's costs in both forms, and the evidence at its default region."""

    costs: Costs
    estimate: TripEstimate
    counts: Mapping[RegionId, int]


class CostBook:
    """Costs of routes, fitted again when their evidence has changed enough."""

    def __init__(self) -> None:
        self._kept: dict[RouteKey, tuple[object, tuple[ServiceSummary, ...], RouteCosts]] = {}

    def of(
        self,
        key: RouteKey,
        backends: tuple[str, ...],
        declared: Mapping[str, float] | None,
        services: Sequence[ServiceSummary],
        evidence: Sequence[TripEvidence] = (),
        default: RegionId | None = None,
    ) -> RouteCosts:
        """Return the costs of one route; the arguments are those of `route_costs`."""
        basis = (backends, declared, default, tuple(evidence))
        kept = self._kept.get(key)
        if kept is not None and kept[0] == basis and is_same_evidence(kept[1], services):
            return kept[2]
        made = route_costs(backends, declared, services, default, evidence)
        self._kept[key] = (basis, tuple(services), made)
        return made

    def keep(self, environments: Collection[EnvironmentId]) -> None:
        """Forget the routes of every other environment."""
        for key in [k for k in self._kept if k.environment not in environments]:
            del self._kept[key]


def route_costs(
    backends: tuple[str, ...],
    declared: Mapping[str, float] | None,
    services: Sequence[ServiceSummary],
    default: RegionId | None,
    evidence: Sequence[TripEvidence] = (),
) -> RouteCosts:
    """Return the costs of one route.

    Args:
        backends: names of the bound backends.
        declared: round trips per backend name, or None to learn them.
        services: measured service times, any number per region.
        default: region whose service time caps the round trips.
        evidence: round trips told by other sources.
    """
    counts: dict[RegionId, int] = {}
    for row in services:
        counts[row.region] = counts.get(row.region, 0) + row.count
    if declared is not None:
        return _declared(backends, declared, services, counts)
    fitted = fit(backends, services, evidence)
    costs = Costs(
        backends,
        fitted.compute,
        fitted.mean[1:],
        fitted.covariance[1:, 1:],
        _bound(services, default),
    )
    return RouteCosts(costs, _learned_estimate(fitted), counts)


def is_same_evidence(old: Sequence[ServiceSummary], new: Sequence[ServiceSummary]) -> bool:
    """Tell whether service times changed too little for the costs to be worth fitting again."""
    return len(old) == len(new) and all(
        a is b or _is_alike(a, b) for a, b in zip(old, new, strict=True)
    )


def _is_alike(old: ServiceSummary, new: ServiceSummary) -> bool:
    if old == new:
        return True
    return (
        old.region == new.region
        and old.count >= SETTLED_COUNT
        and abs(new.count - old.count) <= SAME_COUNT * old.count
        and abs(new.mean - old.mean) <= SAME_MEAN * old.error
        and old.rtts.keys() == new.rtts.keys()
        and all(abs(new.rtts[b] - r) <= SAME_RTT * r for b, r in old.rtts.items())
    )


def _declared(
    backends: tuple[str, ...],
    declared: Mapping[str, float],
    services: Sequence[ServiceSummary],
    counts: Mapping[RegionId, int],
) -> RouteCosts:
    trips = np.array([declared.get(name, 0.0) for name in backends])
    rest = [
        row.mean - sum(t * row.rtts.get(b, math.nan) for t, b in zip(trips, backends, strict=True))
        for row in services
    ]
    known = [r for r in rest if math.isfinite(r)]
    compute = max(0.0, float(np.median(known))) if known else 0.0
    costs = Costs(backends, compute, trips, np.zeros((len(backends), len(backends))))
    per = dict(zip(backends, trips.tolist(), strict=True))
    total = sum(counts.values())
    estimate = TripEstimate(compute, per, per, per, total, len(counts), "declared")
    return RouteCosts(costs, estimate, counts)


def _learned_estimate(fitted: Fit) -> TripEstimate:
    intervals = {name: fitted.interval(name) for name in fitted.backends}
    return TripEstimate(
        compute=fitted.compute,
        round_trips=dict(zip(fitted.backends, fitted.mean[1:].tolist(), strict=True)),
        low={name: low for name, (low, _) in intervals.items()},
        high={name: high for name, (_, high) in intervals.items()},
        requests=fitted.requests,
        regions=fitted.regions,
        source=" + ".join(fitted.sources) or "none",
    )


def _bound(services: Sequence[ServiceSummary], default: RegionId | None) -> float:
    means = [row.mean for row in services if row.region == default]
    return BOUND_MARGIN * max(means) if means else math.inf
