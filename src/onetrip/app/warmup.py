"""What a successor waits for before it serves: what the placements that it took over rest on.

Its predecessor serves meanwhile, so waiting costs nobody anything; but in a cluster of hundreds of
regions somebody is always away, and not every RTT is known within seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from onetrip.app.scoring import Scorer
from onetrip.cluster.state import ClusterState
from onetrip.estimate.filters import RttBook
from onetrip.model.measure import Target, TargetKind
from onetrip.model.topology import RegionId
from onetrip.timing import Clock

WARM_UP = 3.0
"""Longest time a successor measures before it serves, s."""

LOOK = 0.02
"""Seconds between two looks."""


async def warm_up(
    scorer: Scorer,
    rtts: RttBook,
    cluster: ClusterState,
    targets: Callable[[], Collection[Target]],
    clock: Clock,
) -> None:
    """Wait for the RTTs to where requests are placed, and for the reports from there; then score.

    Args:
        targets: what is probed: nothing else is waited for.
    """
    deadline = clock.now() + WARM_UP
    while clock.now() < deadline:
        placed = {s.region for s in scorer.placer.states().values() if s.region is not None}
        known = rtts.estimates(clock.now()).keys()
        heard = {peer.region for peer in cluster.peers(clock.now()) if math.isfinite(peer.age)}
        wanted = _needed(scorer, placed) & frozenset(targets())
        if placed <= heard | {scorer.placer.snapshot.edge} and wanted <= known:
            break
        await clock.sleep(LOOK)
    await scorer.run_once()


def _needed(scorer: Scorer, placed: Collection[RegionId]) -> frozenset[Target]:
    backends = {
        backend
        for key in scorer.placer.states()
        if (project := scorer.catalog.projects.get(key.environment.project)) is not None
        and (environment := project.environments.get(key.environment.environment)) is not None
        for backend in environment.bindings.values()
    }
    found = {Target(TargetKind.PEER, region) for region in placed}
    return frozenset(found | {Target(TargetKind.BACKEND, name) for name in backends})
