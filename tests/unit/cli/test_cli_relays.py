"""The text of `onetrip relays`."""

from __future__ import annotations

from dataclasses import replace

from onetrip.cli.relays import relays
from onetrip.control.relays import RelaysBody, relay_row
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey, TripEvidence
from onetrip.model.relay import RelayStatus

KEY = RouteKey(EnvironmentId("shop", "production"), "/orders/{id}", MethodClass.READ)
STATUS = RelayStatus(
    backend="orders",
    project="",
    relays=2,
    age=3.0,
    delay=0.2,
    trips=1200,
    setup_trips=90,
    connections=15,
    opaque=0,
    windows=60,
    requests=100.0,
    trips_per_request=11.04,
    background=0.5,
    routes=((KEY, TripEvidence("orders", 10.97, 0.13, 40, "relay")),),
)


def text(*statuses: RelayStatus) -> list[str]:
    return relays(RelaysBody([relay_row(status) for status in statuses])).splitlines()


def test_backends_come_first_and_routes_below() -> None:
    lines = text(STATUS)
    assert lines[1].split() == ["orders", "2", "3", "s", "ago", "1200", "11.0", "6.0", "0.5"]
    assert lines[2] == ""
    cells = ["orders", "shop/production", "read", "/orders/{id}", "11.0", "0.13", "40"]
    assert lines[4].split() == cells


def test_clocks_that_disagree_are_told() -> None:
    found = text(replace(STATUS, delay=-4.0, project="shop", routes=()))
    assert found[-1] == "orders (shop): its clock and the node's differ by 4.0 s; counts blur"


def test_nothing_known_is_a_dash() -> None:
    nan = float("nan")
    quiet = replace(STATUS, connections=0, setup_trips=0, trips_per_request=nan, routes=())
    assert text(quiet)[1].split()[6:8] == ["-", "-"]


def test_no_relay_says_how_to_start_one() -> None:
    assert text() == ["no database relay has reported to this node: onetrip relay --help"]
