"""What a routing relay costs and saves: through it against direct, side by side on loopback.

    python tests/benchmark/bench_route.py [--connects 60] [--trips 1500] [--rounds 5] [--delay 0]

PostgreSQL must be installed; it and the relay are processes of their own. Direct and relayed turns
alternate in short rounds, because a shared machine drifts, and the ratio is of the two medians.
*connect* is a new session with one query: direct it pays the set-up at the server, relayed it
borrows a connection that is open. *trip* is one query in an open session.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.ports import free_port
from support.servers import running_postgres

HOST = "127.0.0.1"
LIMIT = 1.0
"""Most that a relayed connect with a query may take, as a ratio to a direct one."""


@contextlib.contextmanager
def relay(database: int) -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "password").write_text("geheim-4711")
        (folder / "route.yaml").write_text(
            f"primary: {{address: '{HOST}:{database}', tls: off}}\n"
            "accounts: {probe: {password_file: password}}\n"
        )
        command = [sys.executable, "-m", "onetrip.cli.main", "relay", "postgres"]
        command += ["--listen", f"{HOST}:{port}", "--backend", "db"]
        child = subprocess.Popen(
            [*command, "--route", str(folder / "route.yaml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(500):
                with contextlib.suppress(psycopg.OperationalError):
                    connect(port).close()
                    break
                time.sleep(0.02)
            else:
                raise SystemExit(f"the relay does not listen on {port}")
            yield port
        finally:
            child.terminate()
            child.wait(20)


def connect(port: int) -> psycopg.Connection:
    where = f"host={HOST} port={port} user=probe password=geheim-4711 dbname=postgres"
    return psycopg.connect(where, autocommit=True, sslmode="disable")


def timed(count: int, work: Callable[[], None]) -> list[float]:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def one_session(port: int) -> None:
    with connect(port) as session:
        session.execute("SELECT 1")


def compare(ports: dict[str, int], count: int, rounds: int, *, connects: bool) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ports}
    with contextlib.ExitStack() as stack:
        sessions = {name: stack.enter_context(connect(port)) for name, port in ports.items()}
        for _ in range(rounds):
            for name, port in ports.items():
                if connects:
                    found[name] += timed(count // rounds, lambda port=port: one_session(port))
                else:
                    ask = sessions[name].execute
                    found[name] += timed(count // rounds, lambda ask=ask: ask("SELECT 1"))
    return {name: median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connects", type=int, default=60)
    parser.add_argument("--trips", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with running_postgres() as server, relay(server.port) as port:
        ports = {"direct": server.port, "relayed": port}
        connects = compare(ports, options.connects, options.rounds, connects=True)
        trips = compare(ports, options.trips, options.rounds, connects=False)
    for name, found in (("connect", connects), ("trip", trips)):
        ratio = found["relayed"] / found["direct"]
        values = "  ".join(f"{key} {value * 1e3:7.3f} ms" for key, value in found.items())
        print(f"{name:8} {values}  ratio {ratio:.2f}")
    if connects["relayed"] > LIMIT * connects["direct"]:
        raise SystemExit(f"a relayed connect takes more than {LIMIT:g} of a direct one")


if __name__ == "__main__":
    main()
