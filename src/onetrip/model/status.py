"""What a node tells about itself: peers, latencies before and after, events, policy changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from onetrip.model.catalog import Mode
from onetrip.model.distribution import Distribution
from onetrip.model.measure import Arm, RouteKey, Target
from onetrip.model.replication import EndpointState
from onetrip.model.topology import RegionId


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One other node, as this one sees it. `age` is s since it was last heard, inf if never."""

    region: RegionId
    is_alive: bool
    age: float


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A node whose RTTs are not believed.

    Attributes:
        claims: how many of them.
        target, claimed, bound: the one that is furthest off, s.
    """

    region: RegionId
    claims: int
    target: Target
    claimed: float
    bound: float

    def __str__(self) -> str:
        side = "under" if self.claimed < self.bound else "over"
        return (
            f"its RTT of {self.claimed * 1e3:.1f} ms to {self.target} cannot be true: {side} "
            f"{self.bound * 1e3:.1f} ms by what other regions measured"
            + (f" ({self.claims} such claims)" if self.claims > 1 else "")
        )


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Latency of one route at one edge in one arm. Times in s.

    Attributes:
        requests, mean, p50, p95, p99: over the recent window; NaN when it is empty.
        trial: since the route moved last: what its measured saving is made of.
    """

    key: RouteKey
    edge: RegionId
    arm: Arm
    requests: int
    mean: float
    p50: float
    p99: float
    p95: float = math.nan
    trial: Distribution | None = None


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """One slice of a latency history: the median of one route at one edge. Times in s.

    Attributes:
        at: Unix time of the slice's start.
        placed_p50: median of the requests that ran away from the default, NaN if none.
        default_p50: median of the requests that ran at the default placement, NaN if none.
    """

    at: float
    placed_p50: float
    default_p50: float
    requests: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to know: a move, a toggle, a failure."""

    at: float
    """Unix time, s."""
    name: str
    """Past tense, dotted by package: `place.moved`."""
    subject: str
    """The project, route, region or target it happened to."""
    detail: str
    id: int = 0
    """Grows with every event of a node, also over restarts."""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """A partial change of a project's policy; None leaves a field as it is.

    `hint` uses "" to clear the pin.
    """

    mode: Mode | None = None
    hint: str | None = None
    control_ratio: float | None = None
    explore_ratio: float | None = None
    share: float | None = None


class CertificateState(Enum):
    """How a name's certificate is."""

    VALID = "valid"
    ORDERED = "ordered"
    """The first one is being ordered, or is about to be."""
    FAILING = "failing"
    """The last order failed; an older certificate may still be served."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """One certificate that clients get. Instants are Unix time, s; None where there is none.

    Attributes:
        names: hosts it is used for.
        is_automatic: ordered by a node, not configured as a file.
        renew_at: when it is to be renewed.
        retry_at: when a failed order is repeated.
        failures: orders that failed since the last success.
        error: why the last one failed, "" if it did not.
    """

    names: tuple[str, ...]
    state: CertificateState
    is_automatic: bool
    issuer: str = ""
    expires_at: float | None = None
    renew_at: float | None = None
    retry_at: float | None = None
    failures: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class EnvoyStatus:
    """One Envoy that follows this node.

    Attributes:
        name, version: as it calls itself.
        address: where it connects from.
        uptime: s since it connected.
        is_current: it has accepted all that it was told.
        refused: what it did not, and why.
    """

    name: str
    version: str
    address: str
    uptime: float
    is_current: bool
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process.

    Attributes:
        pid: 0 while none runs.
        is_serving: it accepts connections.
        uptime: s since its process started.
        connections: clients it serves.
        placements: version of the placement snapshot it uses.
        ends: how often it ended without being told to.
    """

    index: int
    pid: int
    is_serving: bool
    uptime: float
    connections: int
    placements: int
    ends: int


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One endpoint of a backend whose endpoints are asked for positions and lag.

    Attributes:
        endpoint: see `Backend.endpoints`.
        address: where it is dialled.
        region: where it is, None where nobody said.
        state: what it said of itself; None when nobody has asked it yet.
        is_primary: it takes the writes.
        is_read: reads may go there.
        is_discovered: it was found, and not declared.
        max_lag: see `ReplicationAccess`.
    """

    backend: str
    endpoint: str
    address: str
    region: RegionId | None
    state: EndpointState | None
    is_primary: bool
    is_read: bool
    is_discovered: bool
    max_lag: float
