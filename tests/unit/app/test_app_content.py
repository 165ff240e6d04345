"""What edges answer by themselves, as configured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.model.edge import Assets, CacheControlRule, CachePolicy

FILE = {
    "regions": {"den": {}},
    "projects": {
        "shop": {
            "environments": {
                "production": {
                    "hosts": ["shop.test"],
                    "instances": {"den": ["127.0.0.1:9000"]},
                    "path_prefix": "/shop",
                    "assets": {"directory": "dist"},
                }
            }
        }
    },
}


def load(tmp_path: Path, **assets: object) -> Assets:
    (tmp_path / "dist").mkdir(exist_ok=True)
    text = yaml.safe_dump(FILE)
    data = yaml.safe_load(text)
    environment = data["projects"]["shop"]["environments"]["production"]
    environment["assets"].update(assets)
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    project = load_settings(path).catalog.projects["shop"]
    found = project.environments["production"].assets
    assert found is not None
    assert project.environments["production"].asks_edge
    return found


def test_defaults(tmp_path: Path) -> None:
    assert load(tmp_path) == Assets(str(tmp_path / "dist"), "/shop", "index.html")


def test_every_key(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        directory=str(tmp_path / "dist"),
        prefix="/shop/static/",
        index="home.html",
        not_found="errors/404.html",
        spa=True,
        cache_control=[{"path": "/a/**", "value": "public, max-age=60"}],
    )
    rules = (CacheControlRule("/a/**", b"public, max-age=60"),)
    assert found == Assets(
        str(tmp_path / "dist"), "/shop/static", "home.html", "errors/404.html", True, rules
    )


def test_no_index(tmp_path: Path) -> None:
    assert load(tmp_path, index=None).index == ""


def test_link_to_the_directory_is_kept_as_one(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    assert load(tmp_path, directory="current").directory == str(tmp_path / "current")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("directory", "none", "assets.directory: none is not a directory"),
        ("directory", "onetrip.yaml", "assets.directory: onetrip.yaml is not a directory"),
        ("prefix", "/other", "assets.prefix: /other is not below path_prefix /shop"),
        ("prefix", "/shopping", "assets.prefix: /shopping is not below path_prefix /shop"),
        ("index", "a/b.html", "assets.index: 'a/b.html' is not the name of a file"),
        ("index", ".hidden", "assets.index"),
        ("index", "", "assets.index"),
        ("not_found", "../404.html", "assets.not_found"),
        ("not_found", "/404.html", "assets.not_found"),
        ("cache_control", [{"path": "*" * 9, "value": "a"}], "more than 8 wildcards"),
        ("cache_control", [{"path": "*", "value": "a\nb: c"}], "assets.cache_control[0].value"),
        ("cache_control", [{"path": "*"}], "missing key `value`"),
        ("compress", True, "unknown key `compress`"),
    ],
)
def test_bad_value_is_one_line(tmp_path: Path, key: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **{key: value})
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def load_cache(tmp_path: Path, **cache: object) -> CachePolicy | None:
    data = yaml.safe_load(yaml.safe_dump(FILE))
    project = data["projects"]["shop"]
    del project["environments"]["production"]["assets"]
    project["cache"] = cache
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    environment = load_settings(path).catalog.projects["shop"].environments["production"]
    assert environment.asks_edge is (environment.cache is not None)
    return environment.cache


def test_cache_is_off_unless_it_is_enabled(tmp_path: Path) -> None:
    assert load_cache(tmp_path) is None
    assert load_cache(tmp_path, max_size=1 << 20) is None
    assert load_cache(tmp_path, enabled=True) == CachePolicy()


def test_every_key_of_the_cache(tmp_path: Path) -> None:
    found = load_cache(
        tmp_path,
        enabled=True,
        max_size=1 << 20,
        max_object=1 << 10,
        heuristic=0.1,
        cookies=True,
        wait=0,
    )
    assert found == CachePolicy(1 << 20, 1 << 10, 0.1, True, 0)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("max_object", 1 << 27, "projects.shop.cache.max_object: 134217728 bytes is above"),
        ("heuristic", 0.6, "projects.shop.cache.heuristic"),
        ("wait", -1, "projects.shop.cache.wait"),
        ("max_age", 5, "unknown key `max_age`"),
    ],
)
def test_bad_cache_is_one_line(tmp_path: Path, key: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_cache(tmp_path, enabled=True, **{key: value})
    assert reason in str(caught.value)


def test_application_page_needs_an_index(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="spa: needs an index"):
        load(tmp_path, spa=True, index=None)
