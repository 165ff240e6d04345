"""Worlds from matrices, seeds and scenario files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from onetrip.errors import ConfigError
from onetrip.model.measure import MethodClass
from onetrip.model.topology import RegionId
from onetrip.simulate.world import (
    MAX_REGIONS,
    Event,
    Floats,
    RouteTruth,
    World,
    check_matrix,
)

MAX_EDGES = 6
"""Edges with clients in a drawn world."""

ROUTES = (
    RouteTruth("/assets", {}, compute=0.001, weight=3),
    RouteTruth("/session", {"db": 1}, compute=0.002, weight=2),
    RouteTruth("/list", {"db": 3}, compute=0.005, weight=3),
    RouteTruth("/orders/{id}", {"db": 6}, compute=0.004, weight=2),
    RouteTruth("/checkout", {"db": 8}, compute=0.010, method=MethodClass.WRITE),
    RouteTruth("/dashboard", {"db": 11}, compute=0.008, weight=1),
    RouteTruth("/feed", {"db": 5, "cache": 3}, compute=0.006, weight=2),
)
"""An ordinary application: most requests are light, a few routes are chatty."""


def home_matrix() -> tuple[tuple[RegionId, ...], Floats]:
    """Return the 3-region matrix that the demo uses as well.

    Source: Azure network round-trip latency statistics, median of June 2025: Mumbai (West
    India), Denver's nearest (West Central US, Cheyenne) and Frankfurt (Germany West Central).
    """
    names = (RegionId("bom"), RegionId("den"), RegionId("fra"))
    return names, np.array([[0.0, 0.229, 0.117], [0.229, 0.0, 0.136], [0.117, 0.136, 0.0]])


def draw_world(
    regions: Sequence[RegionId],
    rtt: Floats,
    rng: np.random.Generator,
    *,
    routes: tuple[RouteTruth, ...] = ROUTES,
    edges: int = MAX_EDGES,
    events: tuple[Event, ...] = (),
) -> World:
    """Draw where the backends and the clients of a project are.

    Args:
        routes: their backends are each given a home.
        edges: most regions with clients.
    """
    names = sorted(regions)
    backends = sorted({name for route in routes for name in route.trips})
    homes = {name: names[int(rng.integers(len(names)))] for name in backends}
    chosen = rng.choice(len(names), min(edges, len(names)), replace=False)
    shares = rng.lognormal(0.0, 0.5, chosen.size)
    return World(
        regions=tuple(regions),
        rtt=rtt,
        backends=dict(sorted(homes.items(), reverse=True)),
        routes=routes,
        edges={names[int(i)]: float(w) for i, w in zip(chosen, shares, strict=True)},
        events=events,
    )


def parse_matrix(text: str) -> tuple[tuple[RegionId, ...], Floats]:
    """Return the regions and the RTTs, s, of a square CSV of ms; ids in first column and header.

    Raises:
        ConfigError: the text is no such matrix.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if len(rows) < 2 or len(rows) > MAX_REGIONS + 1:
        raise ConfigError(f"matrix of {len(rows)} rows is not in 2-{MAX_REGIONS + 1}")
    names = tuple(RegionId(cell.strip()) for cell in rows[0][1:])
    body = rows[1:]
    for number, row in enumerate(body, 2):
        if len(row) != len(names) + 1:
            raise ConfigError(f"matrix line {number} has {len(row)} cells, not {len(names) + 1}")
    if tuple(row[0].strip() for row in body) != names:
        raise ConfigError("matrix rows are not named like its columns")
    try:
        rtt = np.array([[float(cell) for cell in row[1:]] for row in body]) / 1e3
    except ValueError as error:
        raise ConfigError(f"matrix holds a cell that is no number: {error}") from error
    check_matrix(names, rtt)
    return names, rtt
