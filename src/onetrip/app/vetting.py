"""Takes the RTTs that peers claim, leaves out those that cannot be true, and tells about them.

What is implausible is `estimate/plausibility`'s to say. A claim that is not used counts as stale,
with the time of the fallback. A route that changed is seen by one end before the other, so an
accusation is told only once it has lasted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from onetrip.app.readiness import Rows
from onetrip.estimate.matrix import RttMatrix
from onetrip.estimate.plausibility import Rejection, judge
from onetrip.model.measure import EstimateState, RttEstimate, Target
from onetrip.model.status import Suspicion
from onetrip.model.topology import RegionId, Topology
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics

INLINE_CLAIMS = 2000
"""Claims up to which judging them takes about a millisecond; more are left to a thread."""

PAUSE = 5.0
"""Least time between two judgements of more claims than that, s; the last one holds meanwhile."""


class Vetting:
    """What one node believes of its peers' RTTs.

    Args:
        region: this node's own region.
        patience: s that an accusation must last, and be gone, before it is told.
        tell: makes an event of a name, a subject and a detail.
    """

    def __init__(
        self,
        region: RegionId,
        patience: float,
        *,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], None],
    ) -> None:
        self._region = region
        self._patience = patience
        self._metrics = metrics
        self._log = log
        self._tell = tell
        self._rejected: list[Rejection] = []
        self._judged_at = -PAUSE
        self._accused_since: dict[RegionId, float] = {}
        self._told: dict[RegionId, Suspicion] = {}
        self._accused_at: dict[RegionId, float] = {}

    def suspicions(self) -> list[Suspicion]:
        """Return the regions whose claims are not believed."""
        return [self._told[region] for region in sorted(self._told)]

    async def vet(
        self,
        rows: Rows,
        topology: Topology,
        backends: Sequence[str],
        matrix: RttMatrix | None,
        now: float,
    ) -> Rows:
        """Return the rows without what cannot be true.

        Args:
            matrix: of the last run; its coordinates are a witness.
            now: monotonic time, s.
        """
        regions = tuple(topology.regions)
        size = len(regions) * (len(regions) + len(backends))
        if size <= INLINE_CLAIMS or now - self._judged_at >= PAUSE:
            positions = [topology.regions[r].position for r in regions]
            fitted = matrix.coordinates if matrix and matrix.regions == regions else None
            arguments = (rows, self._region, regions, backends, positions, fitted)
            is_short = size <= INLINE_CLAIMS
            found = judge(*arguments) if is_short else await asyncio.to_thread(judge, *arguments)
            self._rejected, self._judged_at = found, now
            self._note(now)
        return without(rows, self._rejected)

    def _note(self, now: float) -> None:
        accused: dict[RegionId, list[Rejection]] = {}
        for each in self._rejected:
            if each.is_proven:
                accused.setdefault(each.region, []).append(each)
        for region in self._accused_since.keys() - accused.keys():
            if now - self._accused_at[region] >= self._patience:
                self._clear(region)
        for region, rejected in accused.items():
            self._accused_at[region] = now
            since = self._accused_since.setdefault(region, now)
            if region in self._told or now - since >= self._patience:
                self._accuse(region, rejected)

    def _accuse(self, region: RegionId, rejected: list[Rejection]) -> None:
        worst = min(rejected, key=lambda each: each.claimed / max(each.bound, 1e-6))
        suspicion = Suspicion(region, len(rejected), worst.target, worst.claimed, worst.bound)
        is_new = region not in self._told
        self._told[region] = suspicion
        self._metrics.cluster.claims_rejected.labels(region).set(len(rejected))
        if is_new:
            self._log.warning(
                "cluster.claim_rejected",
                region=region,
                target=str(worst.target),
                claimed=round(worst.claimed, 6),
                bound=round(worst.bound, 6),
                claims=len(rejected),
            )
            self._tell("cluster.claim_rejected", region, str(suspicion))

    def _clear(self, region: RegionId) -> None:
        del self._accused_since[region], self._accused_at[region]
        if self._told.pop(region, None) is not None:
            self._metrics.cluster.claims_rejected.remove(region)
            self._log.info("cluster.claims_believed", region=region)
            self._tell("cluster.claims_believed", region, "its RTTs are plausible again")


def without(rows: Rows, rejected: Sequence[Rejection]) -> Rows:
    """Return the rows with the fallback of each claim that is rejected."""
    if not rejected:
        return rows
    out: dict[RegionId, Mapping[Target, RttEstimate]] = dict(rows)
    for each in rejected:
        row = dict(out.get(each.region, {}))
        if (estimate := row.get(each.target)) is not None:
            row[each.target] = replace(
                estimate, rtt=each.fallback, srtt=each.fallback, state=_doubtful(estimate.state)
            )
            out[each.region] = row
    return out


def _doubtful(state: EstimateState) -> EstimateState:
    return state if state is EstimateState.FAILING else EstimateState.STALE
