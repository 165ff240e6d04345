"""What users own: projects, their environments, bindings, instances and route rules.

A catalog is one immutable value built from configuration and admin calls; the node swaps the
whole value. `EnvironmentId` is the key everything learned is filed under, so learning survives a
new deployment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from graphlib import TopologicalSorter
from typing import NamedTuple

from onetrip.model.consistency import Consistency
from onetrip.model.discovery import InstanceSource
from onetrip.model.edge import Assets, CachePolicy
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.topology import Endpoint, RegionId


class Mode(Enum):
    """The toggle."""

    OFF = "off"
    SMART = "smart"


class BackendKind(Enum):
    """The protocol a backend speaks, which decides how it is probed."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    REDIS = "redis"
    HTTP = "http"
    TCP = "tcp"


class DatabaseTls(Enum):
    """What a client of a database wants of TLS; the words are those of libpq's `sslmode`."""

    DISABLE = "disable"
    PREFER = "prefer"
    """Where the server offers it."""
    REQUIRE = "require"
    """Or not at all; whoever answers."""
    VERIFY_CA = "verify-ca"
    """A certificate of an authority that is trusted, for whatever name."""
    VERIFY_FULL = "verify-full"
    """A certificate for the name that was dialled."""


class Forwarding(Enum):
    """How a request reaches an instance in another region."""

    NODE = "node"
    """Through that region's node (the default)."""
    DIRECT = "direct"
    """Straight from the edge to the instance."""


class EnvironmentId(NamedTuple):
    """(project, environment), for example ("shop", "production")."""

    project: str
    environment: str

    def __str__(self) -> str:
        return f"{self.project}/{self.environment}"


@dataclass(frozen=True, slots=True)
class Policy:
    """How one project wants its requests placed; every ratio is 0–1.

    Attributes:
        hint: run every request in this region, whatever the score; None lets the score decide.
        share: share of requests that `smart` is on for; the others stay at the default placement,
            and count in the control group.
        control_ratio: share of requests left at the default placement to measure the real gain.
        explore_ratio: share of idempotent requests sent elsewhere while a decision needs it.
        explore_writes: exploration may take requests that write, too.
        least_gain: least saving a request, s, that justifies leaving the edge.
        dwell: least time between two moves of one route at one edge, s.
        allow: regions requests may run in; empty allows all.
        deny: regions requests must never run in.
    """

    mode: Mode = Mode.OFF
    hint: RegionId | None = None
    control_ratio: float = 0.01
    explore_ratio: float = 0.01
    explore_writes: bool = False
    share: float = 1.0
    least_gain: float = 0.010
    dwell: float = 30.0
    allow: frozenset[RegionId] = frozenset()
    deny: frozenset[RegionId] = frozenset()
    forwarding: Forwarding = Forwarding.NODE

    @property
    def least_control(self) -> float:
        """Share of requests that are left at the default placement, whatever else is decided."""
        return 1.0 - self.share

    def permits(self, region: RegionId) -> bool:
        """Tell whether requests may run in `region`."""
        return region not in self.deny and (not self.allow or region in self.allow)


@dataclass(frozen=True, slots=True)
class Backend:
    """A data service that the application calls.

    Attributes:
        name: unique in the cluster; the name under `backends` in the configuration.
        probe_path: path requested by an HTTP probe.
        tls: what a PostgreSQL probe wants of TLS; the others go by the endpoint.
        ca_file: PEM file of the authorities it trusts, "" for the system's.
        replicas: copies that answer reads; `endpoint` is the primary, which takes writes, too.
        region: where `endpoint` is, None where nobody said.
        replication: how its endpoints are asked for positions and lag; None: they are not.
    """

    name: str
    kind: BackendKind
    endpoint: Endpoint
    probe_path: str = "/"
    tls: DatabaseTls = DatabaseTls.PREFER
    ca_file: str = ""
    replicas: tuple[Replica, ...] = ()
    region: RegionId | None = None
    replication: ReplicationAccess | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names under which the RTTs of its endpoints are filed, the primary's first."""
        return (self.name, *(replica.name for replica in self.replicas))

    @property
    def addresses(self) -> dict[str, Endpoint]:
        """Its endpoints by their names, in the order of `endpoints`."""
        return {self.name: self.endpoint} | {r.name: r.endpoint for r in self.replicas}

    @property
    def places(self) -> dict[str, RegionId | None]:
        """Regions of its endpoints by their names, in the order of `endpoints`."""
        return {self.name: self.region} | {r.name: r.region for r in self.replicas}


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of a deployment in a region."""

    region: RegionId
    endpoint: Endpoint
    is_stand_in: bool = False
    """It stands for what only its region's node knows, and cannot be dialled from elsewhere."""


@dataclass(frozen=True, slots=True)
class RouteRule:
    """A declared route class of an environment.

    Attributes:
        pattern: path pattern. `*` stands for one segment and a final `/**` for any rest;
            anything else is literal. `/users/*` is a pattern, `/**` matches every path.
        round_trips: declared sequential round trips to a backend, by binding name; an absent
            binding counts as 0. None means: learn them.
        is_local: never leave the edge (static assets, health checks).
        deny: regions its requests must never run in, those of the bindings it uses among them.
        rates, write_rates: declared requests a second by edge; only advice is made from them.
    """

    pattern: str
    round_trips: Mapping[str, float] | None = None
    is_local: bool = False
    deny: frozenset[RegionId] = frozenset()
    rates: Mapping[RegionId, float] = field(default_factory=dict)
    write_rates: Mapping[RegionId, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Environment:
    """A named setting of a project: its hosts, instances and bindings.

    Attributes:
        hosts: lower-case host names without port; `*.name` matches one more label.
        bindings: binding name to backend name.
        deployment: name or label of the deployment that runs now, "" when not told.
        health_path: path that probes of its instances request.
        needs_healthy_answer: only a 2xx answer to it counts; else anything below 500.
    """

    id: EnvironmentId
    hosts: tuple[str, ...]
    instances: tuple[Instance, ...]
    bindings: Mapping[str, str]
    rules: tuple[RouteRule, ...] = ()
    deployment: str = ""
    health_path: str = "/"
    needs_healthy_answer: bool = False
    path_prefix: str = "/"
    """Requests below this path belong to the environment; lets projects share a host."""
    capacity: int | None = None
    """Requests that one instance runs at once before others spill over; None: no limit."""
    request_timeout: float | None = None
    """From a request's head to the end of its response, s; None or 0: no limit."""
    assets: Assets | None = None
    """Files that every edge serves itself."""
    cache: CachePolicy | None = None
    """How responses are kept at the edge; None keeps none. The same for the whole project."""
    consistency: Consistency | None = None
    """What its clients may rely on when they read; None promises nothing. The same for the whole
    project."""
    deny: frozenset[RegionId] = frozenset()
    """Regions that requests of no declared route must never run in, on account of its bindings."""
    reads_nearest: frozenset[str] = frozenset()
    """Backends whose nearest endpoint the application reads from; else from their primary."""
    calls: Mapping[str, EnvironmentId] = field(default_factory=dict)
    """Environments of other projects that it calls through the node of its region, by binding."""
    data_deny: Mapping[str, frozenset[RegionId]] = field(default_factory=dict)
    """Regions whose replicas of a backend must not be read, on account of its bindings."""
    variant: str = ""
    """Name of the deployment, where this is not what the environment's own hosts lead to."""
    candidate: Environment | None = None
    """The deployment that is being rolled out, as the variant that it is."""
    candidate_share: float = 0.0
    """Share of the requests to the hosts that the candidate gets, 0-1."""
    sources: tuple[InstanceSource, ...] = ()
    """Where further instances are found; a filled catalog has those among `instances`, too."""

    @property
    def site(self) -> EnvironmentId:
        """What its instances and files are kept under: one for each variant."""
        if not self.variant:
            return self.id
        return EnvironmentId(self.id.project, f"{self.id.environment}@{self.variant}")

    def denied(self, rule: RouteRule | None) -> frozenset[RegionId]:
        """Return the regions that requests of a route must never run in, beside the policy's."""
        return self.deny if rule is None else rule.deny

    @property
    def asks_edge(self) -> bool:
        """Tell whether an edge may answer some of its requests without an instance."""
        return self.assets is not None or self.cache is not None


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a slow request is sent a second time, elsewhere.

    Attributes:
        after: without an answer for so long, s; None takes the quantile.
        quantile: of the route's own latencies, 0-1, used while `after` is None.
        max_ratio: second attempts per request, at most.
    """

    after: float | None = None
    quantile: float = 0.95
    max_ratio: float = 0.05


@dataclass(frozen=True, slots=True)
class Project:
    """What a user owns and routes to, with its policy and environments.

    Attributes:
        hedge: None sends every request once.
        variants: deployments with hosts of their own. They share what is learned and decided
            with their environment.
        is_declared: it was made through the API and is not in the configuration.
    """

    name: str
    policy: Policy
    environments: Mapping[str, Environment]
    hedge: Hedge | None = None
    variants: tuple[Environment, ...] = ()
    is_declared: bool = False

    def serves_like(self, other: Project) -> bool:
        """Tell whether requests find and reach the same as with `other`: policies may differ."""
        mine, theirs = self.policy, other.policy
        routes = (mine.allow, mine.deny, mine.forwarding)
        is_routed_alike = routes == (theirs.allow, theirs.deny, theirs.forwarding)
        return is_routed_alike and replace(self, policy=theirs) == other

    def sites(self) -> Iterator[Environment]:
        """Yield everything that requests can be for: environments, variants, candidates.

        A candidate with hosts of its own comes twice.
        """
        for environment in self.environments.values():
            yield environment
            if environment.candidate is not None:
                yield environment.candidate
        yield from self.variants


@dataclass(frozen=True, slots=True)
class Catalog:
    """All projects and backends, as one value. `version` grows with every change."""

    projects: Mapping[str, Project] = field(default_factory=dict)
    backends: Mapping[str, Backend] = field(default_factory=dict)
    version: int = 0

    def environments(self) -> list[Environment]:
        """Return every environment of every project, in configuration order."""
        return [e for p in self.projects.values() for e in p.environments.values()]

    def sites(self) -> Iterator[Environment]:
        """Yield everything that requests can be for; see `Project.sites`."""
        for project in self.projects.values():
            yield from project.sites()

    def serves_like(self, other: Catalog) -> bool:
        """Tell whether only what placement is told to do differs from `other`, if that."""
        mine, theirs = self.projects, other.projects
        return (
            replace(self, projects=theirs, version=other.version) == other
            and mine.keys() == theirs.keys()
            and all(p is theirs[name] or p.serves_like(theirs[name]) for name, p in mine.items())
        )

    def called(self) -> tuple[EnvironmentId, ...]:
        """Return the environments that others call, none before one that it calls itself.

        Raises:
            graphlib.CycleError: one calls itself by way of others.
        """
        graph = {e.id: tuple(e.calls.values()) for e in self.environments() if e.calls}
        if not graph:
            return ()
        called = {id for calls in graph.values() for id in calls}
        return tuple(id for id in TopologicalSorter(graph).static_order() if id in called)

    def policy_of(self, environment: EnvironmentId) -> Policy:
        """Return the policy of the environment's project."""
        return self.projects[environment.project].policy
