"""What projects promise about reads: accepted, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.model.consistency import Carry
from onetrip.wire.consistency_token import project_key

KEY, OLDER = "k" * 32, "o" * 32


def file(tmp_path: Path, promise: Any, **top: Any) -> Path:
    """Write a file whose project reads from the nearest endpoint."""
    bindings = top.pop("bindings", {"db": {"backend": "orders", "reads": "nearest"}})
    environment = {
        "hosts": ["shop.example"],
        "instances": {"den": ["127.0.0.1:9000"]},
        "bindings": bindings,
    }
    orders = {"kind": "postgres", "address": "db:5432", "replicas": {"fra": {"address": "r:5432"}}}
    orders |= top.pop("orders", {"replication": {"user": "watcher"}})
    project = {"environments": {"production": environment}, "consistency": promise}
    data = {
        "regions": {"den": {}},
        "backends": {"orders": orders},
        "projects": {"shop": {**project, **top.pop("project", {})}},
        **top,
    }
    (tmp_path / "keys").write_text(f"{KEY}\n{OLDER}\n")
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


KEYS = {"key_file": "keys"}


def test_a_promise_has_keys_of_its_project_and_defaults(tmp_path: Path) -> None:
    settings = load_settings(file(tmp_path, {"mode": "session"}, consistency=KEYS))
    (environment,) = settings.catalog.environments()
    terms = environment.consistency
    assert terms is not None
    assert terms.keys == tuple(project_key(k.encode(), "shop") for k in (KEY, OLDER))
    assert (terms.wait, terms.carry, terms.max_age) == (0.2, Carry.COOKIE, 3600.0)
    assert KEY not in repr(terms)
    assert repr(terms.keys[0]) not in repr(settings.catalog)


def test_every_key_of_the_entry_counts(tmp_path: Path) -> None:
    entry = {"mode": "session", "wait": 0.5, "carry": "header", "max_age": 600}
    settings = load_settings(file(tmp_path, entry, consistency=KEYS))
    terms = settings.catalog.environments()[0].consistency
    assert terms is not None
    assert (terms.wait, terms.carry, terms.max_age) == (0.5, Carry.HEADER, 600.0)


def test_the_secret_of_the_cluster_will_do(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SECRET", "a secret with words in it")
    path = file(tmp_path, {"mode": "session"}, cluster={"secret_env": "SECRET"})
    terms = load_settings(path).catalog.environments()[0].consistency
    assert terms is not None
    assert terms.keys == (project_key(b"a secret with words in it", "shop"),)


@pytest.mark.parametrize("workers", [1, 2, "auto"])
def test_any_number_of_workers_keeps_a_promise(tmp_path: Path, workers: int | str) -> None:
    path = file(tmp_path, {"mode": "session"}, consistency=KEYS, workers=workers)
    assert load_settings(path).catalog.environments()[0].consistency is not None


def test_nothing_is_promised_unless_it_is_asked_for(tmp_path: Path) -> None:
    for entry in ({}, {"mode": "off"}):
        assert load_settings(file(tmp_path, entry)).catalog.environments()[0].consistency is None


@pytest.mark.parametrize(
    ("entry", "top", "told"),
    [
        ({"mode": "session"}, {}, "consistency: key_file or key_env is required"),
        ({"mode": "always"}, {}, "projects.shop.consistency.mode"),
        ({"mode": "session", "wait": 11}, {}, "projects.shop.consistency.wait"),
        ({"mode": "session", "max_age": 5}, {}, "projects.shop.consistency.max_age"),
        ({"mode": "session", "carry": "url"}, {}, "projects.shop.consistency.carry"),
        ({"mode": "session", "key": "x"}, {}, "unknown key"),
        ({"mode": "session"}, {"consistency": {"key_file": "no"}}, "consistency.key_file"),
        (
            {"mode": "session"},
            {"consistency": KEYS, "bindings": {"db": "orders"}},
            "projects.shop.consistency.mode: no binding has reads: nearest",
        ),
        (
            {"mode": "session"},
            {"consistency": KEYS, "orders": {}},
            "backends.orders.replication: an account is required",
        ),
        (
            {"mode": "session"},
            {"consistency": KEYS, "orders": {"kind": "redis"}},
            "projects.shop.consistency.mode: reads of 'orders' go to replicas of Redis",
        ),
        (
            {"mode": "session"},
            {"consistency": KEYS, "project": {"hedge": {"after": 1}}},
            "projects.shop.hedge",
        ),
        (
            {"mode": "session"},
            {"consistency": KEYS, "data_plane": "envoy"},
            "projects.shop.consistency",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(
    tmp_path: Path, entry: Any, top: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings(file(tmp_path, entry, **top))
    assert told in str(error.value)
    assert KEY not in str(error.value)


def account(**more: Any) -> dict[str, Any]:
    return {"replication": {"user": "watcher", **more}}


def test_relays_are_known_by_their_region(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token of the relays")
    urls = ["http://127.0.0.1:7201/", "https://10.0.0.5:7201"]
    orders = account(relays={"den": urls}, relay_token_file="token")
    path = file(tmp_path, {"mode": "session"}, consistency=KEYS, orders=orders)
    catalog = load_settings(path).catalog
    access = catalog.backends["orders"].replication
    assert access is not None
    assert access.relays == (("den", ("http://127.0.0.1:7201", "https://10.0.0.5:7201")),)
    assert access.relay_token == "a token of the relays"
    assert "a token" not in repr(catalog)


@pytest.mark.parametrize(
    ("orders", "told"),
    [
        (account(relays={"mars": ["http://a:1"]}), "backends.orders.replication.relays.mars"),
        (account(relays={"den": ["ftp://a:1"]}), "backends.orders.replication.relays"),
        (account(relays={"den": []}), "backends.orders.replication.relays"),
        (account(relay_token_file="no"), "backends.orders.replication.relay_token_file"),
        (
            {"kind": "mysql", **account(relays={"den": ["http://a:1"]})},
            "backends.orders.replication.relays: only PostgreSQL",
        ),
    ],
)
def test_relays_that_cannot_be_asked_are_refused(tmp_path: Path, orders: Any, told: str) -> None:
    path = file(tmp_path, {"mode": "session"}, consistency=KEYS, orders=orders)
    with pytest.raises(ConfigError) as error:
        load_settings(path)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([KEY, "short"], "consistency.key: key 2 of 5 bytes is below limit of 16"),
        ([KEY[:31] + str(n) for n in range(5)], "consistency.key: 5 keys exceed limit of 4"),
    ],
)
def test_keys_are_bounded(tmp_path: Path, keys: list[str], told: str) -> None:
    path = file(tmp_path, {"mode": "session"}, consistency=KEYS)
    (tmp_path / "keys").write_text("\n".join(keys))
    with pytest.raises(ConfigError, match=told):
        load_settings(path)
