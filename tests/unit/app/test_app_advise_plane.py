"""A data plane that is told of requests: what it makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrip.app.advise_plane import AdvisePlane
from onetrip.app.config import load_settings
from onetrip.app.dataplane import Hooks, take_requests
from onetrip.errors import ApiError
from onetrip.model.access import ServedRequest, Taken
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import Arm, MethodClass, Observation
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.topology import RegionId
from support.clock import VirtualClock

CONFIG = """
mode: advise
regions: {den: {}, bom: {}}
projects:
  shop:
    environments:
      production:
        hosts: [shop.test]
        instances: {den: ["127.0.0.1:9000"], bom: ["127.0.0.1:9001"]}
        routes: [{path: /orders/*}]
"""

CLOCK = VirtualClock()
DEN, BOM = RegionId("den"), RegionId("bom")


@pytest.fixture
def seen() -> list[Observation]:
    return []


@pytest.fixture
def plane(tmp_path: Path, seen: list[Observation]) -> AdvisePlane:
    path = tmp_path / "onetrip.yaml"
    path.write_text(CONFIG)
    settings = load_settings(path, "den")
    hooks = Hooks(
        seen.append,
        lambda target: True,
        lambda *told: None,
        failing=frozenset,
        tell=lambda *told: None,
        on_verdict=lambda verdict: None,
    )
    plane = AdvisePlane(settings, hooks, CLOCK)
    plane.update(settings.catalog, settings.topology)
    return plane


def test_a_request_becomes_an_observation_of_its_route(
    plane: AdvisePlane, seen: list[Observation]
) -> None:
    told = [
        ServedRequest("shop.test:443", "POST", "/orders/7", 200, 0.3),
        ServedRequest("other.test", "GET", "/", 200),
    ]
    assert take_requests(plane, told) == Taken(1, 1)
    (found,) = seen
    assert (found.key.route, found.key.method) == ("/orders/*", MethodClass.WRITE)
    assert (found.edge, found.region, found.arm) == (DEN, DEN, Arm.DEFAULT)
    assert (found.latency, found.service, found.sent_at) == (0.3, 0.3, 0.0)


def test_when_a_request_ended_places_it_among_the_counts_of_relays(
    plane: AdvisePlane, seen: list[Observation]
) -> None:
    ended_at = CLOCK.wall() - 2.0
    plane.take([ServedRequest("shop.test", "GET", "/orders/7", 200, 0.3, ended_at)])
    assert seen[0].sent_at == pytest.approx(CLOCK.now() - 2.3)


def test_failures_teach_nothing_and_unfound_paths_make_no_route(
    plane: AdvisePlane, seen: list[Observation]
) -> None:
    plane.take([ServedRequest("shop.test", "GET", "/orders/7", 502, 0.3)])
    plane.take([ServedRequest("shop.test", "GET", "/wp-admin", 404, 0.3)])
    assert seen[0].is_error
    assert seen[1].key.route == "other"


def test_an_edge_without_instances_is_taken_to_send_them_to_the_nearest(
    plane: AdvisePlane, seen: list[Observation]
) -> None:
    placement = Placement(Status.OFF, (BOM,), BOM)
    id = EnvironmentId("shop", "production")
    plane.publish(PlacementSnapshot(DEN, environments={id: placement}))
    plane.take([ServedRequest("shop.test", "GET", "/orders/7", 200, 0.3)])
    assert (seen[0].region, seen[0].latency, seen[0].service) == (BOM, 0.3, None)


def test_a_node_that_serves_refuses_them() -> None:
    with pytest.raises(ApiError, match="learns from those"):
        take_requests(object(), [])  # type: ignore[arg-type]
