"""Caddy's configurations as drafts, from JSON and from Caddyfiles read without `caddy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.cli.importing import render
from onetrip.cli.imports import caddy_files
from onetrip.cli.imports.caddy import import_caddy
from onetrip.cli.imports.caddy_files import read_caddy
from onetrip.cli.imports.draft import Draft, RegionMap
from onetrip.cli.imports.report import Finding, Outcome
from onetrip.errors import ConfigError

DEN = RegionMap.parse("den", ())


def imported(folder: Path, config: str, *hosts: str) -> tuple[dict[str, Any], Draft]:
    path = folder / "Caddyfile"
    path.write_text(config.replace("FOLDER", str(folder)))
    draft = import_caddy(path, hosts, program="")
    return yaml.safe_load(render(draft, path, DEN)), draft


def production(data: dict[str, Any], project: str) -> dict[str, Any]:
    found: dict[str, Any] = data["projects"][project]["environments"]["production"]
    return found


def finding(draft: Draft, directive: str) -> Finding:
    found = [each for each in draft.report.findings if each.directive.startswith(directive)]
    assert len(found) == 1, [str(each) for each in draft.report.findings]
    return found[0]


def test_site_becomes_an_environment(tmp_path: Path) -> None:
    config = """
    http://shop.test, http://www.shop.test {
        reverse_proxy 10.0.0.1:9000 10.0.0.2 {
            lb_policy least_conn
            health_uri /healthz
            header_up Host {host}
        }
    }
    """
    data, draft = imported(tmp_path, config)
    assert production(data, "shop-test") == {
        "hosts": ["shop.test", "www.shop.test"],
        "health_path": "/healthz",
        "instances": {"den": ["10.0.0.1:9000", "10.0.0.2:80"]},
    }
    assert data["listen"] == "0.0.0.0:80"
    assert draft.report.is_exact


def test_one_site_needs_no_braces(tmp_path: Path) -> None:
    data, _ = imported(tmp_path, "http://a.test\nreverse_proxy localhost:3000\n")
    assert production(data, "a-test")["instances"] == {"den": ["localhost:3000"]}


def test_paths_become_prefixes(tmp_path: Path) -> None:
    config = """
    http://a.test {
        handle_path /cut/* {
            reverse_proxy localhost:1
        }
        handle /api/* {
            reverse_proxy localhost:2
        }
        reverse_proxy /v1* localhost:3
        reverse_proxy /one localhost:4
        @odd method POST
        reverse_proxy @odd localhost:5
        @named path /n/*
        reverse_proxy @named localhost:6
        reverse_proxy localhost:9
    }
    """
    data, draft = imported(tmp_path, config)
    prefixes = {
        entry["environments"]["production"].get("path_prefix"): entry["environments"]["production"][
            "instances"
        ]["den"]
        for entry in data["projects"].values()
    }
    assert prefixes == {
        None: ["localhost:9"],
        "/api": ["localhost:2"],
        "/v1": ["localhost:3"],
        "/n": ["localhost:6"],
    }
    left = {each.line: each.detail for each in draft.report.of(Outcome.LEFT_OUT)}
    assert {*left} == {4, 10, 12}
    assert "without /cut" in left[4]
    assert "method" in left[12]
    assert finding(draft, "/v1*").outcome is Outcome.CHANGED


def test_files_and_an_api(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    config = """
    http://a.test {
        root * FOLDER/dist
        encode gzip
        handle /api/* {
            reverse_proxy localhost:2
        }
        handle {
            try_files {path} /index.html
            file_server
        }
    }
    """
    data, draft = imported(tmp_path, config)
    found = production(data, "a-test")
    assert found["assets"] == {"directory": str(tmp_path / "dist"), "spa": True}
    assert found["routes"] == [{"path": "/api/**"}]
    assert finding(draft, "encode").outcome is Outcome.LEFT_OUT


def test_what_is_not_known_is_never_dropped(tmp_path: Path) -> None:
    config = """
    {
        order something last
    }
    http://a.test {
        something odd {
            inner
        }
        php_fastcgi unix//run/php.sock
        basic_auth {
            bob x
        }
        reverse_proxy localhost:1 {
            weird thing
            transport http {
                tls_insecure_skip_verify
            }
        }
    }
    """
    _, draft = imported(tmp_path, config)
    assert {each.line for each in draft.report.of(Outcome.LEFT_OUT)} == {3, 6, 9, 10, 13}
    assert "reverse_proxy weird thing" in {each.directive for each in draft.report.findings}


def test_handlers_behind_one_that_answers_are_told(tmp_path: Path) -> None:
    _, draft = imported(
        tmp_path, "http://a.test {\nreverse_proxy localhost:1\nfile_server /static/*\n}\n"
    )
    assert "earlier handler" in finding(draft, "file_server").detail


def test_certificates_are_not_ordered_without_consent(tmp_path: Path) -> None:
    data, draft = imported(tmp_path, "a.test {\nreverse_proxy localhost:1\n}\n")
    assert "tls" not in data
    assert "terms" in finding(draft, "listen :443").detail


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("a.test {", "not closed"),
        ("a.test {\n}\n}\n", "without a {"),
        ("(snippet) {\nencode\n}\na.test {\n}\n", "snippets need caddy"),
        ("a.test {\nimport other\n}", "import needs caddy"),
        ("a.test {\nrespond <<EOF\n}", "<<EOF needs caddy"),
        ("a {\n" * 40, "nested deeper"),
        ("", "nothing in it"),
    ],
)
def test_broken_caddyfile_is_one_error(tmp_path: Path, config: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        imported(tmp_path, config)


def test_json_is_read_as_it_is(tmp_path: Path) -> None:
    route = {
        "match": [{"host": ["a.test"]}],
        "handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": "10.0.0.1:1"}], "odd": 1}],
    }
    path = tmp_path / "caddy.json"
    servers = {"srv0": {"listen": [":80"], "routes": [route], "strange": True}}
    path.write_text(json.dumps({"apps": {"http": {"servers": servers}, "layer4": {}}}))
    draft = import_caddy(path, ())
    assert draft.sites[0].hosts == ("a.test",)
    assert finding(draft, "reverse_proxy odd").outcome is Outcome.LEFT_OUT
    assert finding(draft, "strange").file.endswith("apps.http.servers.srv0.strange")
    assert finding(draft, "layer4").outcome is Outcome.LEFT_OUT


@pytest.mark.parametrize(
    "wrong", ["[]", "{", '{"apps": 1}', '{"apps": {"http": {"servers": {"a": []}}}}', "[" * 90000]
)
def test_broken_json_is_one_error(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "caddy.json"
    path.write_text(wrong)
    with pytest.raises(ConfigError, match=r"caddy\.json"):
        import_caddy(path, ())


def test_routes_in_routes_are_bounded(tmp_path: Path) -> None:
    routes: list[Any] = []
    for _ in range(100):
        routes = [{"handle": [{"handler": "subroute", "routes": routes}]}]
    path = tmp_path / "caddy.json"
    path.write_text(json.dumps({"apps": {"http": {"servers": {"s": {"routes": routes}}}}}))
    with pytest.raises(ConfigError, match="nested too deeply"):
        import_caddy(path, ())


def test_limits_of_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no file"):
        read_caddy(Path("/dev/zero"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_caddy(tmp_path / "none")
    (tmp_path / "big").write_bytes(b"#" * (caddy_files.MAX_FILE + 1))
    with pytest.raises(ConfigError, match="exceeds limit"):
        read_caddy(tmp_path / "big")
