"""The bodies of the admin API: what clients read. What they may send is in `control/requests`.

Times that people read are milliseconds and say so (`_ms`); instants are Unix seconds (`_at`);
what is unknown is null. `control/convert` fills them; `control/whatif` has those of what-if.
"""

from __future__ import annotations

from msgspec import Struct

from onetrip.control.processes import EnvoyRow, WorkerRow
from onetrip.control.replica_rows import ReplicaRow


class Position(Struct, frozen=True):
    """Where a region is drawn, degrees."""

    latitude: float
    longitude: float


class StatusBody(Struct, frozen=True):
    """`GET /v1/status`: one node and its cluster at a glance.

    Attributes:
        state: "ok", or "degraded" when `problems` is not empty.
        uptime: s.
        saving_ms: request-weighted mean of the measured savings of all placed routes.
        workers, envoys: what serves requests; none where the node's own process does.
        mode: "serve", or "advise" where the node takes no traffic.
        replicas: endpoints of the backends whose replication is watched.
    """

    version: str
    region: str
    state: str
    problems: list[str]
    started_at: float
    uptime: float
    catalog_version: int
    snapshot_version: int
    regions: int
    regions_alive: int
    projects: int
    routes: dict[str, int]
    saving_ms: float | None
    workers: list[WorkerRow] = []
    envoys: list[EnvoyRow] = []
    mode: str = "serve"
    replicas: list[ReplicaRow] = []


class RegionRow(Struct, frozen=True):
    """One region; `is_alive` is null when it runs no node, `age` (s) when never heard.

    Attributes:
        is_draining: it takes no new work while another region can.
        instances, instances_ready: of all environments, and how many of them answer.
        backends: those whose nearest region, by RTT, this one is.
    """

    id: str
    title: str
    position: Position | None
    is_self: bool
    is_alive: bool | None
    is_draining: bool
    instances: int
    instances_ready: int
    age: float | None
    backends: list[str]


class RegionsBody(Struct, frozen=True):
    """`GET /v1/regions`."""

    regions: list[RegionRow]


class RttRow(Struct, frozen=True):
    """The RTT from one region to one target.

    Attributes:
        is_anycast: the backend is answered in more than one place, so each region's RTT is its own.
    """

    source: str
    kind: str
    target: str
    state: str
    rtt_ms: float | None
    srtt_ms: float | None
    rttvar_ms: float | None
    samples: int
    failures: int
    is_anycast: bool


class RttsBody(Struct, frozen=True):
    """`GET /v1/rtts`."""

    rtts: list[RttRow]


class PlacementBody(Struct, frozen=True):
    """A project's policy, under the names a user writes."""

    mode: str
    hint: str
    share: float
    control: float
    explore: float
    least_gain_ms: float
    dwell: float
    allow: list[str]
    deny: list[str]
    forwarding: str


class InstanceRow(Struct, frozen=True):
    """One running copy of a deployment."""

    region: str
    endpoint: str


class BindingRow(Struct, frozen=True):
    """The link from an environment to a backend, whose `kind` and `endpoint` they are.

    Or to another project: then `backend` is its environment, `kind` `project`, `endpoint` empty.
    """

    name: str
    backend: str
    kind: str
    endpoint: str


class EnvironmentBody(Struct, frozen=True):
    """One environment; `capacity` is requests at once an instance, null without a limit."""

    name: str
    hosts: list[str]
    path_prefix: str
    deployment: str
    capacity: int | None
    instances: list[InstanceRow]
    bindings: list[BindingRow]


class ProjectBody(Struct, frozen=True):
    """`GET /v1/projects/{name}`: what is configured. Its digest is the ETag."""

    name: str
    placement: PlacementBody
    environments: list[EnvironmentBody]


class ProjectRow(Struct, frozen=True):
    """One project in a listing, with what became of its routes.

    Attributes:
        etag: for If-Match, the same as the ETag of the project's own address.
        routes: number of (route, edge) pairs by status.
        saving_ms: request-weighted mean of the measured savings.
    """

    name: str
    etag: str
    placement: PlacementBody
    environments: list[EnvironmentBody]
    routes: dict[str, int]
    saving_ms: float | None
    requests: int


class TermRow(Struct, frozen=True):
    """One backend's part of a score: `round_trips` × `rtt_ms` to `endpoint` = `product_ms`."""

    backend: str
    round_trips: float | None
    rtt_ms: float | None
    product_ms: float | None
    endpoint: str = ""


class CandidateRow(Struct, frozen=True):
    """One region's score for one route at one edge, term by term."""

    region: str
    edge_rtt_ms: float | None
    compute_ms: float | None
    backends: list[TermRow]
    score_ms: float | None
    verdict: str
    is_chosen: bool
    is_default: bool


class TripsRow(Struct, frozen=True):
    """The round trips of a route to one backend, with their interval."""

    backend: str
    round_trips: float | None
    low: float | None
    high: float | None


class TripsBody(Struct, frozen=True):
    """Learned or declared cost of a route; `regions` is how many it was learned from."""

    compute_ms: float | None
    backends: list[TripsRow]
    requests: int
    regions: int
    source: str
    missing: str


class SavingBody(Struct, frozen=True):
    """The measured difference control − placed; the bounds are null with too little traffic."""

    mean_ms: float | None
    low_ms: float | None
    high_ms: float | None
    confidence: float
    placed_requests: int
    control_requests: int


class DecisionBody(Struct, frozen=True):
    """The explain record of one route at one edge.

    Attributes:
        regions: where it runs, and then in which order others take what that one cannot.
        default: region of the default placement, null when no region can serve.
        moved_at: Unix time of the last move, null if it never moved.
        capacity: requests at once an instance, null without a limit.
    """

    project: str
    environment: str
    route: str
    method: str
    edge: str
    status: str
    regions: list[str]
    default: str | None
    control: float
    explore: float
    explore_region: str | None
    reason: str
    missing: str
    trips: TripsBody
    candidates: list[CandidateRow]
    saving: SavingBody | None
    decided_at: float
    moved_at: float | None
    capacity: int | None = None


class ExplainBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/explain`; `total` counts also what `limit` left out.

    `consistency` tells what clients may rely on when they read, null where nothing is promised."""

    project: str
    total: int
    decisions: list[DecisionBody]
    next: str | None = None
    consistency: str | None = None


class LatencyRow(Struct, frozen=True):
    """Latency of one route at one edge in one arm, over the last 15 minutes."""

    project: str
    environment: str
    route: str
    method: str
    edge: str
    arm: str
    requests: int
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class LatenciesBody(Struct, frozen=True):
    """`GET /v1/latencies`; `total` counts also what `limit` left out."""

    total: int
    latencies: list[LatencyRow]
    next: str | None = None


class PointRow(Struct, frozen=True):
    """One slice of a latency history."""

    at: float
    placed_p50_ms: float | None
    default_p50_ms: float | None
    requests: int


class SeriesRow(Struct, frozen=True):
    """The history of one route at one edge, oldest first."""

    environment: str
    route: str
    method: str
    edge: str
    points: list[PointRow]


class HistoryBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/history`."""

    project: str
    series: list[SeriesRow]


class EventRow(Struct, frozen=True):
    """Something that happened.

    Attributes:
        id: grows with every event of the node; for Last-Event-ID of the stream.
    """

    at: float
    name: str
    subject: str
    detail: str
    id: int = 0


class EventsBody(Struct, frozen=True):
    """`GET /v1/events`, newest first."""

    events: list[EventRow]
    next: str | None = None


class ReloadBody(Struct, frozen=True):
    """`POST /v1/reload`."""

    detail: str
