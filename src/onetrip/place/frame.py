"""The frozen inputs of one scoring run, as arrays.

Every key of a run shares one edge (nodes decide for their own edge). Backends differ per
environment, so each key carries indices into one table of RTTs; index D (one past the last
backend) is a column of zeros that pads environments with fewer backends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.measure import RouteKey
from onetrip.model.topology import RegionId

RTT_ERROR = 0.0003
"""Error of an RTT estimate, s: windowed minima of probes inside one host differ by about this."""


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What one route costs: the posterior of its compute and round trips.

    Attributes:
        backends: names of the backends its environment is bound to.
        compute: s.
        trips: shape (D,), counts.
        covariance: of the trips, shape (D, D).
        bound: service time at the default region that the costs must add up to, s, or inf; caps
            how large the round trips can possibly be.
    """

    backends: tuple[str, ...]
    compute: float
    trips: np.ndarray
    covariance: np.ndarray
    bound: float = np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Inputs of one run. R regions, K keys, D backends a key at most, B backends in all.

    Attributes:
        edge_rtt: RTT(edge, X), s, NaN unknown, shape (R,).
        edge_fresh: whether that may start a move, shape (R,).
        edge_measured: whether it was measured at all, and not estimated, shape (R,).
        edge_spread: error bound of an estimate of it, s, 0 where measured, shape (R,).
        backend_rtt: RTT(X, b), s, NaN unknown, shape (R, B + 1), last column 0.
        backend_fresh: shape (R, B + 1).
        backend_index: shape (K, D), B where padded.
        compute: shape (K,), s.
        trips: shape (K, D).
        covariance: shape (K, D, D).
        bound: shape (K,), s.
        default: index of the default region, shape (K,), -1 without one.
        usable: permitted and ready, shape (K, R).
        served_by: see `RttMatrix`.
    """

    regions: tuple[RegionId, ...]
    backends: tuple[str, ...]
    keys: tuple[RouteKey, ...]
    edge_rtt: np.ndarray
    edge_fresh: np.ndarray
    edge_measured: np.ndarray
    edge_spread: np.ndarray
    backend_rtt: np.ndarray
    backend_fresh: np.ndarray
    backend_index: np.ndarray
    compute: np.ndarray
    trips: np.ndarray
    covariance: np.ndarray
    bound: np.ndarray
    default: np.ndarray
    usable: np.ndarray
    served_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def endpoint(self, key: int, slot: int, region: int) -> str:
        """Return which endpoint the RTT from a region to a backend of a key is that of."""
        name = self.backends[self.backend_index[key, slot]]
        served_by = self.served_by.get(name)
        return name if served_by is None else served_by[region]


def build_frame(
    matrix: RttMatrix,
    edge: RegionId,
    keys: Sequence[RouteKey],
    costs: Sequence[Costs],
    default: np.ndarray,
    usable: np.ndarray,
    columns: Sequence[Sequence[str]] | None = None,
) -> Frame:
    """Assemble a frame.

    Args:
        matrix: RTTs of the whole cluster; must hold `edge` and every backend of `costs`.
        costs: one a key.
        default: shape (K,).
        usable: shape (K, R).
        columns: names of the matrix's columns that hold the RTTs to each key's backends; None
            takes the backends' own.
    """
    position = {name: column for column, name in enumerate(matrix.backends)}
    index, trips, covariance = _pack(costs, position, columns or [c.backends for c in costs])
    row = matrix.regions.index(edge)
    edge_rtt = matrix.rtt[row].copy()
    edge_rtt[row] = 0.0
    edge_fresh = ~(matrix.is_stale[row] | matrix.is_failing[row])
    edge_fresh[row] = True
    edge_measured = ~(matrix.is_predicted[row] | np.isnan(edge_rtt))
    backend_fresh = ~(matrix.backend_is_stale | matrix.backend_is_failing)
    count = len(matrix.regions)
    return Frame(
        regions=matrix.regions,
        backends=matrix.backends,
        keys=tuple(keys),
        edge_rtt=edge_rtt,
        edge_fresh=edge_fresh,
        edge_measured=edge_measured,
        edge_spread=matrix.error[row] * np.nan_to_num(edge_rtt),
        backend_rtt=np.hstack([matrix.backend_rtt, np.zeros((count, 1))]),
        backend_fresh=np.hstack([backend_fresh, np.ones((count, 1), dtype=bool)]),
        backend_index=index,
        compute=np.array([c.compute for c in costs], dtype=float),
        trips=trips,
        covariance=covariance,
        bound=np.array([c.bound for c in costs], dtype=float),
        default=default,
        usable=usable,
        served_by=matrix.served_by,
    )


def _pack(
    costs: Sequence[Costs], position: Mapping[str, int], columns: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    depth = max((len(c.backends) for c in costs), default=0)
    index = np.full((len(costs), depth), len(position), dtype=np.intp)
    trips = np.zeros((len(costs), depth))
    covariance = np.zeros((len(costs), depth, depth))
    for row, (cost, names) in enumerate(zip(costs, columns, strict=True)):
        size = len(cost.backends)
        index[row, :size] = [position[name] for name in names]
        trips[row, :size] = cost.trips
        covariance[row, :size, :size] = cost.covariance
    return index, trips, covariance
