"""What is told about claims that are not believed, and when."""

from __future__ import annotations

import numpy as np

from onetrip.app import vetting
from onetrip.app.vetting import Vetting
from onetrip.model.measure import EstimateState, Target, TargetKind
from onetrip.model.status import Suspicion
from onetrip.model.topology import Region, RegionId, Topology
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.claims import Rows, rows_of

DEN, BOM, FRA = REGIONS = [RegionId(name) for name in ("den", "bom", "fra")]
TOPOLOGY = Topology({name: Region(name, name) for name in REGIONS})
RTT = np.array([[0.0, 0.229, 0.136], [0.229, 0.0, 0.117], [0.136, 0.117, 0.0]])
DB = Target(TargetKind.BACKEND, "b0")


def told(fra: float = 0.1175) -> Rows:
    return rows_of(REGIONS, RTT, np.array([[0.2295], [0.0005], [fra]]))


class Told:
    """A vetting and what it told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.metrics = Metrics()
        self.vetting = Vetting(
            DEN,
            4.0,
            metrics=self.metrics,
            log=silent_log(),
            tell=lambda *event: self.events.append(event),
        )

    async def at(self, now: float, rows: Rows) -> Rows:
        """Vet the rows at a time, s."""
        return await self.vetting.vet(rows, TOPOLOGY, ["b0"], None, now)

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.events]

    def rejected(self) -> dict[str, float]:
        samples = self.metrics.cluster.claims_rejected.collect()[0].samples
        return {sample.labels["region"]: sample.value for sample in samples}


async def test_a_plausible_row_is_left_as_it_is() -> None:
    parts, rows = Told(), told()
    assert await parts.at(0.0, rows) is rows
    assert parts.vetting.suspicions() == []


async def test_a_lie_is_not_used_from_the_first_moment() -> None:
    parts, rows = Told(), told(fra=0.001)
    believed = await parts.at(0.0, rows)
    assert believed[FRA][DB].rtt == 0.136 + 0.2295
    assert believed[FRA][DB].state is EstimateState.STALE
    assert believed[DEN] is rows[DEN]
    assert rows[FRA][DB].rtt == 0.001  # what came is kept as it came
    assert parts.events == []


async def test_a_lie_that_lasts_is_told_once() -> None:
    parts = Told()
    for now in range(20):
        await parts.at(float(now), told(fra=0.001))
    assert parts.names == ["cluster.claim_rejected"]
    assert parts.events[0][1] == "fra"
    assert parts.events[0][2] == (
        "its RTT of 1.0 ms to backend:b0 cannot be true: under 70.8 ms by what other regions "
        "measured"
    )
    (suspicion,) = parts.vetting.suspicions()
    assert (suspicion.region, suspicion.claims, suspicion.target) == (FRA, 1, DB)
    assert parts.rejected() == {"fra": 1.0}


async def test_a_lie_that_comes_and_goes_is_not_told_each_time() -> None:
    parts = Told()
    for now in range(40):
        await parts.at(float(now), told(fra=0.001 if now % 3 else 0.1175))
    assert parts.names == ["cluster.claim_rejected"]


async def test_a_change_that_one_end_sees_first_is_no_lie() -> None:
    parts = Told()
    for now in (0.0, 1.0, 2.0, 3.0):
        await parts.at(now, told(fra=0.001))
    for now in (4.0, 9.0, 10.0):
        await parts.at(now, told())
    assert parts.events == []


async def test_who_tells_the_truth_again_is_believed_again() -> None:
    parts = Told()
    for now in range(10):
        await parts.at(float(now), told(fra=0.001))
    for now in range(10, 20):
        await parts.at(float(now), told())
    assert parts.names == ["cluster.claim_rejected", "cluster.claims_believed"]
    assert parts.vetting.suspicions() == []
    assert parts.rejected() == {}


async def test_large_clusters_are_judged_now_and_then(monkeypatch) -> None:
    monkeypatch.setattr(vetting, "INLINE_CLAIMS", 0)
    parts = Told()
    assert (await parts.at(0.0, told(fra=0.001)))[FRA][DB].rtt > 0.3
    # The last judgement holds until the next one.
    assert (await parts.at(1.0, told()))[FRA][DB].rtt > 0.3
    assert (await parts.at(vetting.PAUSE, told()))[FRA][DB].rtt == 0.1175


def test_a_suspicion_says_which_side_is_wrong() -> None:
    peer = Target(TargetKind.PEER, BOM)
    assert str(Suspicion(FRA, 3, peer, 0.9, 0.3)) == (
        "its RTT of 900.0 ms to peer:bom cannot be true: over 300.0 ms by what other regions "
        "measured (3 such claims)"
    )
