"""What is measured: samples from probes and from traffic, and the estimates made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from onetrip.model.catalog import EnvironmentId
from onetrip.model.topology import RegionId


class TargetKind(Enum):
    """What a probe is aimed at."""

    PEER = "peer"
    BACKEND = "backend"
    INSTANCE = "instance"


class Target(NamedTuple):
    """Something with an RTT.

    `name` is a region id for a peer, the backend's name for a backend, and `host:port` for an
    instance; with `kind` it is unique in the cluster.
    """

    kind: TargetKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"


class SampleKind(Enum):
    """How an RTT was taken."""

    CONNECT = "connect"
    HANDSHAKE = "handshake"
    HTTP = "http"
    PASSIVE = "passive"


class EstimateState(Enum):
    """Whether an RTT estimate can be used, and for what."""

    UNKNOWN = "unknown"
    FRESH = "fresh"
    STALE = "stale"
    """Older than its maximum age: may keep a placement, never start a move."""
    FAILING = "failing"
    """The last probes in a row failed: the target counts as down."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured round trip from this node's region to a target. Times in s."""

    target: Target
    rtt: float
    kind: SampleKind
    taken_at: float


@dataclass(frozen=True, slots=True)
class RttEstimate:
    """The RTT from one region to one target, s.

    Attributes:
        rtt: the estimate that scores use (base RTT: windowed minimum); NaN when unknown.
        srtt: smoothed RTT, NaN when unknown (RFC 6298).
        rttvar: smoothed mean deviation, NaN when unknown (RFC 6298).
        samples: how many samples went in, ever.
        failures: probes failed in a row, 0 after a success.
        updated_at: monotonic time of the last success on the node that measured; 0 if never.
    """

    target: Target
    rtt: float
    srtt: float
    rttvar: float
    samples: int
    failures: int
    updated_at: float
    state: EstimateState


class MethodClass(Enum):
    """Methods that behave alike for placement: safe reads, and everything that may write."""

    __hash__ = object.__hash__  # Enum's own is Python, and keys with it are looked up all the time

    READ = "read"
    WRITE = "write"


class RouteKey(NamedTuple):
    """What is learned and placed as one: environment × route class × method class."""

    environment: EnvironmentId
    route: str
    """The route class: a declared pattern, or a path template such as `/users/{id}`."""
    method: MethodClass

    def __str__(self) -> str:
        return f"{self.environment} {self.method.value} {self.route}"


class Arm(Enum):
    """Why a request ran where it ran; one of the options traffic is split between."""

    __hash__ = object.__hash__  # as above

    DEFAULT = "default"
    """No placement applies: the default placement."""
    PLACED = "placed"
    """The region the scores chose."""
    CONTROL = "control"
    """Left at the default placement to measure the gain."""
    EXPLORE = "explore"
    """Sent to a region that a decision needs to hear from."""
    FAILOVER = "failover"
    """The chosen region was down."""
    SPILL = "spill"
    """The chosen region had no room; the next-best one took it."""
    HINT = "hint"
    """Pinned by the user."""


class Timing(NamedTuple):
    """One metric that an application told in Server-Timing; None where it did not say."""

    name: str
    duration: float | None
    """s."""
    trips: float | None


@dataclass(slots=True)
class Observation:
    """One finished exchange, as seen by the node that reports it. Times in s.

    Attributes:
        edge: region whose node accepted the client.
        region: region whose instance ran the request.
        latency: at the edge, from the complete request head to the first response byte from
            upstream; None on the node that only ran a forwarded request.
        service: from request written to an instance of *this node's own region* to its first
            response byte (compute plus its round trips to backends); None when the instance was
            in another region.
        is_error: the response was 5xx or none came; such times teach nothing.
        is_cold: a new upstream connection was opened for it.
    """

    key: RouteKey
    edge: RegionId
    region: RegionId
    arm: Arm
    latency: float | None
    service: float | None
    is_error: bool
    is_cold: bool
    at: float
    timings: tuple[Timing, ...] = ()
    """What the instance told in Server-Timing."""
    sent_at: float = 0.0
    """When the request was written to the instance; 0 when it is not known."""


@dataclass(frozen=True, slots=True)
class ServiceSummary:
    """Service times of one route in one region.

    Attributes:
        mean, error: trimmed mean and its standard error, s.
        rtts: mean RTT to each backend while those requests ran, by backend name, s.
        age: s since the newest of them.
    """

    region: RegionId
    count: int
    mean: float
    error: float
    rtts: Mapping[str, float]
    age: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class TripEvidence:
    """Round trips of one route to one backend, told by something other than the regression.

    Attributes:
        trips, error: mean count a request and its standard error.
        requests: how many requests it was taken from.
        source: "timing" (Server-Timing durations), "count" (Server-Timing counts) or "relay".
    """

    backend: str
    trips: float
    error: float
    requests: int
    source: str


class DriftKind(Enum):
    """Why a route's service time shifted."""

    CODE = "code"
    """RTTs are as before: the application does something else now."""
    NETWORK = "network"
    """The RTT to a backend moved with it."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A lasting shift of a route's service time in one region. Times in s."""

    key: RouteKey
    region: RegionId
    kind: DriftKind
    before: float
    after: float
    at: float
