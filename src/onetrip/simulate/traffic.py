"""The requests of a simulation, and the chance that each of them meets.

Requests are synthetic (Poisson arrivals per edge and route) or read from onetrip's access log.
Each request's luck (its computing time, its queues, its share of the unit interval) is drawn once
and used by every policy: common random numbers, so that policies differ by their choices alone
(Law & Kelton, "Simulation Modeling and Analysis", ch. 11).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onetrip.errors import ConfigError
from onetrip.model.topology import RegionId
from onetrip.simulate.timeline import Timeline
from onetrip.simulate.world import Floats, World

Ints = npt.NDArray[np.intp]

MAX_REQUESTS = 20_000_000
"""Requests of one run; their arrays take about 100 bytes each."""

MAX_LINE = 64 * 1024
"""Longest access line read, bytes; a longer one is no line of ours."""


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """N requests, in the order of their arrival.

    Attributes:
        at: s, ascending, shape (N,).
        edge: index into the world's edges, shape (N,).
        route: index into the world's routes, shape (N,).
    """

    at: Floats
    edge: Ints
    route: Ints

    def __len__(self) -> int:
        return int(self.at.size)


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The luck of N requests; all times s.

    Attributes:
        compute: time of the application itself, shape (N,).
        trips: round trips made, shape (N, D).
        path: delay added to all round trips to backends together, shape (N,).
        hop: delay added to the trip between edge and region, shape (N,).
        share: the request's place in [0, 1), instead of the hash of its id, shape (N,).
    """

    compute: Floats
    trips: Floats
    path: Floats
    hop: Floats
    share: Floats


def poisson(world: World, count: int, duration: float, rng: np.random.Generator) -> Requests:
    """Return `count` arrivals of a Poisson process (given their number) over `duration` s.

    Raises:
        ConfigError: a count or duration outside its range.
    """
    if not 1 <= count <= MAX_REQUESTS:
        raise ConfigError(f"requests of {count} is not in 1-{MAX_REQUESTS}")
    if not 0 < duration < math.inf:
        raise ConfigError(f"duration of {duration:g} s is not above 0")
    # Given their number, the arrivals of a Poisson process are uniform order statistics.
    at = np.sort(rng.random(count)) * duration
    edge = rng.choice(len(world.edges), count, p=_shares(world.edges.values()))
    route = rng.choice(len(world.routes), count, p=_shares(r.weight for r in world.routes))
    return Requests(at, edge.astype(np.intp), route.astype(np.intp))


def replay(lines: Iterable[bytes], world: World) -> tuple[Requests, int]:
    """Return the requests of an access log, and how many lines were left out.

    A line counts when its `route` and method are the world's, and its edge is one of the world's
    edges. A line that does not name its `edge` ran at it when its arm is default or control; any
    other line is put down to the edge that most such lines name. Lines of requests that a peer
    forwarded (`from_peer`) are left out: the edge's own log has them.

    Raises:
        ConfigError: no line counts, or more than `MAX_REQUESTS` do.
    """
    parsed = [row for line in lines if (row := _parse(line)) is not None]
    home = _usual_edge(parsed)
    edges = {region: i for i, region in enumerate(world.edges)}
    routes = {(r.name, r.method.value): i for i, r in enumerate(world.routes)}
    rows: list[tuple[float, int, int]] = []
    for at, route, method, region, arm, named in parsed:
        near = named or (region if arm in ("default", "control") else home)
        edge, kind = edges.get(RegionId(near)), routes.get((route, method))
        if edge is not None and kind is not None:
            rows.append((at, edge, kind))
    if not 1 <= len(rows) <= MAX_REQUESTS:
        raise ConfigError(
            f"{len(rows)} lines of the access log fit the world's edges and routes; "
            f"1-{MAX_REQUESTS} are needed"
        )
    rows.sort()
    table = np.array(rows, dtype=float)
    at = table[:, 0] - table[0, 0]
    edge_column, route_column = table[:, 1].astype(np.intp), table[:, 2].astype(np.intp)
    return Requests(at, edge_column, route_column), len(parsed) - len(rows)


def draw(world: World, line: Timeline, requests: Requests, rng: np.random.Generator) -> Draws:
    """Draw the luck of every request."""
    count, jitter = len(requests), world.jitter
    median = np.array([route.compute for route in world.routes])[requests.route]
    sigma = np.array([route.sigma for route in world.routes])[requests.route]
    trips = line.trips[line.stretch(requests.at), requests.route]
    varies = np.array([route.varies for route in world.routes])[requests.route]
    trips = np.where(varies[:, None], rng.poisson(trips), trips)
    total = trips.sum(axis=1)
    # A sum of n exponential delays is a gamma of shape n; the spikes are counted, then summed.
    path = rng.gamma(total, jitter.mean)
    spikes = rng.binomial(np.rint(total).astype(np.int64), jitter.spike_ratio)
    path += rng.gamma(spikes, jitter.spike)
    hop = rng.exponential(jitter.mean, count)
    hop += rng.binomial(1, jitter.spike_ratio, count) * rng.exponential(jitter.spike, count)
    return Draws(
        compute=median * np.exp(sigma * rng.standard_normal(count)),
        trips=trips,
        path=path,
        hop=hop,
        share=rng.random(count),
    )


def latencies(line: Timeline, requests: Requests, draws: Draws, region: Ints) -> Floats:
    """Return the latency of every request in the region given for it, s; NaN where region < 0."""
    stretch = line.stretch(requests.at)
    ran = np.maximum(region, 0)
    hop = line.hop[stretch, requests.edge, ran]
    data = np.einsum("nd,nd->n", draws.trips, line.data[stretch, ran])
    total = hop + np.where(hop > 0, draws.hop, 0.0) + draws.compute + draws.path + data
    return np.where(region < 0, np.nan, total)


def _shares(weights: Iterable[float]) -> Floats:
    values = np.array(list(weights), dtype=float)
    total = values.sum()
    if not total > 0:
        raise ConfigError("every weight is 0; one edge and one route need traffic")
    return np.asarray(values / total)


_Line = tuple[float, str, str, str, str, str]


def _parse(line: bytes) -> _Line | None:
    if len(line) > MAX_LINE:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.get("from_peer") is True:
        return None
    at, route, method = row.get("ts"), row.get("route"), row.get("method")
    region, arm, edge = row.get("region"), row.get("arm"), row.get("edge")
    if not isinstance(at, int | float) or not math.isfinite(at):
        return None
    if not (isinstance(route, str) and isinstance(method, str) and isinstance(region, str)):
        return None
    kind = "read" if method in ("GET", "HEAD", "OPTIONS") else "write"
    return float(at), route, kind, region, str(arm), edge if isinstance(edge, str) else ""


def _usual_edge(parsed: list[_Line]) -> str:
    counts: dict[str, int] = {}
    for row in parsed:
        if row[4] in ("default", "control"):
            counts[row[3]] = counts.get(row[3], 0) + 1
    return max(counts, key=lambda name: counts[name]) if counts else ""
