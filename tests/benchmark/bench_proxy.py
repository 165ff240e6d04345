"""Requests per second of onetrip, nginx and a naive aiohttp proxy, side by side on one machine.

    python tests/benchmark/bench_proxy.py [--seconds 3] [--rounds 2] [--connections 32]

Every proxy and the upstream run as processes of their own. Proxies are pinned to one core, the
upstream and the load to another, so a figure is what one core of proxy gives. Rounds are
interleaved, because a shared machine drifts. The load is `wrk`; nginx and `wrk` must be installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median

BODY = b"x" * 1024
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: bench\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: 1024\r\nConnection: keep-alive\r\n\r\n" + BODY
)
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  keepalive_requests 1000000000;
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"""


class Upstream(asyncio.Protocol):
    """Answers every head with the same 1 kB; the cheapest server Python can be."""

    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        data = self.rest + data
        count = data.count(b"\r\n\r\n")
        self.rest = b"" if data.endswith(b"\r\n\r\n") else data.rpartition(b"\r\n\r\n")[2]
        if count:
            self.transport.write(RESPONSE * count)


def run_upstream(port: int) -> None:
    import uvloop

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(main())


def run_onetrip(port: int, upstream: int) -> None:
    import uvloop

    from onetrip.model.catalog import Catalog, Environment, EnvironmentId, Instance, Policy, Project
    from onetrip.model.topology import Endpoint, Region, RegionId, Topology
    from onetrip.net.dial import TcpDialer
    from onetrip.observe.logs import silent_log
    from onetrip.observe.metrics import Metrics
    from onetrip.proxy.listener import ProxyServer
    from onetrip.proxy.settings import ProxySettings
    from onetrip.timing import MonotonicClock

    region = RegionId("den")
    instance = Instance(region, Endpoint("127.0.0.1", upstream))
    environment = Environment(EnvironmentId("shop", "production"), ("127.0.0.1",), (instance,), {})
    catalog = Catalog({"shop": Project("shop", Policy(), {"production": environment})}, {}, 1)

    async def main() -> None:
        server = ProxyServer(
            ProxySettings(max_requests=1_000_000_000),
            region,
            TcpDialer(),
            MonotonicClock(),
            Random(1),
            Metrics(),
            silent_log(),
            None,
            secret=None,
            on_observation=lambda observation: None,
            is_ready=lambda target: True,
        )
        server.update(catalog, Topology({region: Region(region, "Denver")}))
        await server.start("127.0.0.1", port)
        await asyncio.Event().wait()

    if os.environ.get("ONETRIP_BENCH_PROFILE"):
        import cProfile

        profile = cProfile.Profile()

        async def profiled() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(os.environ["ONETRIP_BENCH_PROFILE"])):
                    await main()

        profile.enable()
        uvloop.run(profiled())
        profile.disable()
        profile.dump_stats("/tmp/onetrip.prof")
        return
    uvloop.run(main())


def run_naive(port: int, upstream: int) -> None:
    """The proxy everybody writes first: aiohttp server, aiohttp client session."""
    import aiohttp
    import uvloop
    from aiohttp import web

    async def handle(request: web.Request) -> web.StreamResponse:
        session = request.app["session"]
        headers = {k: v for k, v in request.headers.items() if k.lower() != "connection"}
        headers["X-Forwarded-For"] = request.remote or ""
        url = f"http://127.0.0.1:{upstream}{request.rel_url}"
        body = request.content if request.can_read_body else None
        async with session.request(request.method, url, headers=headers, data=body) as reply:
            response = web.StreamResponse(status=reply.status)
            for name, value in reply.headers.items():
                if name.lower() not in ("connection", "transfer-encoding"):
                    response.headers.add(name, value)
            await response.prepare(request)
            async for chunk in reply.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async def main() -> None:
        app = web.Application()
        app["session"] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256), auto_decompress=False
        )
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(main())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


@contextlib.contextmanager
def process(core: int, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    # The naive proxy prints a traceback for each connection that wrk cuts off at its end.
    child = subprocess.Popen(["taskset", "-c", str(core), *command], stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(10)


def measure(port: int, core: int, seconds: float, connections: int) -> tuple[float, float, float]:
    """Return (requests/s, p50, p99), times in ms."""
    url = f"http://127.0.0.1:{port}/users/42"
    done = subprocess.run(
        [*f"taskset -c {core} wrk -t1 -c{connections} -d{seconds:g}s --latency".split(), url],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        print(done, file=sys.stderr)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done)
    assert rate, done
    return float(rate[1]), _latency(done, "50%"), _latency(done, "99%")


def _latency(text: str, name: str) -> float:
    found = re.search(re.escape(name) + r"\s+([0-9.]+)(us|ms|s)", text)
    assert found, text
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def run(options: argparse.Namespace) -> None:
    cores = sorted(os.sched_getaffinity(0))
    proxy_core, load_core = cores[0], cores[-1]
    ports = {name: free_port() for name in ("upstream", *options.only)}
    me = [sys.executable, __file__, "--serve"]
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.only}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        upstream = str(ports["upstream"])
        stack.enter_context(process(load_core, *me, "upstream", upstream, "0"))
        for name in options.only:
            command = [*me, name, str(ports[name]), upstream]
            if name == "nginx":
                config = Path(folder, "nginx.conf")
                config.write_text(NGINX.format(folder=folder, port=ports[name], upstream=upstream))
                command = ["nginx", "-p", folder, "-c", str(config), "-e", f"{folder}/e.log"]
            stack.enter_context(process(proxy_core, *command))
        for port in ports.values():
            wait_for(port)
        for _ in range(options.rounds):
            for name in options.only:
                results[name].append(
                    measure(ports[name], load_core, options.seconds, options.connections)
                )
    report(results, options)


def report(
    results: dict[str, list[tuple[float, float, float]]], options: argparse.Namespace
) -> None:
    print(
        f"1 kB responses over keep-alive, {options.connections} connections, one core per proxy, "
        f"median of {options.rounds} rounds of {options.seconds:g} s"
    )
    print(f"{'proxy':<10}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    rates = {}
    for name, rounds in results.items():
        rate, p50, p99 = (median(column) for column in zip(*rounds, strict=True))
        rates[name] = rate
        print(f"{name:<10}{rate:>12,.0f}{p50:>9.2f}{p99:>9.2f}")
    for other in ("nginx", "naive"):
        if other in rates and "onetrip" in rates:
            print(f"onetrip / {other}: {rates['onetrip'] / rates[other]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", nargs="+", default=["nginx", "onetrip", "naive"])
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        name, port, upstream = options.serve
        if name == "upstream":
            run_upstream(int(port))
        else:
            {"onetrip": run_onetrip, "naive": run_naive}[name](int(port), int(upstream))
        return
    for tool in ("wrk", "taskset", *(["nginx"] if "nginx" in options.only else [])):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed")
    run(options)


if __name__ == "__main__":
    main()
