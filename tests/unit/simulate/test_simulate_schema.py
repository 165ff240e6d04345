"""Scenario files: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from onetrip.errors import ConfigError
from onetrip.model.measure import MethodClass
from onetrip.simulate.scenario import home_matrix
from onetrip.simulate.schema import read_scenario, scenario_settings, scenario_world
from onetrip.simulate.world import (
    BackendMove,
    Deploy,
    Event,
    PathShift,
    PathTrace,
    RegionFault,
    World,
)


def data(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "backends": {"db": "bom"},
        "edges": {"den": 2, "fra": 1},
        "routes": [{"route": "/a", "trips": {"db": 3}}],
    }
    return base | changes


def world_of(**changes: Any) -> World:
    return scenario_world(read_scenario(data(**changes)), *home_matrix())


def test_units_of_people_become_seconds() -> None:
    route = {"route": "/w", "trips": {"db": 3}, "compute_ms": 8, "method": "write", "local": True}
    world = world_of(routes=[route], inside_ms=1.5, jitter={"mean_ms": 0.6, "spike_ms": 20})
    assert world.inside == pytest.approx(0.0015)
    assert (world.jitter.mean, world.jitter.spike) == pytest.approx((0.0006, 0.02))
    (found,) = world.routes
    assert (found.compute, found.method, found.is_local) == (0.008, MethodClass.WRITE, True)


def test_settings_are_the_nodes_own_unless_the_file_says_so() -> None:
    plain = scenario_settings(read_scenario(data()))
    assert (plain.policy.control_ratio, plain.policy.least_gain) == (0.01, 0.010)
    changed = data(policy={"control": 0.02, "least_gain_ms": 5}, probe_interval=10, probe_peers=20)
    asked = scenario_settings(read_scenario(changed))
    assert (asked.policy.control_ratio, asked.policy.least_gain) == (0.02, 0.005)
    assert (asked.probe.interval, asked.filters.max_age) == (10, 60)
    assert (plain.probe.peers, asked.probe.peers) == (None, 20)


@pytest.mark.parametrize(
    ("entry", "event"),
    [
        ({"move": "db", "to": "fra"}, BackendMove(5.0, "db", home_matrix()[0][2])),
        ({"down": "bom"}, RegionFault(5.0, home_matrix()[0][0])),
        ({"up": "bom"}, RegionFault(5.0, home_matrix()[0][0], is_up=True)),
        ({"path": ["bom", "den"], "factor": 2}, PathShift(5.0, *home_matrix()[0][:2], 2.0)),
        (
            {"path": ["bom", "den"], "shape": [1, 2], "step": 3},
            PathTrace(5.0, *home_matrix()[0][:2], (1.0, 2.0), 3.0),
        ),
        ({"deploy": "/a", "trips": {"db": 9}}, Deploy(5.0, "/a", {"db": 9})),
    ],
)
def test_events_are_read(entry: dict[str, Any], event: Event) -> None:
    assert world_of(events=[{"at": 5, **entry}]).events == (event,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"colour": 1}, "unknown field `colour`"),
        ({"backends": {"db": "mars"}}, "mars"),
        ({"routes": []}, "routes"),
        ({"routes": [{"route": "/a", "trips": {"db": 2000}}]}, "1000"),
        ({"routes": [{"route": "/a", "method": "GET"}]}, "Invalid enum value"),
        ({"duration": "long"}, "duration"),
        ({"events": [{"at": 1}]}, "must be one of"),
        ({"events": [{"at": 1, "down": "bom", "up": "bom"}]}, "must be one of"),
        ({"events": [{"at": 1, "move": "db"}]}, "needs its other key"),
        ({"events": [{"at": 1, "deploy": "/a"}]}, "needs its other key"),
        ({"events": [{"at": 1, "path": ["bom", "den"]}]}, "either factor or shape"),
        ({"events": [{"at": 1, "path": ["bom"], "factor": 2}]}, "length 2"),
    ],
)
def test_scenarios_that_cannot_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        world_of(**changes)


@pytest.mark.parametrize("nothing", [None, [], "text", 5])
def test_data_of_another_kind_is_refused(nothing: Any) -> None:
    with pytest.raises(ConfigError):
        read_scenario(nothing)
