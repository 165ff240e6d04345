"""The shape of what users own in the configuration file: backends, projects, what may be deployed.

Times are seconds, sizes bytes, ratios 0-1. Every key is documented in docs/configuration.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from onetrip.app.schema_base import ControlRatio, Path, Ratio, Strict, Text

Rate = Annotated[float, Meta(ge=0, le=10_000_000)]
"""Requests a second."""


class DeploymentsEntry(Strict):
    """`deployments`: what may be deployed through the API (`release.terms.Terms`)."""

    domain: Text | None = None
    allow: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)
    keep: Annotated[int, Meta(ge=1, le=1000)] = 50
    production_branch: Annotated[str, Meta(min_length=1, max_length=255)] = "main"
    check_timeout: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    max_assets: Annotated[int, Meta(ge=1024, le=32 * 1024 * 1024)] = 25 * 1024 * 1024


class ReplicaEntry(Strict):
    """`backends.<name>.replicas.<name>`: a copy of a backend that answers reads."""

    address: Text
    region: Text | None = None


Networks = Annotated[list[Text], Meta(max_length=64)]


Url = Annotated[str, Meta(pattern="^https?://[!-~]+$", max_length=256)]
Urls = Annotated[list[Url], Meta(min_length=1, max_length=64)]


class ReplicationEntry(Strict):
    """`backends.<name>.replication`: how endpoints are asked for position and lag."""

    user: Text
    password_file: Text | None = None
    password_env: Text | None = None
    database: Text = ""
    interval: Annotated[float, Meta(ge=0.2, le=300)] = 2.0
    max_lag: Annotated[float, Meta(ge=0.1, le=86400)] = 5.0
    discover: Annotated[dict[str, Networks], Meta(max_length=64)] = field(default_factory=dict)
    """Networks that may be looked for replicas in, by the region they are in."""
    relays: Annotated[dict[str, Urls], Meta(max_length=1000)] = field(default_factory=dict)
    """HTTP of the routing relays that the applications of a region read through."""
    relay_token_file: Text | None = None
    relay_token_env: Text | None = None


class BackendEntry(Strict):
    """`backends.<name>`: a database, cache or API."""

    kind: Literal["postgres", "mysql", "redis", "http", "tcp"] | None = None
    address: Text | None = None
    url: Annotated[str, Meta(max_length=4096)] | None = None
    """Of a database; its kind and address."""
    url_env: Text | None = None
    probe_path: Path = "/"
    region: Text | None = None
    """Where the address above is."""
    replicas: Annotated[dict[str, ReplicaEntry], Meta(max_length=32)] = field(default_factory=dict)
    replication: ReplicationEntry | None = None


class BindingEntry(Strict):
    """`bindings.<name>` where more is to be said than the backend's name."""

    backend: Text | None = None
    project: Text | None = None
    """Instead of a backend: a project that it calls, and which environment of it."""
    environment: Text | None = None
    reads: Literal["primary", "nearest"] = "primary"
    allow: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)
    deny: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)


class RouteEntry(Strict):
    """One entry of `routes`: a declared route class."""

    path: Path
    round_trips: dict[str, Annotated[float, Meta(ge=0, le=10_000)]] | None = None
    rates: dict[str, Rate] = field(default_factory=dict)
    write_rates: dict[str, Rate] = field(default_factory=dict)
    local: bool = False
    allow: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)
    deny: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)


class CacheControlEntry(Strict):
    """One entry of `assets.cache_control`."""

    path: Annotated[str, Meta(pattern="^[!-~]+$", max_length=256)]
    value: Annotated[str, Meta(pattern="^[!-~]([ -~]*[!-~])?$", max_length=256)]


class AssetsEntry(Strict):
    """`environments.<name>.assets`: files that every edge serves itself."""

    directory: Annotated[str, Meta(min_length=1, max_length=4096)]
    prefix: Path | None = None
    index: Text | None = "index.html"
    not_found: Text | None = None
    spa: bool = False
    cache_control: Annotated[list[CacheControlEntry], Meta(max_length=100)] = field(
        default_factory=list
    )


class EnvironmentEntry(Strict):
    """`projects.<name>.environments.<name>`."""

    hosts: Annotated[list[Text], Meta(max_length=1000)] = field(default_factory=list)
    instances: dict[str, Annotated[list[Text], Meta(max_length=1000)]] = field(default_factory=dict)
    bindings: Annotated[dict[str, Text | BindingEntry], Meta(max_length=8)] = field(
        default_factory=dict
    )
    routes: Annotated[list[RouteEntry], Meta(max_length=1000)] = field(default_factory=list)
    deployment: Text = ""
    health_path: Path | None = None
    path_prefix: Path = "/"
    protocol: Literal["http1", "h2", "auto"] = "http1"
    capacity: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    request_timeout: Annotated[float, Meta(ge=0, le=86400)] | None = None
    assets: AssetsEntry | None = None


class PlacementEntry(Strict):
    """`projects.<name>.placement`: the toggle and its knobs."""

    mode: Literal["smart", "off"] = "off"
    hint: Text | None = None
    share: Ratio = 1.0
    control: ControlRatio = 0.01
    explore: Ratio = 0.01
    explore_writes: bool = False
    least_gain: Annotated[float, Meta(ge=0, le=60)] = 0.010
    dwell: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    allow: list[Text] = field(default_factory=list)
    deny: list[Text] = field(default_factory=list)
    forwarding: Literal["node", "direct"] | None = None
    """None is `node`, or `direct` with Envoy."""


class CacheEntry(Strict):
    """`projects.<name>.cache`: responses kept at the edge."""

    enabled: bool = False
    max_size: Annotated[int, Meta(ge=65536, le=1 << 40)] = 64 * 1024 * 1024
    max_object: Annotated[int, Meta(ge=0, le=1 << 30)] = 1024 * 1024
    heuristic: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    cookies: bool = False
    wait: Annotated[float, Meta(ge=0, le=60)] = 5.0


class HedgeEntry(Strict):
    """`projects.<name>.hedge`: a second attempt for requests that take unusually long."""

    after: Annotated[float, Meta(ge=0.001, le=60)] | Annotated[str, Meta(pattern="^p[5-9][0-9]$")]
    """Seconds, or a quantile of the route's own latencies such as `p95`."""
    max_ratio: Annotated[float, Meta(gt=0, le=0.5)] = 0.05


class ConsistencyEntry(Strict):
    """`projects.<name>.consistency`: what its clients may rely on when they read."""

    mode: Literal["off", "session"] = "off"
    wait: Annotated[float, Meta(ge=0, le=10)] = 0.2
    carry: Literal["cookie", "header"] = "cookie"
    max_age: Annotated[float, Meta(ge=60, le=604_800)] = 3600.0


class ProjectEntry(Strict):
    """`projects.<name>`."""

    environments: dict[str, EnvironmentEntry] = field(default_factory=dict)
    placement: PlacementEntry = field(default_factory=PlacementEntry)
    cache: CacheEntry = field(default_factory=CacheEntry)
    hedge: HedgeEntry | None = None
    consistency: ConsistencyEntry = field(default_factory=ConsistencyEntry)
