"""Measured RTTs for tests: matrices between regions and slices of traces, in s."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of a trace. `change` is the index where its level rises, None in a quiet one."""

    trace: str
    change: int | None
    rtts: list[float]


def trace_slices(kind: str) -> list[Slice]:
    """Return the slices of `kind` (`quiet` or `rise`), RTTs in s."""
    with (DATA / "ripe_slices.csv").open() as file:
        return [
            Slice(
                trace=row["trace"],
                change=int(row["change"]) if row["change"] else None,
                rtts=[float(text) / 1000 for text in row["rtts_ms"].split()],
            )
            for row in csv.DictReader(file)
            if row["kind"] == kind
        ]


def topology_matrix(name: str) -> npt.NDArray[np.float64]:
    """Return the square RTT matrix `topo_<name>.csv`, s."""
    with (DATA / f"topo_{name}.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array([[float(text) for text in row[1:]] for row in rows]) / 1000
