"""Truth for placement tests: measured RTT matrices, and matrices as a node would see them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.topology import RegionId

DATA = Path(__file__).parent.parent / "data"


def load_topology(name: str) -> tuple[tuple[RegionId, ...], np.ndarray]:
    """Return the ids and RTTs, shape (R, R), s, of `tests/data/topo_<name>.csv`."""
    with (DATA / f"topo_{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    ids = tuple(RegionId(text) for text in rows[0][1:])
    return ids, np.array([[float(cell) for cell in row[1:]] for row in rows[1:]]) / 1e3


def matrix_of(
    regions: tuple[RegionId, ...],
    rtt: np.ndarray,
    backends: Mapping[str, RegionId],
    inside: float = 0.0005,
) -> RttMatrix:
    """Return a fresh, complete matrix with each backend inside the region it is mapped to.

    Args:
        inside: RTT within a region, s (IBM measured 0.1 ms in a zone, 1.5 ms between zones).
    """
    size = (len(regions), len(backends))
    data = np.empty(size)
    for column, home in enumerate(backends.values()):
        data[:, column] = rtt[:, regions.index(home)]
        data[regions.index(home), column] = inside
    return RttMatrix(
        regions=regions,
        backends=tuple(backends),
        rtt=rtt.copy(),
        is_stale=np.zeros(rtt.shape, dtype=bool),
        is_failing=np.zeros(rtt.shape, dtype=bool),
        is_predicted=np.zeros(rtt.shape, dtype=bool),
        error=np.zeros(rtt.shape),
        backend_rtt=data,
        backend_is_stale=np.zeros(size, dtype=bool),
        backend_is_failing=np.zeros(size, dtype=bool),
    )
