"""Advise mode: what remains of a node's settings, and which routes it knows without a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.advise import SPAN, declared_inputs
from onetrip.app.config import Settings, load_settings
from onetrip.app.process import ADVISE, command_of
from onetrip.errors import ConfigError
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import MethodClass, RouteKey
from onetrip.model.topology import RegionId

DEN, BOM = RegionId("den"), RegionId("bom")

ROUTES = [
    {"path": "/orders", "round_trips": {"db": 5}, "rates": {"den": 2}, "write_rates": {"den": 0.5}},
    {"path": "/about", "round_trips": {}},
    {"path": "/search", "rates": {"bom": 1}},
    {"path": "/learned"},
]


def load(tmp_path: Path, *, advise: bool = False, **more: Any) -> Settings:
    """Return the settings of a file for two regions; keys of `more` replace those at the top."""
    environment = {
        "hosts": ["shop.test"],
        "bindings": {"db": "db"},
        "instances": {"den": ["127.0.0.1:9000"], "bom": ["127.0.0.1:9001"]},
        "routes": ROUTES,
    }
    (tmp_path / "secret").write_text("sixteen bytes or more")
    data = {
        "mode": "advise",
        "workers": 4,
        "cluster": {"secret_file": "secret"},
        "regions": {
            "den": {"proxy": "10.0.0.1:80", "peer": "10.0.0.1:9401"},
            "bom": {"peer": "10.0.0.2:9401"},
        },
        "backends": {"db": {"kind": "postgres", "address": "10.0.0.5:5432"}},
        "projects": {"shop": {"environments": {"production": environment}}},
        **more,
    }
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_settings(path, "den", advise=advise)


def test_a_node_that_advises_serves_nobody_and_measures_where_peers_report(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.mode == "advise"
    assert (settings.workers, settings.envoy, settings.tls_listen, settings.acme) == (
        1,
        *[None] * 3,
    )
    peers = {id: str(region.proxy) for id, region in settings.topology.regions.items()}
    assert peers == {"den": "10.0.0.1:9401", "bom": "10.0.0.2:9401"}


def test_the_command_line_says_so_over_the_file_also_to_a_successor(tmp_path: Path) -> None:
    assert load(tmp_path, mode="serve").mode == "serve"
    told = load(tmp_path, mode="serve", advise=True)
    assert told.mode == "advise"
    assert command_of(told)[-1] == ADVISE
    assert ADVISE not in command_of(load(tmp_path))


def test_declared_routes_are_known_without_a_request(tmp_path: Path) -> None:
    catalog = load(tmp_path).catalog
    found = {(i.key.route, i.key.method): i for i in declared_inputs(catalog, DEN, frozenset())}
    assert set(found) == {
        ("/orders", MethodClass.READ),
        ("/orders", MethodClass.WRITE),
        ("/about", MethodClass.READ),
    }
    orders = found["/orders", MethodClass.READ]
    assert (orders.declared, orders.requests) == ({"db": 5.0}, round(2 * SPAN))
    # Nobody said how often: it weighs nothing, and is told all the same.
    assert (found["/about", MethodClass.READ].requests) == 0


def test_rates_count_at_their_edge_and_need_no_round_trips(tmp_path: Path) -> None:
    catalog = load(tmp_path).catalog
    found = {i.key.route: i for i in declared_inputs(catalog, BOM, frozenset())}
    assert set(found) == {"/about", "/search"}
    assert found["/search"].declared is None


def test_a_route_that_requests_were_seen_of_is_left_to_those(tmp_path: Path) -> None:
    catalog = load(tmp_path).catalog
    seen = RouteKey(EnvironmentId("shop", "production"), "/orders", MethodClass.READ)
    found = [i.key for i in declared_inputs(catalog, DEN, {seen})]
    assert seen not in found
    assert seen._replace(method=MethodClass.WRITE) in found


@pytest.mark.parametrize("key", ["rates", "write_rates"])
def test_a_rate_names_a_region_that_exists(tmp_path: Path, key: str) -> None:
    ROUTES.append({"path": "/x", key: {"fra": 1}})
    try:
        with pytest.raises(
            ConfigError, match=rf"routes\[4\].{key}.fra: region 'fra' is not one of"
        ):
            load(tmp_path)
    finally:
        ROUTES.pop()
