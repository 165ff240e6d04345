"""nginx configurations as drafts: what is carried over, and what the report says of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onetrip.cli.importing import render
from onetrip.cli.imports import nginx_files
from onetrip.cli.imports.draft import Draft, RegionMap
from onetrip.cli.imports.nginx import import_nginx
from onetrip.cli.imports.nginx_files import read_nginx
from onetrip.cli.imports.nginx_settings import seconds, size
from onetrip.cli.imports.report import Finding, Outcome, text
from onetrip.errors import ConfigError

pytest.importorskip("crossplane")

DEN = RegionMap.parse("den", ())


def written(folder: Path, config: str) -> Path:
    path = folder / "nginx.conf"
    path.write_text(config.replace("FOLDER", str(folder)))
    return path


def imported(folder: Path, config: str, *hosts: str) -> tuple[dict[str, Any], Draft]:
    path = written(folder, config)
    draft = import_nginx(path, hosts)
    return yaml.safe_load(render(draft, path, DEN)), draft


def production(data: dict[str, Any], project: str) -> dict[str, Any]:
    found: dict[str, Any] = data["projects"][project]["environments"]["production"]
    return found


def finding(draft: Draft, directive: str) -> Finding:
    found = [each for each in draft.report.findings if each.directive.startswith(directive)]
    assert len(found) == 1, [str(each) for each in draft.report.findings]
    return found[0]


def server(*lines: str, name: str = "shop.test") -> str:
    return f"server {{ listen 80; server_name {name};\n" + "\n".join(lines) + "\n}\n"


HOST = "proxy_set_header Host $host;"
ROOT = f"location / {{ proxy_pass http://127.0.0.1:9000; {HOST} }}"


def test_upstream_becomes_instances(tmp_path: Path) -> None:
    config = (
        "upstream app { zone app 64k; server 10.0.0.1:9000 max_conns=7; server 10.0.0.2; "
        "server 10.0.0.3 down; keepalive 32; }\n"
        + server(f"location / {{ proxy_pass http://app; {HOST} }}")
    )
    data, draft = imported(tmp_path, config)
    assert production(data, "shop-test") == {
        "hosts": ["shop.test"],
        "capacity": 7,
        "instances": {"den": ["10.0.0.1:9000", "10.0.0.2:80"]},
    }
    assert data["proxy"] == {"body_limit": 1048576, "pool_idle": 32}
    assert data["listen"] == "0.0.0.0:80"
    assert draft.report.is_exact
    assert "marked down" in finding(draft, "server 10.0.0.3").detail


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("server 10.0.0.2 backup;", "next-best region"),
        ("server 10.0.0.2 weight=3;", "without its weight"),
        ("server unix:/run/app.sock;", "listen on TCP"),
        ("ip_hash;", "sessions"),
    ],
)
def test_what_an_upstream_cannot_keep_is_left_out(tmp_path: Path, line: str, why: str) -> None:
    config = f"upstream app {{ server 10.0.0.1;\n{line} }}\n" + server(
        f"location / {{ proxy_pass http://app; {HOST} }}"
    )
    _, draft = imported(tmp_path, config)
    found = finding(draft, line.rstrip(";"))
    assert (found.outcome, found.line) == (Outcome.LEFT_OUT, 2)
    assert why in found.detail


def test_regions_come_from_networks_and_names(tmp_path: Path) -> None:
    config = (
        "upstream app { server 10.1.0.1; server 10.1.9.1; server a.bom.test; server x.test; }\n"
        + server(f"location / {{ proxy_pass http://app; {HOST} }}")
    )
    path = written(tmp_path, config)
    regions = RegionMap.parse(None, ("10.1.0.0/16=den", "10.1.9.0/24=fra", "*.bom.test=bom"))
    draft = import_nginx(path, ())
    data = yaml.safe_load(render(draft, path, regions))
    assert production(data, "shop-test")["instances"] == {
        "den": ["10.1.0.1:80"],
        "fra": ["10.1.9.1:80"],
        "bom": ["a.bom.test:80"],
        "main": ["x.test:80"],
    }
    assert finding(draft, "x.test:80").outcome is Outcome.DECIDE
    for wrong in ("10.1.0.0/16", "=den", "10.0.0.0/8=Denver!"):
        with pytest.raises(ConfigError, match="--map"):
            RegionMap.parse(None, (wrong,))
    with pytest.raises(ConfigError, match="--region"):
        RegionMap.parse("Not A Name", ())


def test_locations_become_sites_by_prefix(tmp_path: Path) -> None:
    config = server(
        ROOT,
        f"location /api/ {{ proxy_pass http://127.0.0.1:9001/api/; {HOST} }}",
        f"location /same {{ proxy_pass http://127.0.0.1:9000; {HOST} }}",
        f"location /v1 {{ proxy_pass http://127.0.0.1:9002; {HOST} }}",
        f"location /cut/ {{ proxy_pass http://127.0.0.1:9003/; {HOST} }}",
        f"location = /one {{ proxy_pass http://127.0.0.1:9003; {HOST} }}",
        f"location ~ ^/(a|b) {{ proxy_pass http://127.0.0.1:9003; {HOST} }}",
    )
    data, draft = imported(tmp_path, config)
    assert list(data["projects"]) == ["shop-test", "shop-test-v1", "shop-test-api"]
    assert production(data, "shop-test-api")["path_prefix"] == "/api"
    assert finding(draft, "location /api/").outcome is Outcome.CARRIED
    assert finding(draft, "location /same").outcome is Outcome.CARRIED
    assert finding(draft, "location /v1").outcome is Outcome.CHANGED
    for left in ("location /cut/", "location = /one", "location ~ ^/(a|b)"):
        assert finding(draft, left).outcome is Outcome.LEFT_OUT
    assert "9003" not in str(data)


def test_files_become_assets(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    config = server(
        ROOT,
        "location /static/ { alias FOLDER/static/; expires 30d; add_header Cache-Control public; }",
    )
    data, draft = imported(tmp_path, config)
    assert production(data, "shop-test")["assets"] == {
        "directory": str(tmp_path / "static"),
        "prefix": "/static",
        "cache_control": [{"path": "/**", "value": "max-age=2592000, public"}],
    }
    assert finding(draft, "location /static/").outcome is Outcome.CHANGED


def test_single_page_application_keeps_its_api(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    config = server(
        "root FOLDER/dist;",
        "location / { try_files $uri $uri/ /index.html; }",
        r"location ~* \.(?:css|js|woff2?)$ { expires max; }",
        f"location /api/ {{ proxy_pass http://127.0.0.1:9001; {HOST} }}",
    )
    data, _ = imported(tmp_path, config)
    found = production(data, "shop-test")
    assert found["routes"] == [{"path": "/api/**"}]
    assert found["assets"]["spa"] is True
    assert {rule["path"] for rule in found["assets"]["cache_control"]} == {
        *("*.css", "*.js", "*.woff", "*.woff2")
    }


def test_files_before_a_named_application(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    config = server(
        "root FOLDER/public;",
        "location / { try_files $uri @app; }",
        f"location @app {{ proxy_pass http://127.0.0.1:3000; {HOST} }}",
    )
    data, draft = imported(tmp_path, config)
    found = production(data, "shop-test")
    assert found["assets"] == {"directory": str(tmp_path / "public"), "index": None}
    assert found["instances"] == {"den": ["127.0.0.1:3000"]}
    assert draft.report.is_complete


def test_folder_that_is_not_here_is_left_out(tmp_path: Path) -> None:
    _, draft = imported(tmp_path, server(ROOT, "location /static/ { alias /nowhere/at/all/; }"))
    assert finding(draft, "alias").outcome is Outcome.LEFT_OUT
    assert finding(draft, "location /static/").outcome is Outcome.LEFT_OUT


def test_settings_are_the_largest(tmp_path: Path) -> None:
    config = server(
        f"location / {{ proxy_pass http://127.0.0.1:1; {HOST} proxy_read_timeout 90s;"
        " client_max_body_size 8m; }",
        f"location /up/ {{ proxy_pass http://127.0.0.1:2; {HOST} proxy_read_timeout 5m;"
        " client_max_body_size 1g; }",
        "keepalive_timeout 0;",
    )
    data, draft = imported(tmp_path, config)
    assert data["proxy"] == {"body_limit": 1 << 30, "read_timeout": 300}
    assert finding(draft, "proxy_read_timeout 90s").outcome is Outcome.CHANGED
    assert finding(draft, "client_max_body_size 8m").outcome is Outcome.CHANGED
    assert finding(draft, "keepalive_timeout").outcome is Outcome.LEFT_OUT


def test_host_that_nginx_would_have_changed_is_told(tmp_path: Path) -> None:
    _, draft = imported(tmp_path, server("location / { proxy_pass http://127.0.0.1:9000; }"))
    changed = draft.report.of(Outcome.CHANGED)
    assert ["client's Host" in each.detail for each in changed] == [True]


def test_server_without_a_name_needs_one(tmp_path: Path) -> None:
    config = f"server {{ listen 80 default_server; server_name _; {ROOT} }}"
    with pytest.raises(ConfigError, match="nothing in it"):
        imported(tmp_path, config)
    data, _ = imported(tmp_path, config, "shop.test")
    assert production(data, "shop-test")["hosts"] == ["shop.test"]


def test_names_that_cannot_be_hosts_are_left_out(tmp_path: Path) -> None:
    data, draft = imported(tmp_path, server(ROOT, name=r"a.test .b.test www.* ~^x\d+$"))
    assert production(data, "a-test")["hosts"] == ["a.test", "b.test", "*.b.test"]
    left = draft.report.of(Outcome.LEFT_OUT)
    assert [each.detail.split("'")[1] for each in left] == ["www.*", r"~^x\\d+$"]


def test_unknown_directives_are_never_dropped(tmp_path: Path) -> None:
    config = (
        "http {\nfancy_module on;\nlua { deep { deeper x; } }\n"
        "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s;\n" + server(ROOT) + "}"
    )
    _, draft = imported(tmp_path, config)
    told = {each.directive for each in draft.report.of(Outcome.LEFT_OUT)}
    assert told >= {"fancy_module on", "lua", "deep", "deeper x"}
    assert finding(draft, "fancy_module").line == 2
    assert "limit_req_zone" in " ".join(told)


def test_every_directive_is_in_the_report_or_of_a_block(tmp_path: Path) -> None:
    config = (
        "events { worker_connections 10; }\nhttp { map $http_upgrade $c { default upgrade; }\n"
        + server(ROOT, "gzip on;", "add_header X-A b;", "rewrite ^/a /b;")
        + "}"
    )
    _, draft = imported(tmp_path, config)
    places = {(each.line, each.directive.split()[0]) for each in draft.report.findings}
    for each in (found for top in read_nginx(tmp_path / "nginx.conf") for found in top.walk()):
        if each.name not in ("http", "server", "default"):
            assert (each.place.line, each.name) in places


def test_includes_are_read_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text(server(ROOT))
    data, draft = imported(tmp_path, "http { include conf.d/*.conf; include mime.types; }")
    assert "shop-test" in data["projects"]
    assert finding(draft, "location /").file.endswith("a.conf")
    assert finding(draft, "include").outcome is Outcome.BUILT_IN

    (tmp_path / "conf.d" / "a.conf").write_text("include nginx.conf;")
    with pytest.raises(ConfigError, match="includes itself"):
        import_nginx(written(tmp_path, "include conf.d/a.conf;"), ())
    with pytest.raises(ConfigError, match="is no file"):
        import_nginx(written(tmp_path, "include /dev/zero;"), ())


def test_limits_of_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_nginx(written(tmp_path, "a {" * 4000 + "}" * 4000))
    for number in range(20):
        (tmp_path / f"{number}.conf").write_text(f"include {number + 1}.conf;")
    with pytest.raises(ConfigError, match="deeper than limit of 16"):
        read_nginx(tmp_path / "0.conf")
    (tmp_path / "big.conf").write_bytes(b"#" * (nginx_files.MAX_FILE + 1))
    with pytest.raises(ConfigError, match="exceeds limit"):
        read_nginx(tmp_path / "big.conf")


@pytest.mark.parametrize("wrong", ["server {", "server { } }", "listen 80", "a 'b"])
def test_broken_file_is_one_error(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"nginx\.conf"):
        imported(tmp_path, wrong)


def test_absent_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_nginx(tmp_path / "none.conf")


def test_certificate_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    config = (
        "server { listen 443 ssl; server_name shop.test; ssl_certificate no.pem; "
        f"ssl_certificate_key no.key; {ROOT} }}"
    )
    data, draft = imported(tmp_path, config)
    assert "tls" not in data
    assert finding(draft, "ssl_certificate ").outcome is Outcome.LEFT_OUT
    assert "no certificate is left" in finding(draft, "listen 443").detail


def test_report_tells_the_worst_first(tmp_path: Path) -> None:
    _, draft = imported(tmp_path, server(ROOT, "gzip on;", "sendfile on;"))
    lines = text(draft.report).splitlines()
    assert lines[0] == "left out:"
    assert lines[1].startswith(f"  {tmp_path}/nginx.conf:3: gzip on: ")
    assert lines[-1].startswith("1 left out, ")


def test_terminal_is_not_steered_by_a_configuration(tmp_path: Path) -> None:
    _, draft = imported(tmp_path, server(ROOT, "evil '\x1b[2J';"))
    assert "\x1b" not in text(draft.report)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("60", 60), ("1h30m", 5400), ("500ms", 0.5), ("1M", 2_592_000), ("x", None)],
)
def test_times(given: str, wanted: float | None) -> None:
    assert seconds(given) == wanted


@pytest.mark.parametrize(
    ("given", "wanted"), [("0", 0), ("8k", 8192), ("1G", 1 << 30), ("-1", None)]
)
def test_sizes(given: str, wanted: int | None) -> None:
    assert size(given) == wanted
