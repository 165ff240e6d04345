"""Which endpoint of a backend with replicas a read uses: the nearest one that answers.

An application that reads from the nearest endpoint sees, in each region, the least RTT over the
primary and the replicas. The matrix gets a column of those for each such backend; scores then read
that column for routes that only read, and the primary's for all others. Service times are filed
with the same RTT (`nearest_rtt`), so that the round trips learned from them are those that the
scores multiply.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onetrip.estimate.matrix import Column, RttMatrix
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind


def nearest_column(backend: str, *outside: str) -> str:
    """Return the name of the column of a backend's nearest endpoint, outside of some regions."""
    where = f"nearest outside {', '.join(outside)}" if outside else "nearest"
    return f"{backend} ({where})"


def add_nearest(matrix: RttMatrix, groups: Mapping[str, Sequence[str]]) -> RttMatrix:
    """Return the matrix with a column for each group: the RTTs to its nearest endpoint.

    Endpoints that fail are used only where every known one does. `served_by` tells which endpoint
    each region has; the first one where no RTT is known.

    Args:
        groups: endpoints by the name of their column, each a column of the matrix.
    """
    rows = np.arange(len(matrix.regions))
    place = {name: column for column, name in enumerate(matrix.backends)}
    added = {}
    for name, endpoints in groups.items():
        columns = [place[endpoint] for endpoint in endpoints]
        rtt = matrix.backend_rtt[:, columns]
        order = np.where(np.isnan(rtt), np.inf, rtt)
        order = order + np.where(matrix.backend_is_failing[:, columns], _LAST, 0.0)
        picks = np.argmin(order, axis=1)
        chosen = np.array(columns)[picks]
        added[name] = Column(
            matrix.backend_rtt[rows, chosen],
            matrix.backend_is_stale[rows, chosen],
            matrix.backend_is_failing[rows, chosen],
            served_by=tuple(endpoints[int(p)] for p in picks),
        )
    return matrix.with_columns(added)


def move_primaries(matrix: RttMatrix, moved: Mapping[str, str]) -> RttMatrix:
    """Return the matrix with the RTTs to another endpoint in the column of a backend.

    Args:
        moved: the endpoint that is the primary now, by backend, each a column of the matrix.
    """
    if not moved:
        return matrix
    source = list(range(len(matrix.backends)))
    for backend, endpoint in moved.items():
        source[matrix.backends.index(backend)] = matrix.backends.index(endpoint)
    named = {backend: (endpoint,) * len(matrix.regions) for backend, endpoint in moved.items()}
    return replace(
        matrix,
        backend_rtt=matrix.backend_rtt[:, source],
        backend_is_stale=matrix.backend_is_stale[:, source],
        backend_is_failing=matrix.backend_is_failing[:, source],
        served_by={**matrix.served_by, **named},
    )


def nearest_rtt(row: Mapping[Target, RttEstimate], endpoints: Sequence[str]) -> float:
    """Return the RTT from one region to the nearest endpoint, s; NaN when none is known.

    Args:
        row: what the region's node measured.
    """
    return min(_rtts(row, endpoints).values(), default=math.nan)


def nearest_endpoint(row: Mapping[Target, RttEstimate], endpoints: Sequence[str]) -> str:
    """Return the endpoint that `nearest_rtt` is the RTT to, the first one when none is known."""
    known = _rtts(row, endpoints)
    return min(known, key=known.__getitem__, default=endpoints[0])


def _rtts(row: Mapping[Target, RttEstimate], endpoints: Sequence[str]) -> dict[str, float]:
    """Return the known RTTs to the endpoints that answer, to all where none does."""
    found = {name: row.get(Target(TargetKind.BACKEND, name)) for name in endpoints}
    known = {n: e for n, e in found.items() if e is not None and math.isfinite(e.rtt)}
    up = {n: e.rtt for n, e in known.items() if e.state is not EstimateState.FAILING}
    return up or {n: e.rtt for n, e in known.items()}


_LAST = 1e6
"""Added to the RTT of an endpoint that fails, s: more than any RTT."""
