"""onetrip and the proxies people would otherwise take, side by side on one machine, one core each.

    python tests/benchmark/bench_proxy.py [--only nginx haproxy onetrip] [--rounds 3] [--seconds 2]

Each proxy is pinned to one core, the application and the load to another. Rounds are interleaved,
because a shared machine drifts, and figures are medians over the rounds. What is measured:

* requests/s: `wrk`, 32 connections, 1 kB responses; and CPU time a request, which hardly depends on
  what else the machine does. Both as ratios to nginx.
* latency: a constant rate of requests, the same for all (`field/load.py` says how it counts), less
  what the application alone takes at that rate; as ratios to HAProxy.
* memory: growth by idle connections that have carried one request each, for 10,000 of them.
* bodies: bytes/s of 1 MB responses over 8 connections and of one response of 1 GB, ratios to nginx.

Needs `wrk` and `taskset`. Proxies that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from field.load import closed_load, download, hold_idle
from field.programs import FIELD, Ports, Start, absent

FOLDER = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Proxy:
    """A running proxy and what was measured of it."""

    name: str
    port: int
    pid: int
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    gigabyte: list[float] = field(default_factory=list)
    idle_memory: float | None = None

    def cpu_time(self) -> float:
        """Return the CPU time it has used, s."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> int:
        """Return its resident size, bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if child.poll() is not None:
            raise SystemExit(f"{child.args} ended with {child.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise SystemExit(f"{child.args} does not listen")


@contextlib.contextmanager
def running(core: int, start: Start, port: int) -> Iterator[int]:
    # The naive proxy prints a traceback for each connection that wrk cuts off at its end.
    child = subprocess.Popen(
        ["taskset", "-c", str(core), *start.command],
        env=os.environ | start.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, child)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def measure_closed(proxy: Proxy, core: int, options: argparse.Namespace) -> None:
    before = proxy.cpu_time()
    url = f"http://127.0.0.1:{proxy.port}/users/42"
    count, rate = closed_load(core, url, options.seconds, 32)
    proxy.rates.append(rate)
    proxy.cpu.append((proxy.cpu_time() - before) / count)


def measure_open(port: int, core: int, options: argparse.Namespace) -> tuple[float, float]:
    command = ["taskset", "-c", str(core), sys.executable, "-m", "field.load"]
    arguments = [str(port), str(options.rate), str(options.seconds)]
    done = subprocess.run(
        [*command, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise SystemExit(f"open load on port {port}: {done.stderr}")
    latencies = json.loads(done.stdout)
    return latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]


def measure_bodies(proxy: Proxy, core: int, options: argparse.Namespace) -> None:
    url = f"http://127.0.0.1:{proxy.port}/bytes/1000000"
    proxy.megabytes.append(closed_load(core, url, options.seconds / 2, 8)[1])
    size = int(options.large * 1e9)
    began = time.monotonic()
    got = download(proxy.port, size)
    if got != size:
        raise SystemExit(f"{proxy.name} sent {got} of {size} bytes")
    proxy.gigabyte.append(size / (time.monotonic() - began))


def measure_idle(proxy: Proxy, count: int) -> None:
    # What a first burst costs once is not the connections'.
    for sock in hold_idle(proxy.port, 50):
        sock.close()
    before = proxy.memory()
    held = hold_idle(proxy.port, count)
    proxy.idle_memory = (proxy.memory() - before) / count * 10_000
    for sock in held:
        sock.close()


def run(options: argparse.Namespace) -> list[Proxy]:
    cores = sorted(os.sched_getaffinity(0))
    core, load_core = cores[0], cores[-1]
    os.sched_setaffinity(0, {load_core})
    direct: tuple[list[float], list[float]] = ([], [])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = free_port()
        command = [sys.executable, "-m", "field.servers", "upstream", str(upstream)]
        start = Start(command, {"PYTHONPATH": str(FOLDER)})
        stack.enter_context(running(load_core, start, upstream))
        proxies = []
        for name in options.only:
            ports = Ports(free_port(), upstream, free_port())
            (folder / name).mkdir()
            start = FIELD[name](folder / name, ports)
            pid = stack.enter_context(running(core, start, ports.port))
            proxies.append(Proxy(name, ports.port, pid))
        for _ in range(options.rounds):
            for proxy in proxies:
                measure_closed(proxy, load_core, options)
            for figures, figure in zip(
                direct, measure_open(upstream, load_core, options), strict=True
            ):
                figures.append(figure)
            for proxy in proxies:
                p50, p99 = measure_open(proxy.port, load_core, options)
                proxy.p50.append(p50 - median(direct[0]))
                proxy.p99.append(p99 - median(direct[1]))
        for proxy in proxies:
            measure_bodies(proxy, load_core, options)
        for proxy in proxies:
            measure_idle(proxy, options.idle)
    return proxies


def report(proxies: list[Proxy], options: argparse.Namespace) -> None:
    by_name = {proxy.name: proxy for proxy in proxies}
    speed = by_name.get("nginx", proxies[0])
    latency = by_name.get("haproxy", proxies[0])
    print(
        f"speed, CPU time and bodies against {speed.name}; added latency at {options.rate:g}/s "
        f"against {latency.name}; memory of 10,000 idle connections (from {options.idle:,})"
    )
    print(
        f"{'proxy':<10}{'requests/s':>12}{'CPU/request':>13}{'p50':>7}{'p99':>7}"
        f"{'idle MB':>9}{'1 MB':>7}{f'{options.large:g} GB':>7}"
    )
    for proxy in proxies:
        ratios = [
            median(proxy.rates) / median(speed.rates),
            median(proxy.cpu) / median(speed.cpu),
            # A reference that adds nothing measurable gives no ratio.
            median(proxy.p50) / max(median(latency.p50), 1e-6),
            median(proxy.p99) / max(median(latency.p99), 1e-6),
            median(proxy.megabytes) / median(speed.megabytes),
            median(proxy.gigabyte) / median(speed.gigabyte),
        ]
        assert proxy.idle_memory is not None
        print(
            "{:<10}{:>12.2f}{:>13.2f}{:>7.2f}{:>7.2f}".format(proxy.name, *ratios[:4])
            + "{:>9.0f}{:>7.2f}{:>7.2f}".format(proxy.idle_memory / 1e6, *ratios[4:])
        )
    for name in ("onetrip", "compiled"):
        if name in by_name and "naive" in by_name:
            ratio = median(by_name[name].rates) / median(by_name["naive"].rates)
            print(f"{name} / naive: {ratio:.2f} requests/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=2000.0, help="of the constant load, 1/s")
    parser.add_argument("--idle", type=int, default=4000, help="idle connections held")
    parser.add_argument("--large", type=float, default=1.0, help="the large body, GB")
    parser.add_argument("--only", nargs="+", default=list(FIELD), choices=list(FIELD))
    options = parser.parse_args()
    for tool in ("wrk", "taskset"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed")
    for name in list(options.only):
        how = absent(name)
        if how is not None:
            print(f"{name} is left out: not here ({how})")
            options.only.remove(name)
    if not options.only:
        raise SystemExit("nothing to measure")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options.idle = min(options.idle, hard // 4)
    report(run(options), options)


if __name__ == "__main__":
    main()
