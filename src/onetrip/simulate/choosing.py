"""Which peers each simulated node probes: every node has the plan that a real one has.

Only edges have clients, so only they name regions to measure. The peers of the other nodes matter
for the coordinates alone: what those nodes measure is taken as the truth of the moment, without
the filters and schedules that edges have.
"""

from __future__ import annotations

import math
from random import Random

import numpy as np

from onetrip.model.topology import RegionId
from onetrip.place.guesses import Guesses
from onetrip.probe.peers import PeerPlan
from onetrip.simulate.world import Bools, Floats, World

TURNS = 10
"""A node without clients looks at its plan in one of so many runs: a review is a minute away."""


class PeerChoice:
    """The plans of all nodes of a world.

    Args:
        limit: near and far peers of a node.

    Attributes:
        chosen: who probes whom, shape (R, R).
        most: the most peers that a node probed at once.
    """

    def __init__(self, world: World, limit: int, rng: Random) -> None:
        self._regions = world.regions
        self._index = {region: i for i, region in enumerate(world.regions)}
        self._edges = frozenset(self._index[edge] for edge in world.edges)
        # In the order of their names, so that the order of the regions does not matter.
        plans = {name: PeerPlan(limit, Random(rng.random())) for name in sorted(world.regions)}
        self._plans = [plans[name] for name in world.regions]
        self._turn = 0
        self.chosen: Bools = np.zeros((len(plans), len(plans)), dtype=bool)
        self.most = 0

    def follow(
        self, now: float, rtt: Floats, silent: Bools, wishes: dict[int, Guesses | None]
    ) -> None:
        """Let the plans choose anew.

        Args:
            rtt: as all nodes know it, s, NaN unknown, shape (R, R).
            silent: which nodes are not heard any more, shape (R,).
            wishes: what each edge would like measured, by the index of its region.
        """
        self._turn += 1
        gone = {self._regions[i] for i in np.flatnonzero(silent)}
        for i, plan in enumerate(self._plans):
            if silent[i] or (i not in self._edges and (self._turn + i) % TURNS and self._turn > 1):
                continue
            wish = wishes.get(i)
            used, named = (wish.used, wish.named) if wish is not None else ((), ())
            plan.follow(now, self._row(rtt, i), silent=gone, used=used, guesses=named)
            columns = [self._index[region] for region in plan.chosen]
            self.chosen[i] = False
            self.chosen[i, columns] = True
            self.most = max(self.most, len(columns))

    def _row(self, rtt: Floats, own: int) -> dict[RegionId, float]:
        known = rtt[own].tolist() if rtt.size else [math.nan] * len(self._regions)
        row = dict(zip(self._regions, known, strict=True))
        del row[self._regions[own]]
        return row
