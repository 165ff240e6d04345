"""Requests per second of a whole node with one worker and with several, side by side.

    python tests/benchmark/bench_workers.py [--workers 1 2] [--seconds 3] [--rounds 3]

Everything is as an operator runs it: `onetrip run`, scoring, metrics and an access log to a file.
Nothing is pinned: on a machine with few processors the load, the upstream and the workers compete,
so a second worker cannot double anything there; the figure for processors used says how many there
were to have. Rounds are interleaved. The load is `wrk`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.ports import free_ports
from support.served_node import ServedNode

BODY = b"x" * 1024
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + BODY
TICK = os.sysconf("SC_CLK_TCK")


class Upstream(asyncio.Protocol):
    """Answers every head with the same 1 kB; the cheapest server Python can be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        *heads, self.rest = (self.rest + data).split(b"\r\n\r\n")
        self.transport.write(RESPONSE * len(heads))


def run_upstream(port: int) -> None:
    """Be the application, until killed."""
    import uvloop

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Upstream, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(serve())


def processor_time(pids: list[int]) -> float:
    """Return what processes have used so far, s."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def resident(pid: int) -> int:
    """Return the resident memory of a process, KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


async def listening(port: int) -> None:
    """Wait until something listens on a port."""
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


async def pids_of(node: ServedNode) -> list[int]:
    """Return the processes of a node, its own first."""
    _, status = await node.call("GET", "/v1/status")
    return [node.pid, *(worker["pid"] for worker in status["workers"])]


async def measure(node: ServedNode, seconds: float, connections: int) -> tuple[float, float, float]:
    """Return (requests/s, p99 in ms, processors used by the node)."""
    pids = await pids_of(node)
    before = processor_time(pids)
    command = f"wrk -t1 -c{connections} -d{seconds:g}s --latency".split()
    command += ["-H", "Host: shop.test", f"http://127.0.0.1:{node.proxy}/users/42"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True
    )
    used = (processor_time(pids) - before) / seconds
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    late = re.search(r"99%\s+([0-9.]+)(us|ms|s)", done.stdout)
    assert rate, done.stdout
    assert late, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    return float(rate[1]), float(late[1]) * {"us": 0.001, "ms": 1.0, "s": 1e3}[late[2]], used


async def run(options: argparse.Namespace) -> None:
    """Start the nodes and the upstream, and measure."""
    results: dict[int, list[tuple[float, float, float]]] = {n: [] for n in options.workers}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (port,) = free_ports(1)
        serve = [sys.executable, __file__, "--upstream", str(port)]
        upstream = await asyncio.create_subprocess_exec(*serve)
        stack.push_async_callback(upstream.wait)
        stack.callback(upstream.kill)
        await listening(port)
        nodes = {}
        for count in options.workers:
            own = folder / str(count)
            own.mkdir()
            node = ServedNode(own, port)
            node.write_config(workers=count, log={"access": str(own / "access")})
            nodes[count] = await stack.enter_async_context(node)
        for _ in range(options.rounds):
            for count, node in nodes.items():
                results[count].append(await measure(node, options.seconds, options.connections))
        memory = {n: [resident(p) for p in await pids_of(node)] for n, node in nodes.items()}
    report(results, memory, options)


def report(
    results: dict[int, list[tuple[float, float, float]]],
    memory: dict[int, list[int]],
    options: argparse.Namespace,
) -> None:
    """Print the table."""
    processors = len(os.sched_getaffinity(0))
    print(
        f"1 kB responses over keep-alive, {options.connections} connections, {processors} "
        f"processors shared with load and upstream, median of {options.rounds} rounds of "
        f"{options.seconds:g} s"
    )
    print(f"{'workers':<9}{'requests/s':>12}{'p99 ms':>9}{'processors':>12}  memory MiB")
    for count, rounds in results.items():
        rate, p99, used = (median(column) for column in zip(*rounds, strict=True))
        sizes = " + ".join(f"{size / 1024:.0f}" for size in memory[count])
        print(f"{count:<9}{rate:>12,.0f}{p99:>9.2f}{used:>12.2f}  {sizes}")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream is not None:
        run_upstream(options.upstream)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed")
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
