"""Which regions a route's requests try, in which order, and in which shares: pure arithmetic.

What `proxy.balance` decides for each request is decided here for all of them: an *order* is the
regions that one request would try, best first, and a *split* the orders that share a route.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onetrip.model.measure import Arm, MethodClass
from onetrip.model.placement import Placement, Status
from onetrip.model.topology import RegionId

SCALE = 1_000_000
"""Sum of the weights of one route; a control group of a millionth is the smallest there is."""


@dataclass(frozen=True, slots=True)
class Share:
    """One arm's part of a route's requests.

    Attributes:
        weight: of `SCALE`.
    """

    arm: Arm
    order: tuple[RegionId, ...]
    weight: int = SCALE


def order_of(
    edge: RegionId,
    wanted: RegionId | None,
    placement: Placement | None,
    permitted: Sequence[RegionId],
) -> tuple[RegionId, ...]:
    """Return the permitted regions in the order to try them; the wanted one first if permitted."""
    candidates: list[RegionId] = [edge if wanted is None else wanted]
    if placement is not None:
        candidates += placement.regions
        if placement.default is not None:
            candidates.append(placement.default)
    candidates.append(edge)
    return tuple(dict.fromkeys(r for r in [*candidates, *permitted] if r in permitted))


def split(
    edge: RegionId,
    placement: Placement | None,
    permitted: Sequence[RegionId],
    method: MethodClass,
    *,
    is_local: bool = False,
) -> list[Share]:
    """Return how a route's requests are shared out; empty when no region may run them.

    Args:
        is_local: of the route's rule: requests never go where the scores point.
    """
    shares = _local(edge, placement) if is_local else _wanted(placement, method)
    found: dict[RegionId, Share] = {}
    for arm, region, weight in shares:
        order = order_of(edge, region, placement, permitted)
        if not order or not weight:
            continue
        earlier = found.get(order[0])  # two arms in one region cannot be told apart: one wins
        if earlier is not None:
            earlier = Share(earlier.arm, earlier.order, earlier.weight + weight)
        found[order[0]] = earlier or Share(arm, order, weight)
    return list(found.values())


_Wanted = Iterable[tuple[Arm, RegionId | None, int]]


def _local(edge: RegionId, placement: Placement | None) -> _Wanted:
    default = placement.default if placement is not None else None
    return [(Arm.DEFAULT, default or edge, SCALE)]


def _wanted(placement: Placement | None, method: MethodClass) -> _Wanted:
    """Return what `place.arms` would assign, as (arm, region, weight)."""
    if placement is None:
        return [(Arm.DEFAULT, None, SCALE)]
    if not placement.regions:
        return [(Arm.DEFAULT, placement.default, SCALE)]
    chosen, left = placement.regions[0], SCALE
    if placement.status is Status.PINNED:
        held_back = round(placement.control_ratio * SCALE)
        rest = (Arm.HINT, chosen, SCALE - held_back)
        return [rest, (Arm.CONTROL, placement.default, held_back)]
    minor: list[tuple[Arm, RegionId | None, int]] = []
    if placement.explore is not None and (method is MethodClass.READ or placement.explores_writes):
        explored = round(placement.explore_ratio * SCALE)
        minor.append((Arm.EXPLORE, placement.explore, explored))
        left -= explored
    if chosen == placement.default:
        return [(Arm.DEFAULT, chosen, left), *minor]
    control = min(left, round(placement.control_ratio * SCALE))
    minor.insert(0, (Arm.CONTROL, placement.default, control))
    return [(Arm.PLACED, chosen, left - control), *minor]
