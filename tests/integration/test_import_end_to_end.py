"""The same requests to the original proxy and to a node with the imported file: same answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from onetrip.cli.importing import render
from onetrip.cli.imports.caddy import import_caddy
from onetrip.cli.imports.draft import RegionMap
from support.fake_upstream import Connection, FakeUpstream
from support.nginx_server import nginx_config, running_nginx
from support.node_process import running_node_process
from support.ports import free_port
from support.servers import require_program, running_server

pytest.importorskip("crossplane")

LEFT_OUT = 4


class Ask(NamedTuple):
    """A request."""

    path: str
    host: str = "shop.test"
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Answer(NamedTuple):
    """What a client sees of an answer, and what the instance saw of the request."""

    status: int
    kind: str
    caching: str | None
    body: bytes


def echo(name: str) -> Any:
    """Return a handler that tells who it is and what it was asked."""

    async def handle(connection: Connection) -> None:
        while data := await connection.read_request():
            head, _, body = data.partition(b"\r\n\r\n")
            line, *rest = head.decode("latin-1").split("\r\n")
            fields = {k.lower(): v.strip() for k, _, v in (each.partition(":") for each in rest)}
            names = ("host", "x-forwarded-for", "x-forwarded-proto", "cookie", "x-own")
            seen = {each: fields.get(each) for each in names}
            told = {"name": name, "line": line.split(" ")[:2], "seen": seen, "size": len(body)}
            reply = json.dumps(told).encode()
            status = b"404 Not Found" if "/missing" in line else b"200 OK"
            await connection.send(
                b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(reply), reply)
            )

    return handle


def ask(port: int, each: Ask) -> Answer:
    """Send a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        fields = {"Host": each.host, **each.headers}
        connection.request(each.method, each.path, each.body or None, fields)
        reply = connection.getresponse()
        kind, body = (reply.getheader("Content-Type") or "").partition(";")[0], reply.read()
        if reply.status == 413:  # what a proxy says of its own refusals is its own business
            kind, body = "", b""
        return Answer(reply.status, kind, reply.getheader("Cache-Control"), body)
    finally:
        connection.close()


def run_import(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onetrip.cli.main", "import", *arguments],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def files(folder: Path) -> Path:
    """Make the files that both proxies serve."""
    static = folder / "files" / "static"
    static.mkdir(parents=True)
    (static / "site.css").write_text("body { color: red }")
    (static / "page.html").write_text("<p>page</p>")
    return folder / "files"


SITES = """
  upstream app {{ server 127.0.0.1:{app}; keepalive 8; }}
  proxy_http_version 1.1;
  client_max_body_size 1k;
  proxy_set_header Host $host;
  proxy_set_header Connection "";
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{
    listen 127.0.0.1:{port};
    server_name shop.test *.shop.test;
    location / {{ proxy_pass http://app; }}
    location /api/ {{ proxy_pass http://127.0.0.1:{api}/api/; }}
    location /static/ {{ root {files}; expires 1h; }}
  }}
  server {{
    listen 127.0.0.1:{port};
    server_name other.test;
    location / {{ proxy_pass http://127.0.0.1:{api}; }}
  }}
"""

REQUESTS = [
    Ask("/"),
    Ask("/a/b%20c?q=1&q=2"),
    Ask("/api/orders/7?x=y"),
    Ask("/api/missing"),
    Ask("/static/site.css"),
    Ask("/static/page.html"),
    Ask("/orders", method="POST", body=b"x" * 900),
    Ask("/orders", method="POST", body=b"x" * 1100),
    Ask("/api/orders", method="PUT", body=b"yes"),
    Ask("/cookies", headers={"Cookie": "a=b; c=d", "X-Own": "kept"}),
    Ask("/", host="eu.shop.test"),
    Ask("/api/x", host="other.test"),
]


async def test_node_answers_as_nginx_did(tmp_path: Path) -> None:
    port = free_port()
    async with FakeUpstream(echo("app")) as app, FakeUpstream(echo("api")) as api:
        sites = SITES.format(app=app.port, api=api.port, port=port, files=files(tmp_path))
        config = nginx_config(tmp_path, sites)
        output = tmp_path / "imported.yaml"
        done = await asyncio.to_thread(
            run_import, "nginx", str(config), "--region", "here", "-o", str(output)
        )
        assert (done.returncode, done.stdout) == (0, ""), done
        imported = yaml.safe_load(output.read_text())
        del imported["listen"]
        (tmp_path / "node").mkdir()
        with running_nginx(config, port):
            async with running_node_process(tmp_path / "node", 1, config=imported) as node:
                for each in REQUESTS:
                    before = await asyncio.to_thread(ask, port, each)
                    after = await asyncio.to_thread(ask, node.port, each)
                    assert after == before, each


CADDYFILE = """
{{
  admin off
  auto_https off
}}
http://shop.test:{port} {{
  bind 127.0.0.1
  handle /api/* {{
    reverse_proxy 127.0.0.1:{api}
  }}
  reverse_proxy 127.0.0.1:{app}
}}
"""

CADDY_REQUESTS = [
    Ask("/"),
    Ask("/a/b%20c?q=1&q=2"),
    Ask("/api/orders/7?x=y"),
    Ask("/api/missing"),
    Ask("/orders", method="POST", body=b"x" * 1100),
    Ask("/cookies", headers={"Cookie": "a=b; c=d", "X-Own": "kept"}),
]


async def test_node_answers_as_caddy_did(tmp_path: Path) -> None:
    program, port = require_program("caddy"), free_port()
    async with FakeUpstream(echo("app")) as app, FakeUpstream(echo("api")) as api:
        config = tmp_path / "Caddyfile"
        config.write_text(CADDYFILE.format(app=app.port, api=api.port, port=port))
        imported, by_own_reader = (
            yaml.safe_load(
                render(import_caddy(config, (), by), config, RegionMap.parse("here", ()))
            )
            for by in (program, "")
        )
        assert by_own_reader["projects"] == imported["projects"]
        del imported["listen"]
        (tmp_path / "node").mkdir()
        command = [program, "run", "--config", str(config), "--adapter", "caddyfile"]
        with running_server(command, port):
            async with running_node_process(tmp_path / "node", 1, config=imported) as node:
                for each in CADDY_REQUESTS:
                    before = await asyncio.to_thread(ask, port, each)
                    after = await asyncio.to_thread(ask, node.port, each)
                    assert after == before, each


def test_exit_codes_and_report(tmp_path: Path) -> None:
    site = "server { server_name a.test; location / { proxy_pass http://127.0.0.1:1; %s } }"
    config = tmp_path / "site.conf"
    config.write_text(site % "proxy_set_header Host $host;")
    done = run_import("nginx", str(config), "--region", "den")
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["regions"] == {"den": {}}
    assert "carried over:" in done.stderr

    config.write_text(site % "gzip on;")
    done = run_import("nginx", str(config), "--region", "den", "--json")
    assert (done.returncode, done.stderr) == (LEFT_OUT, "")
    found = json.loads(done.stdout)
    assert found["complete"] is False
    left = [each for each in found["findings"] if each["outcome"] == "left out"]
    assert [each["directive"] for each in left] == ["gzip on"]
    assert "a-test" in found["config"]

    output = tmp_path / "onetrip.yaml"
    done = run_import("nginx", str(config), "--strict", "-o", str(output))
    assert (done.returncode, output.exists()) == (1, False)
    assert done.stderr.splitlines()[-1].startswith("onetrip: --strict")


def test_output_is_not_replaced_unasked_and_passes_the_check(tmp_path: Path) -> None:
    config, output = tmp_path / "site.conf", tmp_path / "onetrip.yaml"
    config.write_text(
        "server { server_name a.test; location / { proxy_pass http://127.0.0.1:1;"
        " proxy_set_header Host $host; } }"
    )
    output.write_text("mine")
    done = run_import("nginx", str(config), "-o", str(output))
    assert (done.returncode, output.read_text()) == (2, "mine")
    assert run_import("nginx", str(config), "-o", str(output), "--force").returncode == 0
    check = [sys.executable, "-m", "onetrip.cli.main", "check", "--config", str(output)]
    assert subprocess.run(check, timeout=60, check=False, capture_output=True).returncode == 0
