"""Requests per second of an Envoy that a node drives, beside those of a plain one.

    python tests/benchmark/bench_envoy.py [--seconds 3] [--rounds 7]

The plain Envoy has a static table of the same 20 routes to the same instance, the timeouts and path
rules that Envoy's documentation recommends at an edge, and no access log. The other one follows a
node (`onetrip run`): methods apart, a control group, headers of ours and the log that the node
learns from, as an operator has it. The instance is a third Envoy that answers by itself. Rounds are
interleaved and nothing is pinned: everything shares the processors, the node included. At the end
it tells how long a toggle takes until requests follow. Needs `wrk`, `envoy`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench_workers import processor_time

from onetrip.app.config import load_settings
from onetrip.app.envoy import bootstrap_of
from support.envoy import ask, get, running_envoy, serving
from support.ports import free_ports
from support.served_node import ServedNode

CONNECTIONS = 32
TOGGLES = 10
ROUTES = 20
PATH = "/items/42"
_TYPE = "type.googleapis.com/envoy.extensions.filters"
_HTTP = f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = f"{_TYPE}.http.router.v3.Router"


def plain(port: int, route: dict[str, Any], clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the whole configuration of an Envoy with one route."""
    matches: list[dict[str, Any]] = [
        {"safe_regex": {"regex": f"/part{number}/[^/]+"}} for number in range(ROUTES)
    ]
    routes = [{"match": match, **route} for match in [*matches, {"prefix": "/"}]]
    host = {"name": "all", "domains": ["*"], "routes": routes}
    manager = {
        "@type": _HTTP,
        "stat_prefix": "plain",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "60s",
        "common_http_protocol_options": {
            "idle_timeout": "60s",
            "headers_with_underscores_action": "DROP_HEADER",
        },
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "plain", "address": at(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def at(port: int) -> dict[str, Any]:
    """Return an address on loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(port: int) -> dict[str, Any]:
    """Return a cluster of one instance."""
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": at(port)}}]}]
    assignment = {"cluster_name": "app", "endpoints": endpoints}
    return {"name": "app", "type": "STATIC", "load_assignment": assignment}


async def load(port: int, seconds: int) -> float:
    """Return requests per second; every one has to be answered with 2xx."""
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-H", "Host: shop.test"),
        f"http://127.0.0.1:{port}{PATH}",
        stdout=asyncio.subprocess.PIPE,
    )
    told = (await process.communicate())[0].decode()
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", told)[0])


@contextlib.asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[ServedNode, dict[str, int]]]:
    """Run everything; yields the node and the ports of both Envoys."""
    app, port, control = free_ports(3)
    body = {"direct_response": {"status": 200, "body": {"inline_string": "x" * 1024}}}
    environment = {
        "hosts": ["shop.test"],
        "instances": {"here": [f"127.0.0.1:{app}"], "there": [f"127.0.0.1:{app}"]},
        "routes": [{"path": f"/part{number}/*"} for number in range(ROUTES)],
    }
    placement = {"mode": "smart", "control": 0.1}
    project = {"placement": placement, "environments": {"production": environment}}
    async with contextlib.AsyncExitStack() as stack:
        names = ("app", "plain", "driven")
        folders = {name: folder / name for name in names}
        for each in folders.values():
            each.mkdir()
        await stack.enter_async_context(running_envoy(plain(app, body, []), folders["app"]))
        route = {"route": {"cluster": "app", "timeout": "0s"}}
        await stack.enter_async_context(
            running_envoy(plain(port, route, [cluster(app)]), folders["plain"])
        )
        node = ServedNode(
            folder,
            app,
            data_plane="envoy",
            region="here",
            envoy={"listen": f"127.0.0.1:{control}"},
            score_interval=0.5,
            regions={"here": {}, "there": {}},
            projects={"shop": project},
        )
        await stack.enter_async_context(node)
        bootstrap = bootstrap_of(load_settings(node.config))
        await stack.enter_async_context(running_envoy(bootstrap, folders["driven"]))
        ports = {"plain": port, "driven": node.proxy}
        for each_port in ports.values():
            await serving(each_port)
        yield node, ports


async def toggle_time(node: ServedNode) -> float:
    """Return how long the worst of some toggles took until a request followed it, s."""
    worst = 0.0
    for number in range(TOGGLES):
        region, place = ("there", "remote-there") if number % 2 else ("here", "local-here")
        began = time.monotonic()
        patch = {"placement": {"mode": "smart", "hint": region}}
        assert (await node.call("PATCH", "/v1/projects/shop", patch))[0] == 200
        while (await ask(node.proxy, get()))[1].get("onetrip-placement") != place:
            pass
        worst = max(worst, time.monotonic() - began)
    return worst


async def measure(seconds: int, rounds: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as name:
        async with both(Path(name)) as (node, ports):
            patch = {"placement": {"mode": "smart", "hint": "there"}}
            await node.call("PATCH", "/v1/projects/shop", patch)
            for port in ports.values():
                await load(port, 2)
            await asyncio.sleep(2)
            found: dict[str, list[float]] = {kind: [] for kind in ports}
            for number in range(rounds):
                order = list(ports.items())
                for kind, port in order if number % 2 else reversed(order):
                    found[kind].append(await load(port, seconds))
            used = processor_time([node.pid])
            pairs = zip(found["driven"], found["plain"], strict=True)
            ratio = median(driven / plain for driven, plain in pairs)
            for kind, rates in found.items():
                print(f"{kind:8} {median(rates):10,.0f} requests/s")
            print(f"ratio    {ratio:10.3f}   (target 0.95)")
            print(f"node     {used:10.1f} s of processor time in all")
            entries = await node.metric("onetrip_xds_log_entries_total")
            print(f"entries  {entries:10,.0f}")
            print(f"toggle   {await toggle_time(node):10.3f} s until requests follow (limit 2)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    asyncio.run(measure(options.seconds, options.rounds))


if __name__ == "__main__":
    main()
