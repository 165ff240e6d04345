"""The fleet on a virtual clock: the product's own decision code, fed by simulated traffic.

Per edge one `TrafficBook` and one `Placer`; per request one call of `place.arms.assign`. Nothing
here decides anything: this module plays the network, the clock and the nodes' glue (what
`app/scoring` and `proxy/balance` do around the same classes). Time moves in ticks of the scoring
interval, cut where the truth changes; what finished within a tick is learned at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onetrip.estimate.filters import FilterSettings
from onetrip.model.catalog import Mode, Policy
from onetrip.model.measure import Arm, Observation, RouteKey
from onetrip.model.placement import Placement, Status, TripEstimate
from onetrip.place.arms import assign
from onetrip.place.guesses import Guesses
from onetrip.probe.plan import ProbeSettings
from onetrip.simulate.nodes import ENVIRONMENT, Edge, Node
from onetrip.simulate.probing import Probes
from onetrip.simulate.timeline import Timeline
from onetrip.simulate.traffic import Draws, Ints, Requests
from onetrip.simulate.world import World

ARMS = tuple(Arm)
"""Order of the codes in `Run.arm`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The node's settings, with a node's defaults; times in s.

    Attributes:
        connect_timeout: what a request loses that meets a dead region.
        fail_time: how long an edge then leaves that region alone.
    """

    policy: Policy = field(default_factory=lambda: Policy(mode=Mode.SMART))
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    filters: FilterSettings = field(default_factory=FilterSettings)
    score_interval: float = 0.5
    sync_interval: float = 1.0
    silent_after: float = 5.0
    connect_timeout: float = 3.0
    fail_time: float = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """From `at` s on, an edge prefers another region for a route.

    Attributes:
        region: index of the region; -1 while none can serve.
        is_move: the rules moved the route; false for a failover, a return from one, and the start.
    """

    at: float
    edge: int
    route: int
    region: int
    status: Status
    reason: str
    is_move: bool


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What happened; arrays of shape (N,) follow the requests.

    Attributes:
        region: where each request ran, an index; -1 where its edge was down.
        arm: index into `ARMS`.
        latency: s, NaN where it did not run.
        changes: of every route at every edge, in time order.
        estimates: learned costs at the end, by (edge, route).
        peers: the most peers that a node probed at once.
    """

    region: Ints
    arm: Ints
    latency: npt.NDArray[np.float64]
    changes: tuple[Change, ...]
    estimates: Mapping[tuple[int, int], TripEstimate]
    peers: int


class Fleet:
    """All nodes of one simulated cluster.

    Args:
        rng: of the probes. Everything about requests was drawn before.
    """

    def __init__(
        self,
        world: World,
        line: Timeline,
        requests: Requests,
        draws: Draws,
        settings: Settings,
        rng: np.random.Generator,
    ) -> None:
        self._world = world
        self._line = line
        self._requests = requests
        self._draws = draws
        self._settings = settings
        self._index = {region: i for i, region in enumerate(world.regions)}
        self._keys = [RouteKey(ENVIRONMENT, r.name, r.method) for r in world.routes]
        self._route_of = {key: i for i, key in enumerate(self._keys)}
        self._nodes: dict[int, Node] = {}
        self._edges = [
            Edge(self._node(self._index[r]), self._index[r], world, self._keys) for r in world.edges
        ]
        self._probes = Probes(
            world, line, settings.probe, settings.filters, settings.silent_after, rng
        )
        if self._probes.choice is not None:
            for edge in self._edges:
                edge.placer.guesses = Guesses()
        self._rows: dict[int, dict[str, float]] = {}
        self._data = np.full((len(world.regions), len(world.backends)), np.nan)
        self._open: list[tuple[float, int]] = []
        self._changes: list[Change] = []
        self._next_sync = 0.0
        self._region = np.full(len(requests), -1, dtype=np.intp)
        self._arm = np.zeros(len(requests), dtype=np.intp)
        self._latency = np.full(len(requests), np.nan)

    def run(self, duration: float) -> Run:
        """Play `duration` s and return what happened."""
        last, position = 0.0, 0
        self._score(0.0, 0.0, 0)
        for start, end, is_tick in self._periods(duration):
            stop = int(np.searchsorted(self._requests.at, end))
            stretch = int(self._line.stretch(np.array([start]))[0])
            self._serve(position, stop, stretch)
            position = stop
            self._probes.run(start, end)
            if is_tick:
                self._learn(end)
                self._score(end, end - last, stretch)
                last = end
        choice = self._probes.choice
        return Run(
            self._region,
            self._arm,
            self._latency,
            tuple(self._changes),
            self._estimates(),
            choice.most if choice is not None else len(self._world.regions) - 1,
        )

    def _periods(self, duration: float) -> list[tuple[float, float, bool]]:
        """Cut the run into (start, end, whether a scoring run ends it)."""
        ticks = np.arange(1, int(duration / self._settings.score_interval) + 1)
        marks = {float(at): False for at in self._line.starts if 0 < at < duration}
        marks |= {float(at): True for at in ticks * self._settings.score_interval}
        ends = sorted(marks)
        return [(a, b, marks[b]) for a, b in zip([0.0, *ends], ends, strict=False)]

    def _node(self, region: int) -> Node:
        node = self._nodes.get(region)
        if node is None:
            node = self._nodes[region] = Node(self._world.regions[region])
        return node

    # --- requests ---------------------------------------------------------------------------

    def _serve(self, first: int, stop: int, stretch: int) -> None:
        if first == stop:
            return
        line, draws, part = self._line, self._draws, slice(first, stop)
        hop, data = line.hop[stretch].tolist(), line.data[stretch].tolist()
        alive, up = line.alive[stretch], line.up[stretch]
        is_calm = bool(alive.all())
        methods = [key.method for key in self._keys]
        local = [route.is_local for route in self._world.routes]
        columns = (
            self._requests.at[part].tolist(),
            self._requests.edge[part].tolist(),
            self._requests.route[part].tolist(),
            draws.share[part].tolist(),
            (draws.compute[part] + draws.path[part]).tolist(),
            draws.trips[part].tolist(),
            draws.hop[part].tolist(),
        )
        for i, (at, e, k, share, base, trips, queue) in enumerate(
            zip(*columns, strict=True), first
        ):
            edge = self._edges[e]
            if not is_calm and not alive[edge.own]:
                continue
            arm, wanted = (
                (Arm.DEFAULT, edge.node.region)
                if local[k]
                else assign(edge.table[k], methods[k], share)
            )
            region = self._index[wanted] if wanted is not None else -1
            latency = base
            if not is_calm:
                arm, region, lost = self._settle(edge, k, at, arm, region, up)
                if region < 0:
                    continue
                latency += lost
            for count, rtt in zip(trips, data[region], strict=True):
                latency += count * rtt
            if region != edge.own:
                latency += hop[e][region] + queue
            self._region[i], self._arm[i], self._latency[i] = region, _CODES[arm], latency
            self._open.append((at + latency, i))

    def _settle(
        self, edge: Edge, route: int, at: float, arm: Arm, wanted: int, up: npt.NDArray[np.bool_]
    ) -> tuple[Arm, int, float]:
        """Return arm, region and lost time of a request while something is down."""
        placement = edge.table[route]
        order = [wanted, *(self._index[r] for r in placement.regions)]
        lost, tried = 0.0, 0
        for region in dict.fromkeys(order):
            if region < 0 or edge.avoid_until.get(region, 0.0) > at:
                continue
            if region != edge.own and not edge.ready.get(self._world.regions[region], False):
                continue
            if up[region]:
                return (arm if region == wanted else Arm.FAILOVER), region, lost
            tried += 1
            lost += self._settings.connect_timeout
            edge.avoid_until[region] = at + lost + self._settings.fail_time
            if tried > 2:
                break
        return arm, -1, lost

    # --- learning ---------------------------------------------------------------------------

    def _learn(self, now: float) -> None:
        """File every exchange that has finished."""
        self._open.sort()
        count = 0
        for at, i in self._open:
            if at > now:
                break
            count += 1
            self._observe(i, at)
        del self._open[:count]

    def _observe(self, i: int, at: float) -> None:
        edge = self._edges[self._requests.edge[i]]
        key = self._keys[self._requests.route[i]]
        region, latency = int(self._region[i]), float(self._latency[i])
        arm = ARMS[self._arm[i]]
        name, rtts = self._world.regions[region], self._rtts(region)
        if region == edge.own:
            seen = Observation(key, name, name, arm, latency, latency, False, False, at)
            edge.node.book.observe(seen, rtts)
            return
        near = edge.node.region
        edge.node.book.observe(
            Observation(key, near, name, arm, latency, None, False, False, at), rtts
        )
        # Service time as the other region's node sees it: without the way there.
        trips = self._draws.trips[i]
        stretch = int(self._line.stretch(self._requests.at[i : i + 1])[0])
        service = float(
            self._draws.compute[i] + self._draws.path[i] + trips @ self._line.data[stretch, region]
        )
        self._node(region).book.observe(
            Observation(key, near, name, arm, None, service, False, False, at), rtts
        )

    def _rtts(self, region: int) -> dict[str, float]:
        row = self._rows.get(region)
        if row is None:
            values = self._data[region].tolist()
            row = self._rows[region] = dict(zip(self._world.backends, values, strict=True))
        return row

    # --- deciding ---------------------------------------------------------------------------

    def _score(self, now: float, elapsed: float, stretch: int) -> None:
        matrix = self._probes.matrix(now)
        self._data = matrix.backend_rtt
        self._rows.clear()
        for node in self._nodes.values():
            changed = node.relearn(self._nodes.values(), now)
            for edge in self._edges if changed else ():
                if edge.node is node:
                    for key, at in changed.items():
                        edge.placer.code_changed(key, at)
        own = {number: node.book.services(now) for number, node in self._nodes.items()}
        alive = self._line.alive[stretch]
        if now >= self._next_sync:
            self._next_sync = now + self._settings.sync_interval
            for number, node in self._nodes.items():
                if alive[number]:
                    node.shared = own[number]
                    node.changes = dict(node.book.code_changes(now))
        for number, edge in enumerate(self._edges):
            if alive[edge.own] or not edge.table:
                before = list(edge.table)
                moves = edge.decide(
                    matrix,
                    own[edge.own],
                    self._nodes.values(),
                    self._settings.policy,
                    now,
                    elapsed,
                    self._probes.down(edge.own, now),
                )
                self._note_changes(number, before, {move.key for move in moves}, now)

        self._probes.follow(now, {edge.own: edge.placer.guesses for edge in self._edges})

    def _note_changes(
        self, number: int, before: list[Placement], moved: set[RouteKey], now: float
    ) -> None:
        for k, placement in enumerate(self._edges[number].table):
            old = before[k].regions[:1] if before else None
            is_move = self._keys[k] in moved
            if placement.regions[:1] != old or is_move:
                region = self._index[placement.regions[0]] if placement.regions else -1
                row = (placement.status, placement.reason, is_move)
                self._changes.append(Change(now, number, k, region, *row))

    def _estimates(self) -> dict[tuple[int, int], TripEstimate]:
        return {
            (number, self._route_of[decision.key]): decision.trips
            for number, edge in enumerate(self._edges)
            for decision in edge.placer.decisions()
        }


_CODES = {arm: code for code, arm in enumerate(ARMS)}
