"""How the latencies of a route spread, as API bodies: placed against control, added up over edges.

Both arms and the saving between them are of the same requests: those since the route moved last at
each edge. Edges are added up only where both arms have requests, or the sum would compare one city
with another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import Struct

from onetrip.control.convert import saving_body
from onetrip.control.figures import milliseconds
from onetrip.control.schemas import SavingBody
from onetrip.estimate.sequential import combine
from onetrip.model.distribution import BOUNDS, Distribution, add_up
from onetrip.model.measure import Arm, RouteKey
from onetrip.model.placement import Decision, Saving
from onetrip.model.status import LatencySummary
from onetrip.model.topology import RegionId

COMPARED = (Arm.PLACED, Arm.CONTROL)


class BucketRow(Struct, frozen=True):
    """The requests of one bucket.

    Attributes:
        above_ms, le_ms: its bounds, the upper one inclusive and null in the last bucket.
    """

    above_ms: float
    le_ms: float | None
    requests: int


class ArmRow(Struct, frozen=True):
    """The latencies of one arm; buckets without requests are left out."""

    arm: str
    requests: int
    mean_ms: float | None
    buckets: list[BucketRow]


class DistributionRow(Struct, frozen=True):
    """One route over the edges that it was asked for.

    Attributes:
        edges: whose requests are counted: those that have both arms, or all when none has.
        saving: between placed and control, over all these edges; null without both arms.
    """

    environment: str
    route: str
    method: str
    edges: list[str]
    arms: list[ArmRow]
    saving: SavingBody | None


class DistributionsBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/distributions`; `total` counts also what `limit` left out."""

    project: str
    total: int
    distributions: list[DistributionRow]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class RouteSpread:
    """One route's latencies, added up over edges."""

    key: RouteKey
    edges: tuple[RegionId, ...]
    arms: tuple[tuple[Arm, Distribution], ...]
    saving: Saving | None

    @property
    def edge(self) -> RegionId:
        """Return no edge's id: what a listing of routes orders rows of one route by."""
        return RegionId("")


def spreads(
    latencies: Iterable[LatencySummary], decisions: Iterable[Decision]
) -> list[RouteSpread]:
    """Return one row for each route that has latencies since it moved last."""
    savings = {(d.key, d.edge): d.saving for d in decisions if d.saving is not None}
    found: dict[RouteKey, dict[RegionId, dict[Arm, Distribution]]] = {}
    for row in latencies:
        if row.trial is not None:
            found.setdefault(row.key, {}).setdefault(row.edge, {})[row.arm] = row.trial
    return [_spread(key, edges, savings) for key, edges in found.items()]


def distribution_row(spread: RouteSpread) -> DistributionRow:
    """Describe one route."""
    return DistributionRow(
        environment=spread.key.environment.environment,
        route=spread.key.route,
        method=spread.key.method.value,
        edges=list(spread.edges),
        arms=[_arm_row(arm, found) for arm, found in spread.arms],
        saving=saving_body(spread.saving) if spread.saving is not None else None,
    )


def _spread(
    key: RouteKey,
    edges: dict[RegionId, dict[Arm, Distribution]],
    savings: dict[tuple[RouteKey, RegionId], Saving],
) -> RouteSpread:
    compared = {
        edge: {arm: arms[arm] for arm in COMPARED}
        for edge, arms in edges.items()
        if all(arm in arms for arm in COMPARED) and (key, edge) in savings
    }
    # The interval says nothing of edges that have none yet, so they are not drawn with it.
    compared = {e: compared[e] for e in compared if _is_bounded(savings[key, e])} or compared
    used = compared or edges
    parts: dict[Arm, list[Distribution]] = {}
    for arms in used.values():
        for arm, found in arms.items():
            parts.setdefault(arm, []).append(found)
    return RouteSpread(
        key,
        tuple(sorted(used)),
        tuple((arm, add_up(parts[arm])) for arm in Arm if arm in parts),
        combine(savings[key, edge] for edge in compared),
    )


def _is_bounded(saving: Saving) -> bool:
    return math.isfinite(saving.high - saving.low)


def _arm_row(arm: Arm, found: Distribution) -> ArmRow:
    return ArmRow(
        arm=arm.value,
        requests=found.requests,
        mean_ms=milliseconds(found.mean),
        buckets=[
            BucketRow(
                above_ms=milliseconds(BOUNDS[place - 1]) or 0.0 if place else 0.0,
                le_ms=milliseconds(BOUNDS[place]) if place < len(BOUNDS) else None,
                requests=n,
            )
            for place, n in found.counts
        ],
    )
