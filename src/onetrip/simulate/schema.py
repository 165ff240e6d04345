"""The shape of a scenario file, and the world it describes.

Files meet people, so times in them are ms where their key says so and s elsewhere. Every key is
documented in docs/simulate.md.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from onetrip.errors import ConfigError
from onetrip.estimate.filters import FilterSettings
from onetrip.model.catalog import Mode, Policy
from onetrip.model.measure import MethodClass
from onetrip.model.topology import RegionId
from onetrip.probe.plan import ProbeSettings
from onetrip.simulate.engine import Settings
from onetrip.simulate.world import (
    BackendMove,
    Deploy,
    Event,
    Floats,
    Jitter,
    PathShift,
    PathTrace,
    RegionFault,
    RouteTruth,
    World,
)

Ratio = Annotated[float, Meta(ge=0, le=1)]
Time = Annotated[float, Meta(ge=0, le=1e7)]
Trips = Annotated[dict[str, Annotated[float, Meta(ge=0, le=1000)]], Meta(max_length=16)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every entry: unknown keys are refused."""


class RouteEntry(Strict):
    """`routes[]`: one route of the application."""

    route: Name
    trips: Trips = field(default_factory=dict)
    compute_ms: Time = 4.0
    sigma: Annotated[float, Meta(ge=0, le=3)] = 0.3
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    method: MethodClass = MethodClass.READ
    varies: bool = False
    local: bool = False
    declared: bool = False


class JitterEntry(Strict):
    """`jitter`: what each round trip gets on top."""

    mean_ms: Time = 0.4
    spike_ratio: Ratio = 0.001
    spike_ms: Time = 50.0


class PolicyEntry(Strict):
    """`policy`: the project's placement settings."""

    control: Annotated[float, Meta(ge=0, le=0.5)] = 0.01
    explore: Ratio = 0.01
    least_gain_ms: Time = 10.0
    dwell: Time = 30.0


class EventEntry(Strict):
    """`events[]`: one change of the truth; `at` and exactly one of the other forms."""

    at: Time
    move: Name | None = None
    to: Name | None = None
    down: Name | None = None
    up: Name | None = None
    path: tuple[Name, Name] | None = None
    factor: float | None = None
    shape: Annotated[list[float], Meta(min_length=1, max_length=20_000)] | None = None
    step: Annotated[float, Meta(gt=0, le=86_400)] = 5.0
    deploy: Name | None = None
    trips: Trips | None = None


class ScenarioFile(Strict):
    """The file."""

    backends: Annotated[dict[Name, Name], Meta(max_length=16)]
    edges: Annotated[dict[Name, Annotated[float, Meta(ge=0, le=1e6)]], Meta(min_length=1)]
    routes: Annotated[list[RouteEntry], Meta(min_length=1, max_length=256)]
    matrix: str = ""
    instances: list[Name] = field(default_factory=list)
    events: Annotated[list[EventEntry], Meta(max_length=1000)] = field(default_factory=list)
    jitter: JitterEntry = field(default_factory=JitterEntry)
    policy: PolicyEntry = field(default_factory=PolicyEntry)
    inside_ms: Time = 0.5
    duration: Annotated[float, Meta(ge=1, le=1e7)] = 600.0
    warm_up: Time = 120.0
    requests: Annotated[int, Meta(ge=1, le=20_000_000)] = 30_000
    probe_interval: Annotated[float, Meta(ge=0.05, le=3600)] = 5.0
    probe_peers: Annotated[int, Meta(ge=8, le=1000)] | None = None
    score_interval: Annotated[float, Meta(ge=0.05, le=3600)] = 0.5


def read_scenario(data: Any) -> ScenarioFile:
    """Check plain data (as YAML gives it).

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range.
    """
    try:
        return msgspec.convert(data, ScenarioFile)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("Object contains", "the file contains")) from error


def scenario_world(file: ScenarioFile, regions: tuple[RegionId, ...], rtt: Floats) -> World:
    """Return the world of a scenario on a matrix.

    Raises:
        ConfigError: the file names something that the matrix or the file itself does not hold.
    """
    jitter = file.jitter
    return World(
        regions=regions,
        rtt=rtt,
        backends={name: RegionId(home) for name, home in file.backends.items()},
        routes=tuple(_route(entry) for entry in file.routes),
        edges={RegionId(name): weight for name, weight in file.edges.items()},
        instances=frozenset(RegionId(name) for name in file.instances),
        events=tuple(_event(entry) for entry in file.events),
        jitter=Jitter(jitter.mean_ms / 1e3, jitter.spike_ratio, jitter.spike_ms / 1e3),
        inside=file.inside_ms / 1e3,
    )


def scenario_settings(file: ScenarioFile) -> Settings:
    """Return the node's settings that a scenario asks for."""
    entry = file.policy
    policy = Policy(
        mode=Mode.SMART,
        control_ratio=entry.control,
        explore_ratio=entry.explore,
        least_gain=entry.least_gain_ms / 1e3,
        dwell=entry.dwell,
    )
    return Settings(
        policy=policy,
        probe=ProbeSettings(interval=file.probe_interval, peers=file.probe_peers),
        # As the node sets it from its probe interval.
        filters=FilterSettings(max_age=max(30.0, 6 * file.probe_interval)),
        score_interval=file.score_interval,
    )


def _route(entry: RouteEntry) -> RouteTruth:
    return RouteTruth(
        name=entry.route,
        trips=entry.trips,
        compute=entry.compute_ms / 1e3,
        sigma=entry.sigma,
        weight=entry.weight,
        method=entry.method,
        varies=entry.varies,
        is_local=entry.local,
        is_declared=entry.declared,
    )


def _event(entry: EventEntry) -> Event:
    forms = [
        name
        for name in ("move", "down", "up", "path", "deploy")
        if getattr(entry, name) is not None
    ]
    if len(forms) != 1:
        raise ConfigError(f"event at {entry.at:g} s must be one of move, down, up, path, deploy")
    if entry.move is not None and entry.to is not None:
        return BackendMove(entry.at, entry.move, RegionId(entry.to))
    if entry.down is not None:
        return RegionFault(entry.at, RegionId(entry.down))
    if entry.up is not None:
        return RegionFault(entry.at, RegionId(entry.up), is_up=True)
    if entry.deploy is not None and entry.trips is not None:
        return Deploy(entry.at, entry.deploy, entry.trips)
    if entry.path is not None:
        return _path_event(entry, RegionId(entry.path[0]), RegionId(entry.path[1]))
    raise ConfigError(f"event at {entry.at:g} s: {forms[0]} needs its other key (to or trips)")


def _path_event(entry: EventEntry, one: RegionId, other: RegionId) -> Event:
    if entry.factor is not None and entry.shape is None:
        return PathShift(entry.at, one, other, entry.factor)
    if entry.shape is not None and entry.factor is None:
        return PathTrace(entry.at, one, other, tuple(entry.shape), entry.step)
    raise ConfigError(f"event at {entry.at:g} s: path needs either factor or shape")
