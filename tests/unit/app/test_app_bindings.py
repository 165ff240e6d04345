"""Bindings to other projects: accepted, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.model.catalog import EnvironmentId


def file(tmp_path: Path, bindings: dict[str, Any], routes: list[Any] | None = None) -> Path:
    environments = {
        name: {
            "production": {
                "hosts": [f"{name}.example"],
                "instances": {"den": [f"127.0.0.1:{port}"]},
                "bindings": bindings.get(name, {}),
                "routes": routes or [] if name == "shop" else [],
            }
        }
        for port, name in enumerate(("shop", "stock", "prices"), 9000)
    }
    data = {
        "regions": {"den": {}},
        "backends": {"orders": {"kind": "postgres", "address": "db:5432"}},
        "projects": {name: {"environments": each} for name, each in environments.items()},
    }
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_a_binding_to_a_project_is_a_call_and_called_services_come_before_their_callers(
    tmp_path: Path,
) -> None:
    bindings = {
        "shop": {"db": "orders", "stock": {"project": "stock"}},
        "stock": {"prices": {"project": "prices", "environment": "production"}},
    }
    routes = [{"path": "/checkout", "round_trips": {"db": 2, "stock": 3}}]
    catalog = load_settings(file(tmp_path, bindings, routes)).catalog
    shop = catalog.projects["shop"].environments["production"]
    assert shop.bindings == {"db": "orders"}
    assert shop.calls == {"stock": EnvironmentId("stock", "production")}
    assert [each.project for each in catalog.called()] == ["prices", "stock"]


@pytest.mark.parametrize(
    ("bindings", "told"),
    [
        ({"shop": {"x": {}}}, "shop.environments.production.bindings.x: backend or project is"),
        (
            {"shop": {"x": {"backend": "orders", "project": "stock"}}},
            "bindings.x.project: a binding is to a backend or to a project",
        ),
        ({"shop": {"x": {"project": "nope"}}}, "bindings.x: there is no nope/production"),
        ({"shop": {"x": {"project": "stock", "reads": "nearest"}}}, "x.reads: a project has no"),
        ({"shop": {"me": {"project": "shop"}}}, "bindings.me: shop/production -> shop/production"),
        (
            {
                "shop": {"x": {"project": "stock"}},
                "stock": {"x": {"project": "prices"}},
                "prices": {"back": {"project": "shop"}},
            },
            "is a circle",
        ),
    ],
)
def test_what_cannot_be_called_is_refused(
    tmp_path: Path, bindings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(file(tmp_path, bindings))
    assert told in str(caught.value)
