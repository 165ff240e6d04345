"""Regions of routes and bindings: what a file means, and what it may not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.model.catalog import Environment


def load(
    tmp_path: Path, binding: Any, routes: list[Any] | None = None, placement: Any = None
) -> Environment:
    data = {
        "regions": {"den": {}, "fra": {}, "ams": {}},
        "backends": {"orders": {"kind": "postgres", "address": "db:5432"}},
        "projects": {
            "shop": {
                "placement": placement or {},
                "environments": {
                    "production": {
                        "hosts": ["shop.example"],
                        "instances": {"den": ["127.0.0.1:9000"]},
                        "bindings": {"db": binding},
                        "routes": routes or [],
                    }
                },
            }
        },
    }
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    (found,) = load_settings(path, "den").catalog.environments()
    return found


EUROPE = {"backend": "orders", "allow": ["fra", "ams"]}


def test_bindings_bound_every_route_that_could_use_them(tmp_path: Path) -> None:
    routes = [
        {"path": "/free", "round_trips": {}},
        {"path": "/unused", "round_trips": {"db": 0}},
        {"path": "/used", "round_trips": {"db": 3}},
        {"path": "/own", "deny": ["ams"]},
    ]
    found = load(tmp_path, EUROPE, routes)
    denied = {rule.pattern: set(rule.deny) for rule in found.rules}
    assert denied == {
        "/free": set(),
        "/unused": set(),
        "/used": {"den"},
        "/own": {"den", "ams"},
    }
    assert found.denied(None) == {"den"}
    assert found.denied(found.rules[0]) == frozenset()


def test_without_them_nothing_is_denied(tmp_path: Path) -> None:
    found = load(tmp_path, "orders", [{"path": "/a"}])
    assert found.deny == found.rules[0].deny == frozenset()


@pytest.mark.parametrize(
    ("binding", "routes", "placement", "told"),
    [
        ({"backend": "orders", "allow": ["mars"]}, [], {}, "bindings.db.allow: region 'mars'"),
        ("orders", [{"path": "/a", "deny": ["mars"]}], {}, "routes[0].deny: region 'mars'"),
        (
            EUROPE,
            [{"path": "/a", "allow": ["den"]}],
            {},
            "routes[0]: allow and deny, those of bindings among them, leave no region",
        ),
        (
            EUROPE,
            [],
            {"allow": ["den"]},
            "production.bindings: leaves no region that the project's placement permits",
        ),
        (
            "orders",
            [{"path": "/a", "allow": ["fra"]}],
            {"deny": ["fra"]},
            "routes[0]: leaves no region that the project's placement permits",
        ),
    ],
)
def test_what_leaves_no_region_or_names_an_unknown_one_is_refused(
    tmp_path: Path, binding: Any, routes: list[Any], placement: Any, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, binding, routes, placement)
    assert told in str(caught.value)
