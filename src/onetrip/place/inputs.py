"""Traffic to the placer's inputs: one maker for the node and the simulator, so that they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onetrip.estimate.sequential import compare
from onetrip.estimate.traffic import RouteTraffic
from onetrip.model.measure import Arm, RouteKey, ServiceSummary, TripEvidence
from onetrip.model.placement import Saving
from onetrip.model.topology import RegionId
from onetrip.place.placer import RouteInput

RATE_SMOOTHING = 0.2
"""Weight of the newest run in a route's request rate."""


class InputMaker:
    """Makes the inputs of one edge, run after run; remembers the request rates between them."""

    def __init__(self) -> None:
        self._rates: dict[RouteKey, tuple[int, float]] = {}

    def make(
        self,
        key: RouteKey,
        route: RouteTraffic,
        *,
        services: Iterable[ServiceSummary],
        evidence: Iterable[TripEvidence] = (),
        is_local: bool = False,
        declared: Mapping[str, float] | None = None,
        deny: frozenset[RegionId] = frozenset(),
        now: float,
        elapsed: float,
    ) -> RouteInput:
        """Return the input of one route.

        Args:
            route: its traffic at this edge.
            services: measured service times of all regions.
            evidence: round trips told by other sources.
            declared: round trips by backend name, or None to learn them.
            deny: regions it must never run in, beside the policy's.
            elapsed: s since the last run, > 0.
        """
        return RouteInput(
            key=key,
            is_local=is_local,
            declared=declared,
            services=tuple(services),
            saving=_saving(route),
            requests=route.requests,
            explored=route.explored,
            upcoming=self._rate(key, route.requests, elapsed) * elapsed,
            age=now - route.first_at,
            evidence=tuple(evidence),
            deny=deny,
        )

    def keep(self, keys: Iterable[RouteKey]) -> None:
        """Forget the rates of every route that is not among `keys`."""
        kept = set(keys)
        for key in [k for k in self._rates if k not in kept]:
            del self._rates[key]

    def _rate(self, key: RouteKey, requests: int, elapsed: float) -> float:
        before, rate = self._rates.get(key, (requests, 0.0))
        rate += RATE_SMOOTHING * ((requests - before) / elapsed - rate)
        self._rates[key] = (requests, rate)
        return rate


def _saving(route: RouteTraffic) -> Saving | None:
    if Arm.PLACED not in route.trial and Arm.CONTROL not in route.trial:
        return None
    return compare(route.trial.moments(Arm.CONTROL), route.trial.moments(Arm.PLACED))
