"""What regions tell about RTTs, as rows of estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId

Rows = dict[RegionId, dict[Target, RttEstimate]]


def estimate(
    kind: TargetKind, name: str, rtt: float, state: EstimateState = EstimateState.FRESH
) -> RttEstimate:
    """Return one claim."""
    return RttEstimate(Target(kind, name), rtt, rtt, 0.001, 5, 0, 1.0, state)


def rows_of(regions: Sequence[RegionId], peers: np.ndarray, data: np.ndarray) -> Rows:
    """Return what the regions tell: about each other, and about backends `b0`, `b1`, ...

    Args:
        peers: shape (R, R), s; NaN is not told.
        data: shape (R, D), s; NaN is not told.
    """
    out: Rows = {}
    for i, region in enumerate(regions):
        told = [
            estimate(TargetKind.PEER, name, peers[i, j])
            for j, name in enumerate(regions)
            if i != j and not math.isnan(peers[i, j])
        ]
        told += [
            estimate(TargetKind.BACKEND, f"b{k}", rtt)
            for k, rtt in enumerate(data[i])
            if not math.isnan(rtt)
        ]
        out[region] = {each.target: each for each in told}
    return out
