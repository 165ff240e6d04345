"""The placement snapshot: what the request path reads, immutable and versioned.

The scoring loop builds a new `PlacementSnapshot` and swaps one reference; readers take the
reference once per request and need no lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import RouteKey
from onetrip.model.topology import RegionId


class Status(Enum):
    """What a user is told about a route at an edge."""

    OFF = "off"
    ANALYZING = "analyzing"
    PLACED = "placed"
    AT_EDGE = "at edge"
    """Decided: the edge is (or is as good as) the best region."""
    PINNED = "pinned"
    INSUFFICIENT_TRAFFIC = "insufficient traffic"
    NOT_HELPING = "not helping"
    """Moved, measured no gain against the control group, and reverted."""
    UNREACHABLE = "unreachable"
    """No permitted region has a ready instance."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the requests of one route run, as seen from one edge.

    Attributes:
        regions: best first; the later ones serve as failover. Never empty unless unreachable.
        default: the default placement (the edge itself, or the nearest region that can serve).
        control_ratio: share of requests sent to `default` instead of `regions[0]`.
        explore: region that needs traffic before a decision, or None.
        explore_ratio: share of requests sent to `explore`.
        explores_writes: whether requests that write may be among them.
        reason: the rule that decided, one short sentence.
        missing: what is still needed before a decision, or "".
    """

    status: Status
    regions: tuple[RegionId, ...]
    default: RegionId | None
    control_ratio: float = 0.0
    explore: RegionId | None = None
    explore_ratio: float = 0.0
    reason: str = ""
    missing: str = ""
    explores_writes: bool = False


@dataclass(frozen=True, slots=True)
class PlacementSnapshot:
    """Every placement of one edge.

    Attributes:
        edge: this node's region.
        routes: placement per known route key.
        environments: placement for route keys not seen before, per environment.
    """

    edge: RegionId
    version: int = 0
    routes: Mapping[RouteKey, Placement] = field(default_factory=dict)
    environments: Mapping[EnvironmentId, Placement] = field(default_factory=dict)

    def find(self, key: RouteKey) -> Placement | None:
        """Return the placement of `key`, its environment's default one, or None."""
        return self.routes.get(key) or self.environments.get(key.environment)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One region's score for one route at one edge; every term is seconds, NaN = unknown.

    Attributes:
        edge_rtt: RTT(edge, region).
        compute: time of the application itself.
        backend_trips: per backend: (name, round trips, RTT(region, backend), product).
        score: edge_rtt + compute + the products.
        verdict: "chosen", "current", or why it was not chosen.
        endpoints: per backend: which of its endpoints the RTT is to, the primary by the
            backend's name.
    """

    region: RegionId
    edge_rtt: float
    compute: float
    backend_trips: tuple[tuple[str, float, float, float], ...]
    score: float
    verdict: str
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Saving:
    """The measured difference control − placed, s, with its confidence interval.

    Attributes:
        low, high: bounds; NaN while there is too little traffic.
        confidence: coverage of the interval, for example 0.95.
    """

    mean: float
    low: float
    high: float
    confidence: float
    placed_requests: int
    control_requests: int


@dataclass(frozen=True, slots=True)
class TripEstimate:
    """Learned or declared cost of a route.

    Attributes:
        compute: application time without backends, s.
        round_trips: per backend name.
        low, high: bounds of the round trips per backend name, same keys.
        requests: observations behind it.
        regions: how many regions those came from.
        source: "declared", "none", or what it was learned from: "traffic", "traffic + relay", …
        missing: what is needed before the estimate can be used, or "".
    """

    compute: float
    round_trips: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    requests: int
    regions: int
    source: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The explain record: a placement, and everything behind it."""

    key: RouteKey
    edge: RegionId
    placement: Placement
    trips: TripEstimate
    candidates: tuple[Candidate, ...]
    saving: Saving | None
    decided_at: float
    """Unix time, s."""
    moved_at: float
    """Unix time of the last move, s; 0 if it never moved."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What smart placement would do with one route at one edge, from what is known now.

    Attributes:
        requests: seen at this edge; weighs the route in a total.
        default: latency predicted at the default placement, s; NaN when unknown.
        placement: what the rules would decide with the toggle on and no hint.
        predicted: latency predicted where it would run, s; NaN when unknown.
        saving, low, high: predicted saving and its 95 % bounds, s; 0 where it would stay.
    """

    key: RouteKey
    edge: RegionId
    requests: int
    default: float
    placement: Placement
    predicted: float
    saving: float
    low: float
    high: float
