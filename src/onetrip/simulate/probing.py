"""Simulated probes of a whole cluster: true RTTs in, the estimates that scoring reads out.

Every measured pair has a real `RttFilter` and a schedule of its own; only the network is played.
Pairs that no decision can look at are not measured: every region measures the backends, and only
edges measure their peers. Where a node of such a cluster would choose its peers, `choosing` does so
for every node, and what the others measure goes into the coordinates. The arrays are what
`estimate.matrix.build_matrix` makes of the same estimates (a test compares the two); they are kept
up to date in place, because building 236 x 236 cells from dictionaries twice a second would be most
of a simulation.
"""

from __future__ import annotations

import heapq
from random import Random

import numpy as np

from onetrip.estimate.filters import FilterSettings, RttFilter
from onetrip.estimate.matrix import Cells, RttMatrix, complete
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId
from onetrip.place.guesses import Guesses
from onetrip.probe.peers import KEPT, limit_of
from onetrip.probe.plan import MAX_TIMEOUT, ProbeSettings, next_wait, suspicious_wait
from onetrip.simulate.choosing import PeerChoice
from onetrip.simulate.timeline import Timeline
from onetrip.simulate.world import Bools, Floats, World

FIRST_SPREAD = 0.8
"""All first probes start within this time, s, as those of a node do."""


class _Pair:
    """One measured pair: where its estimate goes, and when it is probed next."""

    __slots__ = ("column", "failures", "filter", "is_due", "is_peer", "row", "source", "target")

    def __init__(self, source: int, row: int, column: int, target: Target, s: FilterSettings):
        self.source = source
        self.row = row
        self.column = column
        self.is_peer = target.kind is TargetKind.PEER
        self.target = target
        self.filter = RttFilter(target, s)
        self.failures = 0
        self.is_due = False


class Probes:
    """The probes of every node.

    Args:
        rng: of the noise and the schedules; pairs draw in the order of their names, so the order
            of the regions does not matter.
        silent_after: s without news after which a region's row counts as stale.
    """

    def __init__(
        self,
        world: World,
        line: Timeline,
        settings: ProbeSettings,
        filters: FilterSettings,
        silent_after: float,
        rng: np.random.Generator,
    ) -> None:
        self._world = world
        self._line = line
        self._settings = settings
        self._filters = filters
        self._silent_after = silent_after
        self._rng = rng
        self._waits = Random(int(rng.integers(2**62)))
        self._pairs = self._make_pairs()
        self._edges = [world.regions.index(edge) for edge in world.edges]
        self._due: list[tuple[float, int]] = []
        self._lost: list[tuple[float, int]] = []
        size, depth = len(world.regions), len(world.backends)
        limit = limit_of(settings.peers, size - 1)
        self.choice: PeerChoice | None = None
        if limit is not None:
            self.choice = PeerChoice(world, limit, self._waits)
            self.choice.follow(0.0, np.empty((0, 0)), np.zeros(size, dtype=bool), {})
        self._last: RttMatrix | None = None
        self._begin(0.0)
        self._heard_at = np.zeros(size)
        self._peers = _Cells(size, size)
        np.fill_diagonal(self._peers.rtt, 0.0)
        np.fill_diagonal(self._peers.updated_at, np.inf)
        self._data = _Cells(size, depth)

    def down(self, own: int, now: float) -> Bools:
        """Return the regions that count as down for the node of one, shape (R,)."""
        failing = self._peers.failing[own]
        if self.choice is not None:
            failing = failing | (self._silent(now) & ~self.choice.chosen[own])
        return np.asarray(failing)

    def follow(self, now: float, wishes: dict[int, Guesses | None]) -> None:
        """Let every node choose its peers anew, where there are too many to probe all.

        Args:
            wishes: what each edge would like measured, by the index of its region.
        """
        if self.choice is None or self._last is None:
            return
        self.choice.follow(now, self._last.rtt, self._silent(now), wishes)
        self._begin(now)
        for pair in self._pairs:
            if pair.is_peer and not self._is_probed(pair):
                estimate = pair.filter.estimate(now)
                is_down = estimate.state is EstimateState.FAILING
                if is_down or (estimate.samples and now - estimate.updated_at > KEPT):
                    pair.filter, pair.failures = RttFilter(pair.target, self._filters), 0
                    self._store(pair, now)

    def run(self, start: float, end: float) -> None:
        """Play every probe of a period in which nothing true changes."""
        stretch = int(self._line.stretch(np.array([start]))[0])
        while self._lost and self._lost[0][0] < end:
            at, number = heapq.heappop(self._lost)
            self._fail(number, at)
        due: list[tuple[float, int]] = []
        while self._due and self._due[0][0] < end:
            due.append(heapq.heappop(self._due))
        noise = self._noise(len(due))
        alive = self._line.alive[stretch]
        self._heard_at[alive] = end
        self._measure_others(stretch, end)
        for (at, number), delay in zip(due, noise, strict=True):
            pair = self._pairs[number]
            pair.is_due = self._is_probed(pair)
            if not pair.is_due:
                continue
            if not alive[pair.source]:
                # A dead node probes nothing; look again when an interval has passed.
                heapq.heappush(self._due, (at + self._settings.interval, number))
            elif pair.is_peer and not alive[pair.column]:
                heapq.heappush(self._lost, (at + self._timeout(pair, at), number))
            else:
                self._succeed(number, at, self._truth(stretch, pair) + delay)

    def matrix(self, now: float) -> RttMatrix:
        """Return the cluster's RTTs as of `now`. Its arrays are views: valid until the next run."""
        silent = self._silent(now)[:, None]
        rtt, age = self._peers, self._filters.max_age
        data = self._data
        peers = Cells(rtt.rtt, (now - rtt.updated_at > age) | silent, rtt.failing)
        rows = Cells(data.rtt, (now - data.updated_at > age) | silent, data.failing)
        names = tuple(self._world.backends)
        if self.choice is not None:
            known, edges = self._world.regions, tuple(self._world.edges)
            self._last = complete(peers, rows, known, names, self._last, edges)
            return self._last
        return RttMatrix(
            regions=self._world.regions,
            backends=names,
            rtt=peers.rtt,
            is_stale=peers.is_stale,
            is_failing=peers.is_failing,
            is_predicted=np.zeros(rtt.rtt.shape, dtype=bool),
            error=np.zeros(rtt.rtt.shape),
            backend_rtt=rows.rtt,
            backend_is_stale=rows.is_stale,
            backend_is_failing=rows.is_failing,
        )

    def estimates(self, now: float) -> dict[RegionId, dict[Target, RttEstimate]]:
        """Return every estimate by the region that measured it, as nodes would share them."""
        out: dict[RegionId, dict[Target, RttEstimate]] = {}
        for pair in self._pairs:
            estimate = pair.filter.estimate(now)
            out.setdefault(self._world.regions[pair.source], {})[estimate.target] = estimate
        return out

    def _make_pairs(self) -> list[_Pair]:
        world = self._world
        index = {region: i for i, region in enumerate(world.regions)}
        pairs: list[_Pair] = []
        for row, edge in enumerate(world.edges):
            for region in sorted(world.regions):
                if region != edge:
                    target = Target(TargetKind.PEER, region)
                    pairs.append(_Pair(index[edge], row, index[region], target, self._filters))
        for region in sorted(world.regions):
            for column, name in enumerate(world.backends):
                target = Target(TargetKind.BACKEND, name)
                pairs.append(_Pair(index[region], index[region], column, target, self._filters))
        return pairs

    def _silent(self, now: float) -> Bools:
        return np.asarray(now - self._heard_at > self._silent_after)

    def _is_probed(self, pair: _Pair) -> bool:
        if self.choice is None or not pair.is_peer:
            return True
        return bool(self.choice.chosen[pair.source, pair.column])

    def _begin(self, now: float) -> None:
        """Schedule every pair that is probed from now on."""
        for number, pair in enumerate(self._pairs):
            if not pair.is_due and self._is_probed(pair):
                pair.is_due = True
                heapq.heappush(self._due, (now + FIRST_SPREAD * self._waits.random(), number))

    def _measure_others(self, stretch: int, now: float) -> None:
        """Note what nodes without clients measure of the peers that they chose."""
        if self.choice is None:
            return
        alive, edges = self._line.alive[stretch], self._edges
        truth = self._world.rtt.copy()
        truth[edges], truth[:, edges] = self._line.hop[stretch], self._line.hop[stretch].T
        probed = self.choice.chosen & alive[:, None]
        probed[edges] = False
        heard = probed & alive[None, :]
        self._peers.rtt[heard] = truth[heard]
        self._peers.updated_at[heard] = now
        self._peers.failing[probed] = ~heard[probed]

    def _noise(self, count: int) -> list[float]:
        jitter = self._world.jitter
        delay = self._rng.exponential(jitter.mean, count)
        hit = self._rng.random(count) < jitter.spike_ratio
        delay += hit * self._rng.exponential(jitter.spike, count)
        return [float(x) for x in delay]

    def _truth(self, stretch: int, pair: _Pair) -> float:
        table = self._line.hop if pair.is_peer else self._line.data
        return float(table[stretch, pair.row, pair.column])

    def _timeout(self, pair: _Pair, at: float) -> float:
        srtt = pair.filter.estimate(at).srtt
        known = 4 * srtt if srtt > 0 else 0.0  # false while NaN
        return max(self._settings.timeout, min(known, MAX_TIMEOUT))

    def _succeed(self, number: int, at: float, rtt: float) -> None:
        pair = self._pairs[number]
        pair.failures = 0
        pair.filter.record(rtt, at + rtt)
        self._store(pair, at + rtt)
        wait = next_wait(0, self._waits, self._settings)
        if pair.filter.is_suspicious:
            wait = min(wait, suspicious_wait(self._waits, self._settings))
        heapq.heappush(self._due, (at + wait, number))

    def _fail(self, number: int, at: float) -> None:
        # `at` is when its timeout had passed.
        pair = self._pairs[number]
        pair.failures += 1
        pair.filter.fail(at)
        self._store(pair, at)
        waited = self._timeout(pair, at)
        wait = next_wait(pair.failures, self._waits, self._settings)
        heapq.heappush(self._due, (max(at, at - waited + wait), number))

    def _store(self, pair: _Pair, now: float) -> None:
        estimate = pair.filter.estimate(now)
        cells = self._peers if pair.is_peer else self._data
        where = (pair.source, pair.column)
        cells.rtt[where] = estimate.rtt
        cells.failing[where] = estimate.state is EstimateState.FAILING
        cells.updated_at[where] = estimate.updated_at if estimate.samples else np.inf


class _Cells:
    """One array of times with what its masks are made of."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rtt: Floats = np.full((rows, columns), np.nan)
        self.failing: Bools = np.zeros((rows, columns), dtype=bool)
        self.updated_at: Floats = np.full((rows, columns), np.inf)
