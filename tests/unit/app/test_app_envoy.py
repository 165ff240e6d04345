"""Envoy as the data plane in the configuration: what it means, and what is refused with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from onetrip.app.config import load_settings
from onetrip.app.envoy import bootstrap_of
from onetrip.cli.main import app
from onetrip.errors import ConfigError
from onetrip.model.catalog import Forwarding

PLACE = "projects.shop"


def write(tmp_path: Path, **more: Any) -> Path:
    """Write a good file; keys of `more` are dotted with `__`."""
    environment = {"hosts": ["shop.test"], "instances": {"den": ["127.0.0.1:9000"]}}
    data: dict[str, Any] = {
        "data_plane": "envoy",
        "regions": {"den": {}},
        "projects": {"shop": {"environments": {"production": environment}}},
    }
    for place, value in more.items():
        *parents, last = place.split("__")
        node = data
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_requests_go_straight_to_instances(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path))
    assert settings.envoy is not None
    assert str(settings.envoy.listen) == "127.0.0.1:9402"
    assert settings.catalog.projects["shop"].policy.forwarding is Forwarding.DIRECT


def test_node_that_serves_by_itself_forwards_through_nodes(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, data_plane="local"))
    assert settings.envoy is None
    assert settings.catalog.projects["shop"].policy.forwarding is Forwarding.NODE
    with pytest.raises(ConfigError, match="data_plane: is not 'envoy'"):
        bootstrap_of(settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deployments", {"allow": ["10.0.0.0/8"]}),
        ("workers", 2),
        ("proxy__body_limit", 1000),
        ("proxy__trusted_proxies", ["10.0.0.0/8"]),
        ("telemetry__otlp", {"endpoint": "http://127.0.0.1:4318"}),
        ("projects__shop__hedge", {"after": 0.1}),
        ("projects__shop__cache", {"enabled": True}),
        ("projects__shop__placement", {"forwarding": "node"}),
        ("projects__shop__environments__production__assets", {"directory": "/srv"}),
        ("envoy__listen", "0.0.0.0:9402"),
    ],
)
def test_what_envoy_cannot_do_is_refused_by_its_key(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, **{key: value}))
    assert f": {key.replace('__', '.')}" in str(caught.value)


def test_bootstrap_says_where_the_node_is(tmp_path: Path) -> None:
    path = write(tmp_path, envoy__listen="127.0.0.1:7001", envoy__admin="127.0.0.1:7002")
    result = CliRunner().invoke(app, ["envoy", "bootstrap", "--config", str(path)])
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    (cluster,) = body["static_resources"]["clusters"]
    assert '"port_value": 7001' in json.dumps(cluster)
    assert '"port_value": 7002' in json.dumps(body["admin"])
    assert "transport_socket" not in cluster


def test_bootstrap_of_a_node_that_serves_by_itself_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, data_plane="local")
    result = CliRunner().invoke(app, ["envoy", "bootstrap", "--config", str(path)])
    assert result.exit_code == 2
    assert "data_plane" in result.stderr
