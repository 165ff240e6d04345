"""What this node tells its peers, put together from its parts."""

from __future__ import annotations

from dataclasses import replace

from onetrip.app.discovery import Discovery
from onetrip.app.ejections import EjectionLog
from onetrip.app.releases import Releases
from onetrip.app.replication import Replicas
from onetrip.app.scoring import Scorer
from onetrip.cluster.messages import CodeChange, Report, ServiceRow
from onetrip.cluster.state import ClusterState
from onetrip.estimate.filters import RttBook
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.measure import RttEstimate
from onetrip.model.topology import RegionId
from onetrip.timing import Clock

REPORTED_ROUTES = 200
"""Routes explained to the peers, the busiest ones: explanations are for people, and a node can be
asked itself about the rest."""


class ReportMaker:
    """Makes the reports of one node.

    Args:
        region: this node's own region.
        boot: Unix time of the node's start, s; an attribute, too, set before the first report.
    """

    def __init__(
        self,
        region: RegionId,
        boot: float,
        *,
        rtts: RttBook,
        traffic: TrafficBook,
        scorer: Scorer,
        cluster: ClusterState,
        clock: Clock,
        ejections: EjectionLog,
        releases: Releases,
        replicas: Replicas,
        discovery: Discovery,
    ) -> None:
        self._region = region
        self.boot = boot
        self._rtts = rtts
        self._traffic = traffic
        self._scorer = scorer
        self._cluster = cluster
        self._clock = clock
        self._ejections = ejections
        self._releases = releases
        self._replicas = replicas
        self._discovery = discovery
        self._seq = 0

    def make(self) -> Report:
        """Return the report of this moment."""
        now = self._clock.now()
        self._seq += 1
        rows = self._ejections.as_failing(self._rtts.estimates(now).values())
        rows = self._discovery.told(rows)
        services = self._traffic.services(now).items()
        durations, evidence = self._scorer.shared(now)
        busiest = self._scorer.placer.busiest(REPORTED_ROUTES)
        return Report(
            region=self._region,
            boot=self.boot,
            seq=self._seq,
            is_draining=bool(self._scorer.draining),
            rtts=[_aged(e, now) for e in rows],
            services=[ServiceRow(key, s) for key, found in services for s in found],
            durations=durations,
            evidence=evidence,
            code_changes=[
                CodeChange(key, now - at) for key, at in self._traffic.code_changes(now).items()
            ],
            decisions=self._scorer.placer.decisions(busiest),
            what_if=self._scorer.placer.what_if(busiest),
            latencies=self._traffic.latencies(now, busiest),
            policies=list(self._cluster.policies().values()),
            resources=self._releases.digest,
            endpoints=self._replicas.rows(),
        )


def _aged(estimate: RttEstimate, now: float) -> RttEstimate:
    # On the wire `updated_at` is an age: clocks of two machines do not compare.
    return replace(estimate, updated_at=max(0.0, now - estimate.updated_at))
