"""Replicas, and where a binding reads: accepted, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError


def file(tmp_path: Path, replicas: Any, bindings: Any) -> Path:
    data = {
        "regions": {"den": {}},
        "backends": {
            "orders": {"kind": "postgres", "address": "db:5432", "replicas": replicas},
            "cache": {"kind": "redis", "address": "cache:6379"},
        },
        "projects": {
            "shop": {
                "environments": {
                    "production": {
                        "hosts": ["shop.example"],
                        "instances": {"den": ["127.0.0.1:9000"]},
                        "bindings": bindings,
                    }
                }
            }
        },
    }
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


FRA = {"fra": {"address": "db.fra:5432"}}


def test_replicas_are_named_under_their_backend_and_read_where_a_binding_says_so(
    tmp_path: Path,
) -> None:
    bindings = {"db": {"backend": "orders", "reads": "nearest"}, "cache": "cache"}
    catalog = load_settings(file(tmp_path, FRA, bindings)).catalog
    assert catalog.backends["orders"].endpoints == ("orders", "orders/fra")
    (environment,) = catalog.environments()
    assert environment.bindings == {"db": "orders", "cache": "cache"}
    assert environment.reads_nearest == {"orders"}


def test_reads_go_to_the_primary_unless_a_binding_says_otherwise(tmp_path: Path) -> None:
    catalog = load_settings(file(tmp_path, FRA, {"db": "orders"})).catalog
    assert catalog.environments()[0].reads_nearest == frozenset()


@pytest.mark.parametrize(
    ("replicas", "bindings", "told"),
    [
        (FRA, {"c": {"backend": "cache", "reads": "nearest"}}, "bindings.c.reads: backend 'cache'"),
        (FRA, {"db": "ledger"}, "bindings.db: backend 'ledger' is not one of cache, orders"),
        (
            FRA,
            {"a": "orders", "b": {"backend": "orders", "reads": "nearest"}},
            "bindings.b.reads: another binding reads 'orders' from the primary endpoint",
        ),
        ({"FRA": {"address": "db:1"}}, {}, "backends.orders.replicas.FRA: 'FRA' is not a name"),
        ({"fra": {"address": "db"}}, {}, "backends.orders.replicas.fra.address: 'db' is not host"),
        (
            {**FRA, "two": {"address": "db.fra:5432"}},
            {},
            "replicas.two.address: db.fra:5432 is that of orders/fra",
        ),
        ({"fra": {"address": "db.fra:5432", "lag": 1}}, {}, "unknown key"),
        (FRA, {"db": {"backend": "orders", "reads": "far"}}, "Invalid enum value 'far'"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, replicas: Any, bindings: Any, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(file(tmp_path, replicas, bindings))
    assert told in str(caught.value)
