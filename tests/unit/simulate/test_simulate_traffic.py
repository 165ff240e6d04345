"""Requests and their luck: what is drawn, and what an access log is read as."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from onetrip.errors import ConfigError
from onetrip.model.measure import MethodClass
from onetrip.model.topology import RegionId
from onetrip.simulate.scenario import home_matrix
from onetrip.simulate.timeline import timeline
from onetrip.simulate.traffic import draw, latencies, poisson, replay
from onetrip.simulate.world import RouteTruth, World

BOM, DEN, FRA = home_matrix()[0]
REGIONS, RTT = home_matrix()
WORLD = World(
    regions=REGIONS,
    rtt=RTT,
    backends={"db": BOM},
    routes=(
        RouteTruth("/a", {"db": 4}, weight=3),
        RouteTruth("/a", {"db": 2}, weight=1, method=MethodClass.WRITE),
    ),
    edges={DEN: 1.0, FRA: 3.0},
)


def line(**changes: object) -> bytes:
    row = {
        "ts": 100.0,
        "route": "/a",
        "method": "GET",
        "region": "den",
        "arm": "default",
    }
    return json.dumps(row | changes).encode()


def test_poisson_arrivals_follow_the_weights() -> None:
    found = poisson(WORLD, 40_000, 100.0, np.random.default_rng(1))
    assert np.all(np.diff(found.at) >= 0)
    assert 0 <= found.at[0] < found.at[-1] < 100
    assert np.mean(found.edge == 1) == pytest.approx(0.75, abs=0.01)
    assert np.mean(found.route == 0) == pytest.approx(0.75, abs=0.01)
    gaps = np.diff(found.at)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # exponential


@pytest.mark.parametrize(("count", "duration"), [(0, 1.0), (30_000_000, 1.0), (5, 0.0)])
def test_counts_and_durations_out_of_range_are_refused(count: int, duration: float) -> None:
    with pytest.raises(ConfigError):
        poisson(WORLD, count, duration, np.random.default_rng(1))


def test_traffic_without_weight_is_refused() -> None:
    nobody = replace(WORLD, edges={DEN: 0.0})
    with pytest.raises(ConfigError, match="every weight is 0"):
        poisson(nobody, 10, 1.0, np.random.default_rng(1))


def test_mean_latency_is_the_expected_one() -> None:
    truth = timeline(WORLD)
    requests = poisson(WORLD, 100_000, 100.0, np.random.default_rng(2))
    draws = draw(WORLD, truth, requests, np.random.default_rng(3))
    expected = truth.expected(WORLD)
    for region in range(3):
        times = latencies(truth, requests, draws, np.full(len(requests), region))
        for edge in (0, 1):
            mine = (requests.edge == edge) & (requests.route == 0)
            assert times[mine].mean() == pytest.approx(expected[0, edge, 0, region], rel=0.002)


def test_trips_that_vary_keep_their_mean() -> None:
    world = replace(WORLD, routes=(RouteTruth("/a", {"db": 4}, varies=True),))
    requests = poisson(world, 20_000, 10.0, np.random.default_rng(2))
    draws = draw(world, timeline(world), requests, np.random.default_rng(3))
    assert draws.trips.mean() == pytest.approx(4, abs=0.05)
    assert draws.trips.std() == pytest.approx(2, abs=0.05)


def test_requests_without_a_region_have_no_latency() -> None:
    truth = timeline(WORLD)
    requests = poisson(WORLD, 10, 10.0, np.random.default_rng(2))
    draws = draw(WORLD, truth, requests, np.random.default_rng(3))
    assert np.all(np.isnan(latencies(truth, requests, draws, np.full(10, -1))))


def test_log_lines_become_requests_in_time_order() -> None:
    lines = [
        line(ts=107.5, edge="fra", region="bom", arm="placed", method="POST"),
        line(ts=105.0),
        line(ts=105.5, region="bom", arm="placed"),
        line(ts=106.0, region="fra"),
    ]
    found, left_out = replay(lines, WORLD)
    assert left_out == 0
    assert found.at.tolist() == [0.0, 0.5, 1.0, 2.5]
    assert found.edge.tolist() == [0, 0, 1, 1]
    assert found.route.tolist() == [0, 0, 0, 1]


def test_lines_of_other_routes_and_edges_are_counted_out() -> None:
    lines = [line(), line(route="/other"), line(region="bom")]
    found, left_out = replay(lines, WORLD)
    assert (len(found), left_out) == (1, 2)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"not json",
        b"[1, 2]",
        b'"text"',
        line(ts="now"),
        line(ts=None),
        line(route=None),
        line(region=None),
        line(from_peer=True),
        b'{"ts": NaN, "route": "/a", "method": "GET", "region": "den", "arm": "default"}',
        b"[" * 50_000,
        b"x" * 70_000,
    ],
)
def test_lines_that_are_no_requests_are_skipped(bad: bytes) -> None:
    found, left_out = replay([bad, line()], WORLD)
    assert (len(found), left_out) == (1, 0)


def test_log_without_a_fitting_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 lines"):
        replay([line(route="/other")], WORLD)
    assert RegionId("den") == DEN
