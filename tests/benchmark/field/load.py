"""Load of two kinds, and the latencies each gives.

*Closed*: `wrk` keeps a number of connections busy, which shows the most a proxy can do. *Open*: one
request falls due every 1/rate s, whatever became of the earlier ones, and its latency counts from
then. So a proxy that stalls is charged for the requests it kept waiting (a closed load would send
fewer: G. Tene, "How NOT to Measure Latency", 2013), and every proxy has the same load.

    python -m field.load PORT RATE SECONDS      # prints JSON: latencies in seconds, sorted
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from time import perf_counter as now

MAX_CONNECTIONS = 256
TICK = 0.001
"""Requests that fall due within a tick leave together, s."""


class _Connection(asyncio.Protocol):
    """Sends one request at a time and reads a response of 1,024 bytes."""

    def __init__(self, on_done: Callable[[_Connection], None]) -> None:
        self.due = 0.0
        self._on_done = on_done
        self._seen = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self._seen += data
        end = self._seen.find(b"\r\n\r\n")
        if end >= 0 and len(self._seen) >= end + 4 + 1024:
            if not self._seen.startswith(b"HTTP/1.1 200"):
                raise SystemExit(self._seen[:200].decode())
            self._seen = b""
            self._on_done(self)

    def connection_lost(self, exc):
        if self.due:
            raise SystemExit("connection closed inside an exchange")


async def open_load(port: int, rate: float, seconds: float, warm_up: float = 0.3) -> list[float]:
    """Return the sorted latencies of a constant rate of requests, s."""
    loop = asyncio.get_running_loop()
    request = b"GET /users/42 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port
    idle: list[_Connection] = []
    waiting: deque[float] = deque()
    latencies: list[float] = []

    def send(connection: _Connection, due: float) -> None:
        connection.due = due
        connection.transport.write(request)

    def done(connection: _Connection) -> None:
        latencies.append(now() - connection.due)
        connection.due = 0.0
        if waiting:
            send(connection, waiting.popleft())
        else:
            idle.append(connection)

    for _ in range(MAX_CONNECTIONS):
        _, made = await loop.create_connection(lambda: _Connection(done), "127.0.0.1", port)
        idle.append(made)
    start, sent, warm = now(), 0, int(rate * warm_up)
    gc.disable()
    while (elapsed := now() - start) < seconds + warm_up:
        for number in range(sent, int(elapsed * rate)):
            due = start + number / rate
            if idle:
                send(idle.pop(), due)
            else:
                waiting.append(due)
            sent = number + 1
        if sent >= warm > 0:
            warm = 0
            latencies.clear()
        await asyncio.sleep(TICK)
    for connection in idle:
        connection.transport.close()
    return sorted(latencies)


def closed_load(core: int, url: str, seconds: float, connections: int) -> tuple[int, float]:
    """Return how many requests `wrk` got answered, and how many a second."""
    command = f"taskset -c {core} wrk -t1 -c{connections} -d{max(1, round(seconds))}s {url}".split()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=seconds + 30
    ).stdout
    if "Non-2xx" in done or "Socket errors: connect" in done:
        raise SystemExit(done)
    count = re.search(r"([0-9]+) requests in", done)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done)
    assert count, done
    assert rate, done
    return int(count[1]), float(rate[1])


def download(port: int, size: int) -> int:
    """Read one response of `size` bytes to its end; return how many body bytes came."""
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (size, port))
        first = sock.recv(65536)
        while b"\r\n\r\n" not in first:
            first += sock.recv(65536)
        got = len(first) - first.index(b"\r\n\r\n") - 4
        while got < size and (count := sock.recv_into(buffer)):
            got += count
    return got


def hold_idle(port: int, count: int) -> list[socket.socket]:
    """Return `count` connections that have carried one request each."""
    held = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 30)
        sock.sendall(b"GET /users/42 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < 1024:
            answer += sock.recv(65536)
        held.append(sock)
    return held


if __name__ == "__main__":
    import uvloop

    found = uvloop.run(open_load(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
    json.dump(found, sys.stdout)
