"""Which arm a request belongs to: pure arithmetic on a placement and a request's hash.

The hash is of the request id, so that a repeated attempt of one request stays in its arm. This is
the only module of `place` that the request path imports; it must not drag in numpy.
"""

from __future__ import annotations

from zlib import crc32

from onetrip.model.measure import Arm, MethodClass
from onetrip.model.placement import Placement, Status
from onetrip.model.topology import RegionId

_SCALE = 2.0**-32


def unit_hash(request_id: bytes) -> float:
    """Return a number in [0, 1) that depends on `request_id` alone."""
    return crc32(request_id) * _SCALE


def assign(placement: Placement, method: MethodClass, share: float) -> tuple[Arm, RegionId | None]:
    """Return the arm and the region wanted for a request.

    Args:
        placement: of the request's route at this edge.
        method: exploration takes only reads, unless the placement says otherwise.
        share: the request's `unit_hash`.

    Returns:
        The arm, and its region; None when the placement is unreachable.
    """
    if not placement.regions:
        return Arm.DEFAULT, placement.default
    chosen = placement.regions[0]
    if placement.status is Status.PINNED:
        if share < placement.control_ratio:
            return Arm.CONTROL, placement.default
        return Arm.HINT, chosen
    if placement.explore is not None and (method is MethodClass.READ or placement.explores_writes):
        # Taken from the top of the unit interval so that it never overlaps the control group.
        if share >= 1.0 - placement.explore_ratio:
            return Arm.EXPLORE, placement.explore
    if chosen == placement.default:
        return Arm.DEFAULT, chosen
    if share < placement.control_ratio:
        return Arm.CONTROL, placement.default
    return Arm.PLACED, chosen
