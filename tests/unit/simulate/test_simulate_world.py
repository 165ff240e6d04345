"""Worlds: what is refused, and what the truth is at each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrip.errors import ConfigError
from onetrip.model.topology import RegionId
from onetrip.simulate.scenario import draw_world, home_matrix, parse_matrix
from onetrip.simulate.timeline import timeline
from onetrip.simulate.world import (
    BackendMove,
    Deploy,
    Event,
    Jitter,
    PathShift,
    PathTrace,
    RegionFault,
    RouteTruth,
    World,
)
from support.world import load_topology

BOM, DEN, FRA = home_matrix()[0]


def world(*events: Event, **changes: object) -> World:
    regions, rtt = home_matrix()
    base = World(
        regions=regions,
        rtt=rtt,
        backends={"db": BOM},
        routes=(RouteTruth("/a", {"db": 4}, compute=0.01, sigma=0.0),),
        edges={DEN: 1.0},
        events=events,
        jitter=Jitter(0.0, 0.0, 0.0),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_matrix_of_the_tests_is_read_as_it_is() -> None:
    regions, rtt = load_topology("5")
    text = "\n".join(
        [",".join(["id", *regions])]
        + [
            ",".join([r, *(f"{x * 1e3:g}" for x in row)])
            for r, row in zip(regions, rtt, strict=True)
        ]
    )
    names, parsed = parse_matrix(text)
    assert names == regions
    assert np.allclose(parsed, rtt)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "matrix of 0 rows"),
        ("id,a,b\na,0,1\n", "not named like its columns"),
        ("id,a,b\na,0,1\nb,1\n", "line 3 has 2 cells"),
        ("id,a,b\na,0,x\nb,1,0\n", "no number"),
        ("id,a,b\na,0,nan\nb,1,0\n", "not in 0-60 s"),
        ("id,a,b\na,0,-1\nb,-1,0\n", "not in 0-60 s"),
        ("id,a,b\na,0,70000\nb,70000,0\n", "not in 0-60 s"),
        ("id,a,b\na,0,1\nb,2,0\n", "not symmetric"),
        ("id,a,b\na,3,1\nb,1,0\n", "not symmetric"),
        ("id,a,a\na,0,1\na,1,0\n", "names a region twice"),
    ],
)
def test_text_that_is_no_matrix_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_matrix(text)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backends": {"db": RegionId("mars")}}, "mars"),
        ({"edges": {RegionId("mars"): 1.0}}, "mars"),
        ({"edges": {}}, "needs an edge"),
        ({"routes": ()}, "needs an edge and a route"),
        ({"routes": (RouteTruth("/a", {"cache": 1}),)}, "unknown backend 'cache'"),
        ({"routes": (RouteTruth("/a", {"db": -1}),)}, "trips of /a"),
        ({"routes": (RouteTruth("/a", {}, compute=-1),)}, "compute of /a"),
        ({"events": (PathShift(1.0, BOM, DEN, 0.0),)}, "factor of an event"),
        ({"events": (PathShift(1.0, BOM, BOM, 2.0),)}, "two regions"),
        ({"events": (PathShift(-1.0, BOM, DEN, 1.0),)}, "at of an event"),
        ({"events": (PathTrace(1.0, BOM, DEN, (1.0,), 0.0),)}, "step of a trace"),
        ({"events": (BackendMove(1.0, "cache", DEN),)}, "unknown backend 'cache'"),
        ({"events": (RegionFault(1.0, RegionId("mars")),)}, "mars"),
        ({"events": (Deploy(1.0, "/b", {}),)}, "unknown route '/b'"),
    ],
)
def test_world_that_cannot_be_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        world(**changes)


def test_expected_latency_is_the_sum_of_its_terms() -> None:
    times = timeline(world()).expected(world())[0, 0, 0]
    assert times == pytest.approx(
        [0.229 + 0.01 + 4 * 0.0005, 0.01 + 4 * 0.229, 0.136 + 0.01 + 0.468]
    )


def test_path_shift_changes_both_ways_and_both_uses_of_the_path() -> None:
    line = timeline(world(PathShift(10.0, DEN, BOM, 2.0)))
    assert line.starts.tolist() == [0.0, 10.0]
    assert line.hop[:, 0, 0].tolist() == [0.229, 0.458]
    assert line.data[:, 1, 0].tolist() == [0.229, 0.458]
    assert line.data[:, 0, 0].tolist() == [0.0005, 0.0005]


def test_factors_count_from_the_first_value() -> None:
    events = (PathShift(10.0, DEN, BOM, 2.0), PathShift(20.0, BOM, DEN, 1.5))
    assert timeline(world(*events)).hop[:, 0, 0] == pytest.approx([0.229, 0.458, 0.3435])


def test_trace_is_a_step_at_a_time() -> None:
    line = timeline(world(PathTrace(10.0, DEN, BOM, (1.0, 1.2, 0.9), 5.0)))
    assert line.starts.tolist() == [0.0, 10.0, 15.0, 20.0]
    assert line.hop[:, 0, 0] == pytest.approx([0.229, 0.229, 0.2748, 0.2061])


def test_backend_moves_with_its_name() -> None:
    line = timeline(world(BackendMove(10.0, "db", FRA)))
    assert line.data[1, :, 0] == pytest.approx([0.117, 0.136, 0.0005])


def test_dead_region_runs_nothing_and_comes_back() -> None:
    line = timeline(world(RegionFault(10.0, BOM), RegionFault(20.0, BOM, is_up=True)))
    assert line.up[:, 0].tolist() == [True, False, True]
    times = line.expected(world())[:, 0, 0, 0]
    assert np.isinf(times).tolist() == [False, True, False]


def test_deploy_changes_the_trips_of_its_route_alone() -> None:
    routes = (RouteTruth("/a", {"db": 4}), RouteTruth("/b", {"db": 2}))
    line = timeline(world(routes=routes, events=(Deploy(10.0, "/b", {"db": 7}),)))
    assert line.trips[:, :, 0].tolist() == [[4, 2], [4, 7]]


def test_too_many_changes_are_refused() -> None:
    trace = PathTrace(0.0, DEN, BOM, (1.0,) * 20_001, 1.0)
    with pytest.raises(ConfigError, match="exceed limit"):
        timeline(world(trace))


def test_drawn_world_does_not_depend_on_the_order_of_the_regions() -> None:
    regions, rtt = load_topology("12")
    order = list(reversed(range(len(regions))))
    one = draw_world(regions, rtt, np.random.default_rng(7))
    other = draw_world([regions[i] for i in order], rtt[::-1, ::-1], np.random.default_rng(7))
    assert (one.backends, one.edges) == (other.backends, other.edges)
