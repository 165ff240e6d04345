"""The record of where requests with residency rules were sent, for those who have to show it.

One line for each decision: an attempt that was sent to a region, or a refusal because no permitted
region could serve. It is made where the decision is, so failover, retries and the second attempt of
a hedged request each have their own, and so has the node that a request is forwarded to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrip.errors import OnetripError
from onetrip.model.catalog import Catalog, EnvironmentId
from onetrip.model.topology import RegionId
from onetrip.observe.logs import AccessSink
from onetrip.observe.metrics import Metrics
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.proxy.balance import Choice
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.router import Match

SENT, REFUSED = "proxy.residency_kept", "proxy.residency_refused"
"""Events of the two kinds of line."""


class ResidencyLog:
    """Writes the lines of one data plane.

    Args:
        region: of this node.
    """

    def __init__(self, sink: AccessSink, region: RegionId, clock: Clock, metrics: Metrics) -> None:
        self._sink = sink
        self._dropped = metrics.residency_log_dropped
        self._region = region
        self._clock = clock
        self._denied: dict[EnvironmentId, frozenset[RegionId]] = {}

    def update(self, catalog: Catalog) -> None:
        """Take over the rules of projects; those of routes come with each request."""
        self._denied = {}
        for project in catalog.projects.values():
            policy = project.policy
            if not (policy.allow or policy.deny):
                continue
            for environment in project.sites():
                left_out = {i.region for i in environment.instances if not policy.permits(i.region)}
                self._denied[environment.site] = policy.deny | left_out

    def publish(self) -> None:
        """Bring the metric of dropped lines up to date."""
        self._dropped.set(self._sink.dropped)

    def sent(self, record: Record, match: Match, choice: Choice) -> None:
        """Write that an attempt goes to a region, where the request has rules."""
        denied = self._rules(match)
        if denied is not None:
            line = self._line(SENT, record, match, denied)
            self._sink.write(line | {"region": choice.region, "arm": choice.arm.value})

    def refused(self, record: Record, match: Match, error: OnetripError) -> None:
        """Write that a request is refused, where it has rules."""
        denied = self._rules(match)
        if denied is not None:
            line = self._line(REFUSED, record, match, denied)
            self._sink.write(line | {"error": error.kind.value, "reason": str(error)})

    def _rules(self, match: Match) -> frozenset[RegionId] | None:
        own = match.environment.denied(match.rule)
        of_project = self._denied.get(match.environment.site)
        if of_project is None:
            return own or None
        return own | of_project

    def _line(
        self, event: str, record: Record, match: Match, denied: frozenset[RegionId]
    ) -> dict[str, Any]:
        return {
            "ts": round(self._clock.wall(), 3),
            "event": event,
            "request_id": record.request_id.decode("latin-1"),
            "project": match.environment.id.project,
            "environment": match.environment.id.environment,
            "deployment": match.environment.deployment or None,
            "route": match.key.route,
            "method": record.method.decode("latin-1"),
            "edge": record.edge,
            "node": self._region,
            "attempt": record.attempts,
            "denied": sorted(denied),
        }
