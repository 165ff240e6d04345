"""Other ways to choose a region, on the same requests and the same luck, and the oracle.

Every policy returns where each request runs, as an index into the world's regions; -1 where its
edge, or every region, was down. None of them pays for finding out that a region is down: that
flatters all but onetrip's own run.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np

from onetrip.simulate.timeline import Timeline
from onetrip.simulate.traffic import Draws, Ints, Requests
from onetrip.simulate.world import Bools, Floats, World

EWMA_DECAY = 10.0
"""Time constant of the peak EWMA, s: the default of Finagle and of linkerd."""

EWMA_START = 0.030
"""Latency assumed of a region that was never tried, s: linkerd's default RTT."""


class Judge:
    """The choices of the policies in one world.

    Args:
        rng: of the random pairs of P2C.
    """

    def __init__(
        self,
        world: World,
        line: Timeline,
        requests: Requests,
        draws: Draws,
        rng: np.random.Generator,
    ) -> None:
        self._world = world
        self._line = line
        self._requests = requests
        self._draws = draws
        self._rng = rng
        self._index = {region: i for i, region in enumerate(world.regions)}
        self._own = np.array([self._index[edge] for edge in world.edges])
        self._stretch = line.stretch(requests.at)
        self.expected = line.expected(world)

    def policies(self) -> dict[str, Callable[[], Ints]]:
        """Return the choice of every policy by its name, the oracle last."""
        return {
            "edge execution": self.edge,
            "static primary": self.primary,
            "round robin": self.round_robin,
            "p2c peak-ewma": self.peak_ewma,
            "single best region": self.single_best,
            "oracle": self.oracle,
        }

    def edge(self) -> Ints:
        """Run at the edge, or in the nearest region that can run."""
        near = np.where(self._line.up[:, None, :], self._line.hop, np.inf).argmin(axis=2)
        return self._of_edge(near)

    def primary(self) -> Ints:
        """Run everything where the first backend was at the start, or nearest to that."""
        home = self._index[next(iter(self._world.backends.values()), self._world.regions[0])]
        near = np.where(self._line.up, self._world.rtt[home][None, :], np.inf).argmin(axis=1)
        return self._served(near[self._stretch])

    def round_robin(self) -> Ints:
        """Take the regions that can run in turn, at each edge."""
        order = sorted(range(len(self._world.regions)), key=lambda i: self._world.regions[i])
        chosen = np.full(len(self._requests), -1, dtype=np.intp)
        for edge in range(len(self._world.edges)):
            mine = np.flatnonzero(self._requests.edge == edge)
            for stretch in np.unique(self._stretch[mine]):
                up = np.array([i for i in order if self._line.up[stretch, i]])
                part = mine[self._stretch[mine] == stretch]
                if up.size:
                    chosen[part] = up[np.arange(part.size) % up.size]
        return self._served(chosen)

    def single_best(self) -> Ints:
        """Run everything in the region that is best for the whole project, knowing the truth."""
        weights = np.zeros(self.expected.shape[1:3])
        np.add.at(weights, (self._requests.edge, self._requests.route), 1.0)
        total = np.einsum("pekr,ek->pr", np.nan_to_num(self.expected, posinf=1e9), weights)
        return self._served(total.argmin(axis=1)[self._stretch])

    def oracle(self) -> Ints:
        """Run each edge's each route in its best region, knowing the truth."""
        best = self.expected.argmin(axis=3)
        return self._served(best[self._stretch, self._requests.edge, self._requests.route])

    def peak_ewma(self) -> Ints:
        """Power of two choices on a peak-sensitive latency average, per edge.

        Source: the cost `ewma x (outstanding + 1)` and the peak EWMA of Finagle's
        `PeakEwma` load metric, also linkerd's; M. Mitzenmacher, IEEE TPDS 2001, for the choice.
        """
        order = sorted(range(len(self._world.regions)), key=lambda i: self._world.regions[i])
        balancers = [_PeakEwma(order) for _ in self._world.edges]
        data, draws, requests = self._line.data, self._draws, self._requests
        hop = self._line.hop
        picks = self._rng.random((len(requests), 2)).tolist()
        base = (draws.compute + draws.path).tolist()
        chosen = np.full(len(requests), -1, dtype=np.intp)
        for i, (at, e, stretch) in enumerate(
            zip(requests.at.tolist(), requests.edge.tolist(), self._stretch.tolist(), strict=True)
        ):
            balancer = balancers[e]
            region = balancer.choose(at, picks[i], self._line.up[stretch])
            latency = base[i] + float(draws.trips[i] @ data[stretch, region])
            if region != self._own[e]:
                latency += hop[stretch, e, region] + draws.hop[i]
            balancer.started(region, at + latency, latency)
            chosen[i] = region
        return self._served(chosen)

    def _of_edge(self, table: np.ndarray) -> Ints:
        return self._served(table[self._stretch, self._requests.edge])

    def _served(self, region: np.ndarray) -> Ints:
        alive = self._line.alive[self._stretch, self._own[self._requests.edge]]
        can_run = np.asarray(self._line.up.any(axis=1))[self._stretch]
        return np.where(alive & can_run, region, -1).astype(np.intp)


class _PeakEwma:
    """One edge's balancer."""

    def __init__(self, order: list[int]) -> None:
        self._order = order
        self._cost = dict.fromkeys(order, EWMA_START)
        self._told_at = dict.fromkeys(order, 0.0)
        self._busy = dict.fromkeys(order, 0)
        self._open: list[tuple[float, int, float]] = []

    def choose(self, at: float, pick: list[float], up: Bools) -> int:
        while self._open and self._open[0][0] <= at:
            self._finish(*heapq.heappop(self._open))
        order = [r for r in self._order if up.item(r)] or self._order
        first = int(pick[0] * len(order))
        second = int(pick[1] * (len(order) - 1)) if len(order) > 1 else 0
        second += second >= first and len(order) > 1
        one, other = order[first], order[second]
        return one if self._load(one) <= self._load(other) else other

    def started(self, region: int, ends_at: float, latency: float) -> None:
        self._busy[region] += 1
        heapq.heappush(self._open, (ends_at, region, latency))

    def _load(self, region: int) -> float:
        return self._cost[region] * (self._busy[region] + 1)

    def _finish(self, at: float, region: int, latency: float) -> None:
        self._busy[region] -= 1
        cost = self._cost[region]
        weight = math.exp(-(at - self._told_at[region]) / EWMA_DECAY)
        self._told_at[region] = at
        # Peaks are taken at once and forgotten slowly.
        self._cost[region] = max(latency, weight * cost + (1 - weight) * latency)


def best_latency(expected: Floats) -> Floats:
    """Return the least true mean latency, s, shape (P, E, K)."""
    return np.asarray(expected.min(axis=3))
