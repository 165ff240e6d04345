"""Anycast backends: one address that is answered in many places.

If a backend is in one place, the light to it and back from two regions must travel at least the
distance between them: RTT(a, x) + RTT(b, x) ≥ 2 · distance(a, b) / v. A sum below that bound is no
measurement error but two different servers. The triangle inequality on *measured* RTTs would not
do: on the public Internet most pairs break it.

An anycast backend has no home. Each region's own measurement is the truth there, and nothing may
be inferred from another region's.

Source: Cicalese et al. (2015), "A fistful of pings: accurate and lightweight anycast enumeration
and geolocation", for the speed-of-light test. The speed is that of light in fibre, 204.2 km/ms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FIBRE_SPEED = 204_200.0
"""Distance that light goes in fibre, km/s."""

EARTH_RADIUS = 6371.0
"""Mean radius, km."""

MARGIN = 0.9
"""Share of the bound that a sum must stay below: coordinates are those of towns, not of racks."""

LEAST_SHARE = 0.01
"""Share of pairs that must break the bound: one wrong measurement among many is not a server. In
the 236-city matrix one pair (Santiago, Zhangjiakou) breaks it, out of 27,000."""

LEAST_BOUND = 0.010
"""Bounds below this, s, are within the noise of probes and towns; such pairs prove nothing."""


def find_anycast(
    backend_rtt: np.ndarray, positions: Sequence[tuple[float, float] | None]
) -> np.ndarray:
    """Tell which backends are answered in more than one place.

    Args:
        backend_rtt: measured RTTs, s, NaN unknown, shape (R, D).
        positions: (latitude, longitude) of each region in degrees, or None.

    Returns:
        Shape (D,), bool. Without positions nothing can be proven.
    """
    bound = light_bound(positions)
    out = np.zeros(backend_rtt.shape[1], dtype=bool)
    for column in range(backend_rtt.shape[1]):
        times = backend_rtt[:, column]
        sums = times[:, None] + times[None, :]
        with np.errstate(invalid="ignore"):
            telling = (bound >= LEAST_BOUND) & ~np.isnan(sums)
            broken = telling & (sums < MARGIN * bound)
        out[column] = broken.any() and broken.sum() >= LEAST_SHARE * telling.sum()
    return out


def name_anycast(
    backends: Sequence[str],
    backend_rtt: np.ndarray,
    positions: Sequence[tuple[float, float] | None],
) -> frozenset[str]:
    """Return the names of the backends, in the order of the columns, that `find_anycast` finds."""
    found = find_anycast(backend_rtt, positions)
    return frozenset(b for b, is_found in zip(backends, found, strict=True) if is_found)


def light_bound(positions: Sequence[tuple[float, float] | None]) -> np.ndarray:
    """Return the least possible RTT between regions, s, shape (R, R); NaN without positions."""
    degrees = np.array([p if p is not None else (np.nan, np.nan) for p in positions], dtype=float)
    lat, lon = np.radians(degrees.reshape(-1, 2)).T
    # Haversine formula for the great-circle distance.
    half = (
        np.sin((lat[:, None] - lat[None, :]) / 2) ** 2
        + np.cos(lat[:, None])
        * np.cos(lat[None, :])
        * np.sin((lon[:, None] - lon[None, :]) / 2) ** 2
    )
    distance = 2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
    return np.asarray(2 * distance / FIBRE_SPEED)
