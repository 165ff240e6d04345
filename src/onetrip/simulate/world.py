"""The truth a simulation runs in: regions, RTTs, backends, routes, and what changes when.

Decisions never see this. They see what simulated probes and requests measured; a policy is then
judged against the truth. RTTs between two regions are the same in both directions. `timeline`
turns a world into arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onetrip.errors import ConfigError
from onetrip.model.measure import MethodClass
from onetrip.model.topology import RegionId

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAX_REGIONS = 1000
"""Regions of a matrix: three times the largest network of points of presence."""

MAX_RTT = 60.0
"""Largest RTT taken, s; probes give up long before."""

MAX_TRIPS = 1000.0
"""Most round trips of a route to one backend; real routes make 0 to about 50."""


@dataclass(frozen=True, slots=True)
class Jitter:
    """What is added to each round trip of a probe or a request, s.

    Attributes:
        mean: of the exponential part. Measured mean deviations are 0.4 ms between clouds and
            0.6 ms on the public Internet (AWS and multi-cloud pings of 2022, WonderProxy 2020).
        spike_ratio: share of round trips that meet a queue or a lost packet.
        spike: mean of the exponential delay that these see.
    """

    mean: float = 0.0004
    spike_ratio: float = 0.001
    spike: float = 0.050

    @property
    def expected(self) -> float:
        """Mean delay added to one round trip, s."""
        return self.mean + self.spike_ratio * self.spike


@dataclass(frozen=True, slots=True)
class RouteTruth:
    """One route of the simulated application.

    Attributes:
        trips: true sequential round trips by backend name; an absent backend counts as 0.
        compute: median time of the application itself, s.
        sigma: of the logarithm of that time (lognormal).
        weight: share of the traffic, relative to the other routes.
        varies: each request draws its round trips from a Poisson distribution of that mean.
        is_declared: the owner declared the round trips; otherwise they are learned.
    """

    name: str
    trips: Mapping[str, float]
    compute: float = 0.004
    sigma: float = 0.3
    weight: float = 1.0
    method: MethodClass = MethodClass.READ
    varies: bool = False
    is_local: bool = False
    is_declared: bool = False

    @property
    def mean_compute(self) -> float:
        """Mean time of the application itself, s."""
        return self.compute * math.exp(self.sigma**2 / 2)


@dataclass(frozen=True, slots=True)
class PathShift:
    """From `at` s on, the RTT between two regions is `factor` times its first value."""

    at: float
    one: RegionId
    other: RegionId
    factor: float


@dataclass(frozen=True, slots=True)
class PathTrace:
    """From `at` s on, the RTT between two regions follows a measured shape.

    Attributes:
        shape: factors on the first value: a trace divided by its own median.
        step: time between two of them, s. The last one stays.
    """

    at: float
    one: RegionId
    other: RegionId
    shape: tuple[float, ...]
    step: float


@dataclass(frozen=True, slots=True)
class BackendMove:
    """At `at` s, the backend moves to another region under the same name."""

    at: float
    backend: str
    region: RegionId


@dataclass(frozen=True, slots=True)
class RegionFault:
    """At `at` s, a region's node and instances go silent, or come back. Backends live on."""

    at: float
    region: RegionId
    is_up: bool = False


@dataclass(frozen=True, slots=True)
class Deploy:
    """At `at` s, a route makes other round trips: new code runs everywhere at once."""

    at: float
    route: str
    trips: Mapping[str, float]


Event = PathShift | PathTrace | BackendMove | RegionFault | Deploy


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything that is true at the start, and what will happen.

    Attributes:
        rtt: shape (R, R), s, symmetric, zero diagonal.
        backends: home region by name.
        edges: regions whose nodes have clients, each with its relative share of them.
        instances: regions that can run the application; empty means all.
        inside: RTT to a backend inside its own region, s. IBM measured 0.1 ms within a zone and
            1.5 ms between the zones of a region.

    Raises:
        ConfigError: a name that is unknown, or a value outside its range.
    """

    regions: tuple[RegionId, ...]
    rtt: Floats
    backends: Mapping[str, RegionId]
    routes: tuple[RouteTruth, ...]
    edges: Mapping[RegionId, float]
    instances: frozenset[RegionId] = frozenset()
    events: tuple[Event, ...] = ()
    jitter: Jitter = field(default_factory=Jitter)
    inside: float = 0.0005

    def __post_init__(self) -> None:
        check_matrix(self.regions, self.rtt)
        for name, known in (("edges", self.edges), ("instances", self.instances)):
            for region in known:
                self._check_region(name, region)
        for home in self.backends.values():
            self._check_region("backends", home)
        if not self.edges or not self.routes:
            raise ConfigError("a world needs an edge and a route")
        for route in self.routes:
            self._check_trips(route.name, route.trips)
            _check_range(f"compute of {route.name}", route.compute, 0.0, 60.0)
            _check_range(f"sigma of {route.name}", route.sigma, 0.0, 3.0)
            _check_range(f"weight of {route.name}", route.weight, 0.0, 1e9)
        for share in self.edges.values():
            _check_range("weight of an edge", share, 0.0, 1e9)
        for event in self.events:
            self._check_event(event)

    @property
    def places(self) -> Bools:
        """Which regions can run the application, shape (R,)."""
        return np.array([not self.instances or r in self.instances for r in self.regions])

    def _check_region(self, name: str, region: RegionId) -> None:
        if region not in self.regions:
            raise ConfigError(f"{name} name region {region!r}, which the matrix does not hold")

    def _check_trips(self, route: str, trips: Mapping[str, float]) -> None:
        for backend, count in trips.items():
            if backend not in self.backends:
                raise ConfigError(f"trips of {route} name the unknown backend {backend!r}")
            _check_range(f"trips of {route} to {backend}", count, 0.0, MAX_TRIPS)

    def _check_event(self, event: Event) -> None:
        _check_range("at of an event", event.at, 0.0, 1e8)
        if isinstance(event, PathShift | PathTrace):
            self._check_region("events", event.one)
            self._check_region("events", event.other)
            if event.one == event.other:
                raise ConfigError(f"a path is between two regions, not {event.one!r} and itself")
            factors = event.shape if isinstance(event, PathTrace) else (event.factor,)
            for factor in factors:
                _check_range("factor of an event", factor, 0.01, 100.0)
            if isinstance(event, PathTrace):
                _check_range("step of a trace", event.step, 0.001, 86_400.0)
        elif isinstance(event, BackendMove | RegionFault):
            self._check_region("events", event.region)
            if isinstance(event, BackendMove) and event.backend not in self.backends:
                raise ConfigError(f"events name the unknown backend {event.backend!r}")
        elif event.route not in {route.name for route in self.routes}:
            raise ConfigError(f"events name the unknown route {event.route!r}")
        else:
            self._check_trips(event.route, event.trips)


def check_matrix(regions: Sequence[RegionId], rtt: Floats) -> None:
    """Refuse RTTs (s) that are no matrix of `regions`.

    Raises:
        ConfigError: wrong shape, a name twice, a value out of range, or not symmetric.
    """
    if rtt.shape != (len(regions), len(regions)) or not 1 <= len(regions) <= MAX_REGIONS:
        raise ConfigError(f"matrix of shape {rtt.shape} does not fit {len(regions)} regions")
    if len(set(regions)) != len(regions):
        raise ConfigError("matrix names a region twice")
    if not np.all((rtt >= 0) & (rtt <= MAX_RTT)):  # also refuses NaN
        raise ConfigError(f"matrix holds an RTT that is not in 0-{MAX_RTT:g} s")
    if np.any(np.diagonal(rtt) != 0) or not np.allclose(rtt, rtt.T):
        raise ConfigError("matrix is not symmetric with a zero diagonal")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name} of {value:g} is not in {least:g}-{most:g}")
