"""A world's truth over time: stretches in which nothing true changes, each with its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onetrip.errors import ConfigError
from onetrip.simulate.world import (
    BackendMove,
    Bools,
    Deploy,
    Event,
    Floats,
    PathShift,
    PathTrace,
    RegionFault,
    World,
)

MAX_STRETCHES = 20_000
"""Stretches of a timeline; a trace of a month of four-minute pings has 12,000."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The truth over time: P stretches, E edges, R regions, D backends, K routes.

    Attributes:
        starts: shape (P,), s, ascending from 0.
        hop: RTT(edge, X), s, 0 for the edge's own region, shape (P, E, R).
        data: RTT(X, backend), s, shape (P, R, D).
        up: whether a region can run the application, shape (P, R).
        alive: whether its node answers, shape (P, R).
        trips: true round trips, shape (P, K, D).
    """

    starts: Floats
    hop: Floats
    data: Floats
    up: Bools
    alive: Bools
    trips: Floats

    def stretch(self, at: Floats) -> npt.NDArray[np.intp]:
        """Return the index of the stretch that holds each time."""
        return np.searchsorted(self.starts, at, side="right") - 1

    def expected(self, world: World) -> Floats:
        """Return the true mean latency, s, inf where down, shape (P, E, K, R)."""
        compute = np.array([route.mean_compute for route in world.routes])
        delay = world.jitter.expected
        backends = np.einsum("pkd,prd->pkr", self.trips, self.data + delay)
        hops = self.hop + np.where(self.hop > 0, delay, 0.0)
        total = hops[:, :, None, :] + backends[:, None, :, :] + compute[None, None, :, None]
        return np.where(self.up[:, None, None, :], total, np.inf)


def timeline(world: World) -> Timeline:
    """Unroll the events of a world.

    Raises:
        ConfigError: they make more than `MAX_STRETCHES` stretches.
    """
    changes = sorted(_changes(world), key=lambda change: change[0])
    starts = sorted({0.0, *(at for at, _ in changes)})
    if len(starts) > MAX_STRETCHES:
        raise ConfigError(f"{len(starts)} changes exceed limit of {MAX_STRETCHES}")
    state = _State(world)
    rows = []
    position = 0
    for start in starts:
        while position < len(changes) and changes[position][0] <= start:
            state.apply(changes[position][1])
            position += 1
        rows.append(state.arrays())
    stacked = [np.stack(column) for column in zip(*rows, strict=True)]
    return Timeline(np.array(starts), *stacked)


def _changes(world: World) -> list[tuple[float, Event]]:
    out: list[tuple[float, Event]] = []
    for event in world.events:
        if isinstance(event, PathTrace):
            for number, factor in enumerate(event.shape):
                at = event.at + number * event.step
                out.append((at, PathShift(at, event.one, event.other, factor)))
        else:
            out.append((event.at, event))
    return out


class _State:
    """The truth while events are applied one by one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._index = {region: i for i, region in enumerate(world.regions)}
        self._backends = list(world.backends)
        self._edges = [self._index[edge] for edge in world.edges]
        self._rtt = world.rtt.copy()
        self._homes = [self._index[home] for home in world.backends.values()]
        self._alive = np.ones(len(world.regions), dtype=bool)
        self._names = [route.name for route in world.routes]
        self._trips = np.array([self._row(r.trips) for r in world.routes])

    def apply(self, event: Event) -> None:
        if isinstance(event, PathShift):
            one, other = self._index[event.one], self._index[event.other]
            value = self._world.rtt[one, other] * event.factor
            self._rtt[one, other] = self._rtt[other, one] = value
        elif isinstance(event, BackendMove):
            self._homes[self._backends.index(event.backend)] = self._index[event.region]
        elif isinstance(event, RegionFault):
            self._alive[self._index[event.region]] = event.is_up
        elif isinstance(event, Deploy):
            self._trips[self._names.index(event.route)] = self._row(event.trips)

    def arrays(self) -> tuple[Floats, Floats, Bools, Bools, Floats]:
        data = self._rtt[:, self._homes].copy()
        for column, home in enumerate(self._homes):
            data[home, column] = self._world.inside
        up = self._alive & self._world.places
        return self._rtt[self._edges].copy(), data, up, self._alive.copy(), self._trips.copy()

    def _row(self, trips: Mapping[str, float]) -> list[float]:
        return [trips.get(name, 0.0) for name in self._backends]
