"""Which instance of a region takes a request: the less loaded of two random ones.

An instance that is new or has returned starts slowly: it takes part in a choice with the
probability of its weight, and its load counts as larger by the inverse. The first bounds its share
while nobody is loaded, the second while everybody is; weights are relative to the largest one, so
that instances which all start together share as usual.

Sources: M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 2001;
Envoy's slow start mode for the shape of the ramp.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random

from onetrip.model.measure import Target
from onetrip.proxy.pool import EndpointPool
from onetrip.proxy.settings import LEAST_WEIGHT, ProxySettings
from onetrip.timing import Clock

IsReady = Callable[[Target], bool]

NOT_READY = float("inf")
"""`Health.warm_from` of an instance that was last seen not ready."""


class Picker:
    """Picks instances for one node.

    Args:
        is_ready: whether a target can serve, by the latest probes.
    """

    def __init__(
        self,
        is_ready: IsReady,
        clock: Clock,
        rng: Random,
        settings: ProxySettings,
    ) -> None:
        self.is_ready = is_ready
        self._clock = clock
        self._random = rng.random
        self._slow_start = settings.slow_start
        self._exponent = 1 / settings.slow_start_aggression

    def pick(
        self,
        pools: list[EndpointPool],
        tried: Collection[EndpointPool],
        capacity: float,
        *,
        with_ejected: bool = False,
    ) -> EndpointPool | None:
        """Return an instance for a request; None when none of them can take it.

        Args:
            tried: instances that failed for this request already.
            capacity: requests that one instance runs at once.
            with_ejected: take an ejected instance rather than none.
        """
        is_ready = self.is_ready
        ready = [
            pool
            for pool in pools
            if pool.outstanding < capacity
            and (with_ejected or not pool.health.is_ejected)
            and is_ready(pool.target)
            and pool not in tried
            and not (pool.avoid_until and pool.avoid_until > self._clock.now())
        ]
        if self._slow_start and len(pools) > 1:
            if len(ready) != len(pools):
                self._note_unready(pools)
            if any(pool.health.warm_from for pool in ready):
                return self._pick_weighted(ready)
        count = len(ready)
        if count < 2:
            return ready[0] if ready else None
        one, two = self._two_of(count)
        first, second = ready[one], ready[two]
        return first if first.outstanding <= second.outstanding else second

    def _note_unready(self, pools: list[EndpointPool]) -> None:
        for pool in pools:
            if not self.is_ready(pool.target):
                pool.health.warm_from = NOT_READY

    def _pick_weighted(self, ready: list[EndpointPool]) -> EndpointPool:
        now = self._clock.now()
        weights = [self._weight(pool, now) for pool in ready]
        top = max(weights)
        taking_part = [
            (pool, weight / top)
            for pool, weight in zip(ready, weights, strict=True)
            if weight >= top or self._random() * top < weight
        ]
        if len(taking_part) < 2:
            return taking_part[0][0]
        one, two = self._two_of(len(taking_part))
        (first, its), (second, other) = taking_part[one], taking_part[two]
        return first if first.outstanding * other <= second.outstanding * its else second

    def _weight(self, pool: EndpointPool, now: float) -> float:
        if not pool.health.warm_from:
            return 1.0
        if pool.health.warm_from == NOT_READY:
            pool.health.warm_from = now
        age = (now - pool.health.warm_from) / self._slow_start
        if age >= 1:
            pool.health.warm_from = 0.0
            return 1.0
        return max(LEAST_WEIGHT, age**self._exponent) if age > 0 else LEAST_WEIGHT

    def _two_of(self, count: int) -> tuple[int, int]:
        """Return two different random indexes."""
        one = int(self._random() * count)
        two = int(self._random() * (count - 1))
        return one, two if two < one else two + 1
