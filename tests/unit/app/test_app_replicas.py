"""Replicas, and where a binding reads: accepted, or refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.model.replica import ReplicationAccess


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


def access_file(tmp_path: Path, kind: str = "postgres", **replication: Any) -> Path:
    path = file(tmp_path, FRA, {"db": {"backend": "orders", "reads": "nearest"}})
    data = yaml.safe_load(path.read_text())
    data["regions"] = {"den": {}, "fra": {}}
    data["region"] = "den"
    (tmp_path / "password").write_text("short\n")
    access = {"user": "watcher", "password_file": "password"} | replication
    data["backends"]["orders"] |= {"kind": kind, "replication": access}
    path.write_text(yaml.safe_dump(data))
    return path


def test_a_replication_account_is_read_and_its_password_is_not_shown(tmp_path: Path) -> None:
    discover = {"fra": ["10.2.0.0/16"]}
    settings = load_settings(access_file(tmp_path, max_lag=3, interval=1, discover=discover))
    access = settings.catalog.backends["orders"].replication
    assert access == ReplicationAccess("watcher", "short", "", 1, 3, (("fra", ("10.2.0.0/16",)),))
    assert "short" not in repr(settings.catalog)


def test_redis_needs_no_package_and_has_no_database_to_log_in_to(tmp_path: Path) -> None:
    access = load_settings(access_file(tmp_path, "redis")).catalog.backends["orders"].replication
    assert access == ReplicationAccess("watcher", "short")
    with pytest.raises(ConfigError, match="database: Redis replicates all"):
        load_settings(access_file(tmp_path, "redis", database="0"))


def test_replicas_to_be_found_are_replicas_to_read_from(tmp_path: Path) -> None:
    path = access_file(tmp_path, discover={"fra": ["10.2.0.0/16"]})
    data = yaml.safe_load(path.read_text())
    del data["backends"]["orders"]["replicas"]
    path.write_text(yaml.safe_dump(data))
    (environment,) = load_settings(path).catalog.environments()
    assert environment.reads_nearest == {"orders"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"kind": "http"},
            "backends.orders.replication: a backend of kind http has no replication",
        ),
        ({"password_file": "nowhere"}, "orders.replication.password_file: nowhere cannot be read"),
        ({"password_env": "X"}, "replication.password_file: set either this or"),
        (
            {"discover": {"bom": ["10.0.0.0/8"]}},
            "discover.bom: region 'bom' is not one of den, fra",
        ),
        ({"discover": {"fra": ["10.0.0.1/8"]}}, "discover.fra[0]: '10.0.0.1/8' is not a network"),
        ({"discover": {"fra": ["db.fra"]}}, "discover.fra[0]: 'db.fra' is not a network"),
        (
            {"discover": {"den": ["10.0.0.0/8"], "fra": ["10.0.0.0/8"]}},
            "10.0.0.0/8 is in den already",
        ),
        ({"max_lag": 0}, "backends.orders.replication.max_lag: Expected"),
        ({"interval": 0.1}, "backends.orders.replication.interval: Expected"),
        ({"lag": 3}, "backends.orders.replication: unknown key `lag`"),
    ],
)
def test_a_replication_account_that_cannot_be_used_is_refused_by_its_key(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(access_file(tmp_path, **change))
    assert told in str(caught.value)


def test_a_missing_package_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        ConfigError, match=r"needs the package psycopg; install onetrip\[replicas\]"
    ):
        load_settings(access_file(tmp_path))


def test_regions_of_endpoints_exist_and_bindings_keep_data_out_of_them(tmp_path: Path) -> None:
    path = access_file(tmp_path)
    data = yaml.safe_load(path.read_text())
    orders = data["backends"]["orders"]
    orders["region"], orders["replicas"]["fra"]["region"] = "den", "fra"
    environment = data["projects"]["shop"]["environments"]["production"]
    environment["bindings"]["db"]["deny"] = ["fra"]
    path.write_text(yaml.safe_dump(data))
    catalog = load_settings(path).catalog
    assert catalog.backends["orders"].places == {"orders": "den", "orders/fra": "fra"}
    assert catalog.environments()[0].data_deny == {"orders": {"fra"}}
    for where, entry in (("region", orders), ("replicas.fra.region", orders["replicas"]["fra"])):
        before = entry["region"]
        entry["region"] = "bom"
        path.write_text(yaml.safe_dump(data))
        with pytest.raises(ConfigError, match=f"backends.orders.{where}: region 'bom' is not one"):
            load_settings(path)
        entry["region"] = before
