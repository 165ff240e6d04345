"""What the relay adds to a round trip: relayed against direct, side by side on loopback.

    python tests/benchmark/bench_relay.py [--trips 4000] [--rounds 5] [--size 1000000]

The server is redis-server, which must be installed; it and the relay are processes of their own.
Direct and relayed trips alternate in short rounds, because a shared machine drifts, and the ratio
is of the two medians. Then large answers, as MB/s.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median, quantiles

LIMIT = 0.0002
"""Most time a trip may take longer at the median, s."""

HOST = "127.0.0.1"
GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], port: int) -> Iterator[None]:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, port), 1.0).close()
                break
            time.sleep(0.02)
        else:
            raise SystemExit(f"{command[0]} does not listen on {port}")
        yield
    finally:
        child.terminate()
        child.wait(20)


def connect(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port), 10.0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(min(size, 1 << 18)))


def store(sock: socket.socket, size: int) -> int:
    """Store a value of `size` bytes, and return the size of the reply that gives it back."""
    sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n" % (size, b"x" * size))
    read(sock, len(b"+OK\r\n"))
    return len(b"$%d\r\n\r\n" % size) + size


def trips(sock: socket.socket, count: int, reply: int) -> list[float]:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        sock.sendall(GET)
        read(sock, reply)
        taken.append(time.perf_counter() - start)
    return taken


def compare(ports: dict[str, int], count: int, rounds: int, size: int) -> dict[str, list[float]]:
    sockets = {name: connect(port) for name, port in ports.items()}
    reply = store(sockets["direct"], size)
    found: dict[str, list[float]] = {name: [] for name in ports}
    for sock in sockets.values():
        trips(sock, max(1, count // (10 * rounds)), reply)
    for _ in range(rounds):
        for name, sock in sockets.items():
            found[name] += trips(sock, count // rounds, reply)
    for sock in sockets.values():
        sock.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trips", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1_000_000)
    options = parser.parse_args()
    redis = shutil.which("redis-server")
    if redis is None:
        raise SystemExit("redis-server is not installed")
    server, own, nobody = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "onetrip.cli.main", "relay", "redis"]
    command += ["--listen", f"{HOST}:{own}", "--to", f"{HOST}:{server}", "--backend", "cache"]
    command += ["--report", f"http://{HOST}:{nobody}"]
    with (
        process([redis, "--port", str(server), "--bind", HOST, "--save", ""], server),
        process(command, own),
    ):
        ports = {"direct": server, "relayed": own}
        small = compare(ports, options.trips, options.rounds, 100)
        large = compare(ports, options.rounds * 40, options.rounds, options.size)
    middle = {name: median(taken) for name, taken in small.items()}
    for name, taken in small.items():
        p99 = quantiles(taken, n=100)[98]
        print(f"{name:8} median {middle[name] * 1e6:7.1f} µs   p99 {p99 * 1e6:7.1f} µs")
    added = middle["relayed"] - middle["direct"]
    verdict = "within" if added < LIMIT else "OVER"
    print(
        f"ratio {middle['relayed'] / middle['direct']:.2f}; "
        f"a trip takes {added * 1e6:.1f} µs longer, {verdict} the limit of {LIMIT * 1e6:.0f} µs"
    )
    speed = {name: options.size / median(taken) / 1e6 for name, taken in large.items()}
    print(
        f"answers of {options.size / 1e6:g} MB: direct {speed['direct']:.0f} MB/s, "
        f"relayed {speed['relayed']:.0f} MB/s"
    )
    return 0 if added < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
