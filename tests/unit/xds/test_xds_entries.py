"""Entries of Envoy's access log: what they tell, and what is made of those that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from onetrip.errors import Kind, Side
from onetrip.model.catalog import Catalog, Environment, Instance, Policy, Project
from onetrip.model.measure import Arm
from onetrip.model.topology import Endpoint
from onetrip.proxy.router import Routing
from onetrip.xds.entries import COLD_AFTER, MAX_LATE, EntryReader
from onetrip.xds.protobuf import LogEntry
from support.clock import VirtualClock
from support.envoy import HERE, SHOP, THERE

SPLIT = "shop/production (rest) read there=placed,here=control"


def entry(*, region: str = "there", wanted: str = "there,here", **common: Any) -> Any:
    made = LogEntry()
    about = made.common_properties
    about.route_name = SPLIT
    about.upstream_cluster = f"shop/production@{wanted}"
    if region:
        about.custom_tags["region"] = region
    about.time_to_first_upstream_tx_byte.nanos = 500_000
    about.time_to_first_upstream_rx_byte.nanos = 30_000_000
    about.duration.nanos = 40_000_000
    for name, value in common.items():
        setattr(about.response_flags, name, value)
    made.request.request_method = 1
    made.request.authority, made.request.path = "shop.test:80", "/users/42?q=1"
    made.response.response_code.value = 200
    return made


def reader(clock: VirtualClock) -> EntryReader:
    environment = Environment(SHOP, ("shop.test",), (Instance(HERE, Endpoint("127.0.0.1", 1)),), {})
    made = EntryReader(HERE, clock)
    made.routing = Routing.build(
        Catalog({"shop": Project("shop", Policy(), {"production": environment})})
    )
    made.regions = frozenset([HERE, THERE])
    return made


def read(made: Any) -> Any:
    return reader(VirtualClock(start=100.0)).read(made)


@pytest.mark.parametrize(
    ("wanted", "region", "arm"),
    [
        ("there,here", "there", Arm.PLACED),
        ("here,there", "here", Arm.CONTROL),
        ("there,here", "here", Arm.FAILOVER),
        ("mars,here", "mars", Arm.DEFAULT),
    ],
)
def test_arm_is_told_by_route_cluster_and_region(wanted: str, region: str, arm: Arm) -> None:
    assert read(entry(wanted=wanted, region=region)).arm is arm


def test_times_are_those_of_the_request_and_of_its_instance() -> None:
    record = read(entry(region="here", wanted="here,there"))
    assert record.is_own
    assert record.sent_at - record.started_at == pytest.approx(0.0005)
    assert record.first_byte_at - record.started_at == pytest.approx(0.03)
    assert record.started_at == pytest.approx(100.0 - 0.04)
    assert not record.is_cold
    assert record.match.key.route == "/users/{id}"


def test_request_that_waited_for_a_connection_is_cold() -> None:
    made = entry()
    made.common_properties.time_to_first_upstream_tx_byte.nanos = round(COLD_AFTER * 2e9)
    assert read(made).is_cold


@pytest.mark.parametrize("age", [-5.0, 3.0, MAX_LATE + 100], ids=["ahead", "late", "too late"])
def test_start_is_believed_only_where_it_can_be(age: float) -> None:
    clock = VirtualClock()
    made = entry()
    began = clock.wall() - age
    made.common_properties.start_time.seconds = int(began)
    made.common_properties.start_time.nanos = round(began % 1 * 1e9)
    record = reader(clock).read(made)
    assert record is not None
    expected = age if age == 3.0 else 0.04
    assert clock.now() - record.started_at == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("flag", "side", "kind"),
    [
        ("no_healthy_upstream", Side.UPSTREAM, Kind.UNAVAILABLE),
        ("upstream_overflow", Side.UPSTREAM, Kind.REQUEST_LIMIT),
        ("stream_idle_timeout", Side.UPSTREAM, Kind.TIMEOUT),
        ("downstream_connection_termination", Side.DOWNSTREAM, Kind.RESET),
        ("no_route_found", Side.DOWNSTREAM, Kind.NO_ROUTE),
    ],
)
def test_flags_become_errors(flag: str, side: Side, kind: Kind) -> None:
    error = read(entry(**{flag: True})).error
    assert (error.side, error.kind) == (side, kind)


def test_request_that_reached_no_instance_has_no_region() -> None:
    record = read(entry(region=""))
    assert record.region is None
    assert record.first_byte_at == 0.0


def test_times_that_cannot_be_are_left_out() -> None:
    made = entry()
    made.common_properties.time_to_first_upstream_rx_byte.nanos = 100_000  # before it was sent
    assert read(made).first_byte_at == 0.0
    made = entry()
    made.common_properties.time_to_first_upstream_tx_byte.seconds = -1
    assert read(made).first_byte_at == 0.0


@pytest.mark.parametrize("number", [0, 99])
def test_method_that_is_not_known_is_left_out(number: int) -> None:
    made = entry()
    made.request.request_method = number
    assert read(made) is None


def test_server_timing_is_kept_for_what_reads_it() -> None:
    made = entry()
    made.response.response_headers["server-timing"] = "db;dur=12"
    assert read(made).server_timing == b"db;dur=12"
