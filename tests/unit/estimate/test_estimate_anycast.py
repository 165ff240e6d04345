"""Anycast is proven by the speed of light, and never suspected of a server in one place."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from onetrip.estimate.anycast import find_anycast, light_bound
from support.world import DATA, load_topology

PLACES = [(39.74, -104.99), (19.08, 72.88), (50.11, 8.68)]


def positions_of(topology: str) -> list[tuple[float, float] | None]:
    with (DATA / "topologies.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["topology"] == topology]
    return [(float(row["lat"]), float(row["lon"])) for row in rows]


@pytest.mark.parametrize("name", ["3", "5", "12", "48_azure", "60_multicloud", "236_world"])
def test_no_real_server_is_taken_for_anycast(name: str) -> None:
    positions = positions_of(name)
    regions, rtt = load_topology(name)
    assert len(positions) == len(regions)
    assert not find_anycast(rtt, positions).any()


def test_an_address_that_is_near_everywhere_is_anycast() -> None:
    rtt = np.array([[0.004, 0.229], [0.003, 0.001], [0.005, 0.117]])
    assert find_anycast(rtt, PLACES).tolist() == [True, False]


def test_nothing_is_proven_without_positions_or_measurements() -> None:
    rtt = np.full((3, 1), 0.003)
    assert not find_anycast(rtt, [None, None, PLACES[2]]).any()
    assert not find_anycast(np.full((3, 1), np.nan), PLACES).any()
    assert not find_anycast(np.array([[0.003], [np.nan], [np.nan]]), PLACES).any()


def test_light_needs_120_ms_from_denver_to_mumbai_and_back() -> None:
    assert light_bound(PLACES)[0, 1] == pytest.approx(0.132, abs=0.003)
