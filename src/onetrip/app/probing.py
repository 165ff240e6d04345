"""What this node probes now: everything, or in a large cluster a choice that follows its needs.

The shell around `probe/peers`. After every scoring run it tells the plan what is known of distances
and which regions placements use or would use, and gives the prober what came of it. Whether a
region that is not probed lives, its node's reports tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random

from onetrip.app.readiness import PRESENT, Absence
from onetrip.app.scoring import Scorer
from onetrip.cluster.state import ClusterState
from onetrip.estimate.filters import RttBook
from onetrip.model.catalog import Catalog
from onetrip.model.measure import EstimateState, Target, TargetKind
from onetrip.model.topology import RegionId, Topology
from onetrip.observe.metrics import Metrics
from onetrip.place.guesses import Guesses
from onetrip.probe.base import ProbeSpec
from onetrip.probe.peers import KEPT, REVIEW, PeerPlan, limit_of
from onetrip.probe.runner import ProbeRunner
from onetrip.probe.specs import SpecTable, specs_for
from onetrip.timing import Clock

_Config = tuple[Topology, Catalog, int | None]


class Probing:
    """Chooses the targets of one node's prober.

    Args:
        region: this node's own region.

    Attributes:
        targets: what is probed now.
    """

    def __init__(
        self,
        region: RegionId,
        *,
        prober: ProbeRunner,
        scorer: Scorer,
        rtts: RttBook,
        cluster: ClusterState,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
    ) -> None:
        self._region = region
        self._prober = prober
        self._scorer = scorer
        self._rtts = rtts
        self._cluster = cluster
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._plan: PeerPlan | None = None
        self._limit: int | None = None
        self._config: _Config | None = None
        self._table: SpecTable | None = None
        self._chosen: frozenset[RegionId] = frozenset()
        self._hints: list[RegionId] = []
        self._pruned_at = -math.inf
        self.targets: frozenset[Target] = frozenset()
        scorer.on_run = self.follow

    def update(self, topology: Topology, catalog: Catalog, peers: int | None) -> None:
        """Take over a new configuration, and probe by it from now on.

        Args:
            peers: `probe.peers`.
        """
        hints = (project.policy.hint for project in catalog.projects.values())
        self._hints = sorted({hint for hint in hints if hint is not None})
        before, self._config = self._config, (topology, catalog, peers)
        if before is not None and _probes_like(self._config, before):
            self.follow()
            return
        self._table = SpecTable(topology, catalog, self._region)
        limit = limit_of(peers, len(self._table.remote))
        if limit != self._limit:
            self._limit = limit
            self._plan = PeerPlan(limit, self._rng) if limit is not None else None
            self._scorer.placer.guesses = Guesses() if limit is not None else None
            self._metrics.probe_peers.clear()
        self._chosen = frozenset()
        if self._plan is None:
            self._scorer.absence = PRESENT
            self._metrics.probe_peers.labels("all").set(len(self._table.remote))
            self._probe(specs_for(topology, catalog, self._region))
        else:
            self.follow()

    def follow(self) -> None:
        """Choose anew after a scoring run, where there is a choice."""
        plan, table, now = self._plan, self._table, self._clock.now()
        if plan is None or table is None:
            return
        distances = self._distances(table.remote)
        peers = {p.region: p for p in self._cluster.peers(now) if p.region in distances}
        silent = {r for r, p in peers.items() if math.isfinite(p.age) and not p.is_alive}
        used, guesses = self._wishes()
        plan.follow(now, distances, silent=silent, used=used, guesses=guesses)
        chosen = plan.chosen
        unheard = {r for r in distances if r not in peers or math.isinf(peers[r].age)}
        self._scorer.absence = Absence(frozenset(silent - chosen), frozenset(unheard - chosen))
        if chosen != self._chosen or now - self._pruned_at >= REVIEW:
            self._chosen = chosen
            self._probe(table.specs(sorted(chosen)))
        for part, regions in (
            ("near", plan.near),
            ("far", plan.far),
            ("shortlist", plan.shortlist),
        ):
            self._metrics.probe_peers.labels(part).set(len(regions))

    def is_silent(self, target: Target) -> bool:
        """Tell whether a target is a peer that is not probed and has fallen silent."""
        return target.kind is TargetKind.PEER and target.name in self._scorer.absence.silent

    def silent(self) -> frozenset[Target]:
        """Return the peers that are not probed and have fallen silent."""
        return frozenset(Target(TargetKind.PEER, r) for r in self._scorer.absence.silent)

    def _distances(self, regions: Iterable[RegionId]) -> dict[RegionId, float]:
        matrix, known = self._scorer.matrix, dict[RegionId, float]()
        if matrix is not None and self._region in matrix.regions:
            row = matrix.rtt[matrix.regions.index(self._region)].tolist()
            known = dict(zip(matrix.regions, row, strict=True))
        return {region: known.get(region, math.nan) for region in regions}

    def _wishes(self) -> tuple[Sequence[RegionId], Sequence[RegionId]]:
        placer = self._scorer.placer
        defaults = placer.snapshot.environments.values()
        unseen = sorted({p.regions[0] for p in defaults if p.regions})
        if placer.guesses is None:
            return [*self._hints, *unseen], ()
        return [*placer.guesses.used, *self._hints, *unseen], placer.guesses.named

    def _probe(self, specs: Sequence[ProbeSpec]) -> None:
        now = self._pruned_at = self._clock.now()
        self.targets = frozenset(spec.target for spec in specs)
        kept = set(self.targets)
        if self._table is not None and self._plan is not None:
            remote = self._table.remote
            kept |= {
                target
                for target, e in self._rtts.estimates(now).items()
                if target.kind is TargetKind.PEER
                and target.name in remote
                and e.state in (EstimateState.FRESH, EstimateState.STALE)
                and now - e.updated_at < KEPT
            }
        self._rtts.prune(kept)
        self._prober.set_specs(specs)


def _probes_like(new: _Config, old: _Config) -> bool:
    """Tell whether nothing differs but what placement is told to do: nobody is probed for that."""
    return new[0] is old[0] and new[2] == old[2] and new[1].serves_like(old[1])
