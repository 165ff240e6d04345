"""A synthetic application behind a relay: closed-loop clients, routes of known trips, background.

Each client sends one request after another, at once; a request is compute, then its trips one
after the other. The relay's windows end on whole seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated. Times in s.

    Attributes:
        trips: mean trips a request, by route.
        concurrency: clients, each with one request at a time.
        rtt: of one trip.
        compute: mean of the time before, between and after the trips of a request.
        think: mean pause of a client between two requests.
        rest: (n, m): in the last n of every m seconds no request begins.
        background: other trips, mean a second.
        burst, period: other trips, all in one second of each period.
    """

    trips: Mapping[str, int]
    concurrency: int
    rtt: float = 0.020
    compute: float = 0.010
    think: float = 0.0
    rest: tuple[int, int] = (0, 1)
    background: float = 0.0
    burst: int = 0
    period: int = 30
    seed: int = 1
    spread: float = 0.1
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One request that ran."""

    route: str
    started_at: float
    ended_at: float
    answers: tuple[float, ...]
    """When each of its trips was answered."""


def requests(world: World, start: float, duration: float) -> Iterator[Request]:
    """Yield the requests that end within `duration`, in the order of their ends."""
    rng = Random(world.seed)
    routes = list(world.trips)
    weights = [world.weights.get(route, 1.0) for route in routes]
    running: list[tuple[float, int, Request]] = []

    def begin(client: int, at: float) -> None:
        resting, period = world.rest
        if at % period >= period - resting:
            at += period - at % period + rng.random()
        route = rng.choices(routes, weights)[0]
        found = _run(world, rng, route, at)
        heapq.heappush(running, (found.ended_at, client, found))

    for client in range(world.concurrency):
        begin(client, start + rng.random() * 0.1)
    while running and running[0][0] < start + duration:
        ended_at, client, found = heapq.heappop(running)
        yield found
        begin(client, ended_at + (rng.expovariate(1 / world.think) if world.think else 0.0))


def _run(world: World, rng: Random, route: str, at: float) -> Request:
    count = world.trips[route]
    now, answers = at, []
    for _ in range(count):
        now += world.rtt * (1 + world.spread * rng.random())
        now += world.compute * rng.expovariate(1.0) / (count + 1)
        answers.append(now)
    now += world.compute * rng.expovariate(1.0) / (count + 1)
    return Request(route, at, now, tuple(answers))


def other_trips(world: World, second: int, rng: Random) -> int:
    """Return the trips of background work in one second."""
    count = world.burst if world.burst and second % world.period == 7 else 0
    gap = rng.expovariate(world.background) if world.background else 2.0
    while gap < 1.0:
        count += 1
        gap += rng.expovariate(world.background)
    return count
