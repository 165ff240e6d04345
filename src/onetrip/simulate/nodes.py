"""The parts of a node that learn and decide, around the product's own classes.

The glue is what `app/scoring.Scorer` does with sockets and a real clock around it; keep the two
alike. (The layers forbid importing it: `app` sits above.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.catalog import EnvironmentId, Policy
from onetrip.model.measure import RouteKey, ServiceSummary
from onetrip.model.placement import Placement
from onetrip.model.topology import RegionId
from onetrip.place.defaults import EnvironmentInput
from onetrip.place.inputs import InputMaker
from onetrip.place.placer import Move, Placer, RouteInput
from onetrip.simulate.world import Bools, World

ENVIRONMENT = EnvironmentId("simulated", "production")
"""The one environment of a simulated world."""

Services = Mapping[RouteKey, list[ServiceSummary]]


class Node:
    """What a node learns from the requests that its region ran.

    Attributes:
        shared: the service times its peers last heard of.
        changes: when the code of routes changed, as its peers last heard from it.
    """

    def __init__(self, region: RegionId) -> None:
        self.region = region
        self.book = TrafficBook(region)
        self.shared: Services = {}
        self.changes: dict[RouteKey, float] = {}

    def relearn(self, peers: Iterable[Node], now: float) -> dict[RouteKey, float]:
        """Forget what older code did, wherever that was noticed; see `TrafficBook.relearn`."""
        for node in peers:
            if node is not self:
                for key, at in node.changes.items():
                    self.book.code_changed(key, at)
        return self.book.relearn(now)


class Edge:
    """What a node decides for its clients.

    Args:
        own: index of its region in the world.
        keys: route keys of the world's routes, in their order.

    Attributes:
        table: placement per route, in the world's order; what requests read.
        ready: regions with instances, and whether their node answers this one.
        avoid_until: regions left alone after a failed connect, by index.
    """

    def __init__(self, node: Node, own: int, world: World, keys: list[RouteKey]) -> None:
        self.node = node
        self.own = own
        self.table: list[Placement] = []
        self.ready: dict[RegionId, bool] = {}
        self.avoid_until: dict[int, float] = {}
        self._world = world
        self._keys = keys
        self._truth = dict(zip(keys, world.routes, strict=True))
        self._backends = tuple(world.backends)
        self._places = world.places
        self._placer = Placer(node.region)
        self._maker = InputMaker()
        self._failing: Bools | None = None

    def decide(
        self,
        matrix: RttMatrix,
        own: Services,
        peers: Iterable[Node],
        policy: Policy,
        now: float,
        elapsed: float,
        down: Bools,
    ) -> list[Move]:
        """Score once and publish the placements to `table`.

        Args:
            down: regions that do not answer this one, shape (R,).
            own: this node's own service times; those of `peers` are what they shared.
            elapsed: s since the last call.
        """
        self._note_readiness(down)
        environment = EnvironmentInput(ENVIRONMENT, policy, self._backends, self.ready)
        inputs = self._inputs(own, peers, now, max(elapsed, 1e-3))
        moves = self._placer.decide(matrix, [environment], inputs, now, now)
        for key in self._placer.stale_trials:
            self.node.book.begin_trial(key)
        found = [self._placer.snapshot.find(key) for key in self._keys]
        self.table = [placement for placement in found if placement is not None]
        return moves

    @property
    def placer(self) -> Placer:
        """The product's placer, for explanations."""
        return self._placer

    def _note_readiness(self, failing: Bools) -> None:
        if self._failing is not None and np.array_equal(failing, self._failing):
            return
        self._failing = failing.copy()
        regions = enumerate(self._world.regions)
        self.ready = {r: not failing[i] for i, r in regions if self._places[i]}

    def _inputs(
        self, own: Services, peers: Iterable[Node], now: float, elapsed: float
    ) -> list[RouteInput]:
        services = {key: list(rows) for key, rows in own.items()}
        for node in peers:
            if node is not self.node:
                for key, rows in node.shared.items():
                    services.setdefault(key, []).extend(rows)
        inputs = []
        for key in self.node.book.routes():
            route = self.node.book.get(key)
            assert route is not None
            truth = self._truth[key]
            inputs.append(
                self._maker.make(
                    key,
                    route,
                    services=services.get(key, ()),
                    is_local=truth.is_local,
                    declared=truth.trips if truth.is_declared else None,
                    now=now,
                    elapsed=elapsed,
                )
            )
        return inputs
