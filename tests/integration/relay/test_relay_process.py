"""`onetrip relay` as a process: it serves, reports, drains on SIGTERM and refuses in one line."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.admin_server import admin_thread
from support.fake_view import FakeView
from support.ports import free_port, free_ports
from support.relayed import LOOPBACK
from support.waits import BOUND, soon

TOKEN = "a-token-for-tests"


@contextmanager
def relay(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    base = {k: v for k, v in os.environ.items() if not k.startswith("ONETRIP_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "onetrip.cli.main", "relay", *arguments],
        env=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=BOUND)


def connect(port: int) -> socket.socket:
    for _ in range(2000):
        try:
            return socket.create_connection((LOOPBACK, port), BOUND)
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise AssertionError("the relay does not listen")


def ask(sock: socket.socket, database: socket.socket, times: int) -> None:
    for _ in range(times):
        sock.sendall(b"PING\r\n")
        assert database.recv(64) == b"PING\r\n"
        database.sendall(b"+PONG\r\n")
        assert sock.recv(64) == b"+PONG\r\n"


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=BOUND) as reply:
        return str(reply.read().decode())


def test_it_serves_metrics_where_it_is_told_to() -> None:
    port, own = free_ports(2)
    with (
        socket.create_server((LOOPBACK, 0)) as listener,
        relay(
            *("redis", "--listen", f"{LOOPBACK}:{port}", "--backend", "sessions"),
            *("--to", f"{LOOPBACK}:{listener.getsockname()[1]}"),
            *("--report", f"http://{LOOPBACK}:{free_port()}", "--metrics", f"{LOOPBACK}:{own}"),
        ),
        connect(port) as sock,
    ):
        database, _ = listener.accept()
        ask(sock, database, 3)
        connect(own).close()
        told = scraped(own)
        assert 'onetrip_relay_sessions_open{backend="sessions"} 1.0' in told
        assert 'onetrip_relay_bytes_total{backend="sessions",direction="sent"} 18.0' in told
        assert "process_resident_memory_bytes" in told
        assert "\nonetrip_relay_transactions" not in told, "it routes nothing"
        database.close()


def test_it_relays_reports_and_drains(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    view, port = FakeView(), free_port()
    with (
        admin_thread(view, TOKEN) as api,
        socket.create_server((LOOPBACK, 0)) as listener,
        relay(
            *("redis", "--listen", f"{LOOPBACK}:{port}", "--backend", "sessions"),
            *("--to", f"{LOOPBACK}:{listener.getsockname()[1]}", "--report", api),
            *("--token-file", str(token), "--project", "shop", "--drain-timeout", "5"),
        ) as process,
    ):
        with connect(port) as sock:
            database, _ = listener.accept()
            ask(sock, database, 11)
            soon(lambda: sum(report.trips for report in view.flips) == 11)
            ask(sock, database, 3)
            process.send_signal(signal.SIGTERM)
            assert sock.recv(1) == b""  # silent, so it is closed
            database.close()
        _, errors = process.communicate(timeout=BOUND)
        assert process.returncode == 0, errors
    assert sum(report.trips for report in view.flips) == 14
    assert sum(report.connections for report in view.flips) == 1
    assert {(r.backend, r.project) for r in view.flips} == {("sessions", "shop")}
    assert len({report.relay for report in view.flips}) == 1
    events = [json.loads(line)["event"] for line in errors.splitlines()]
    assert events == ["relay.started", "relay.draining", "relay.stopped"]
    assert TOKEN not in errors


def test_it_works_without_a_node_and_says_so_once() -> None:
    port, nobody = free_port(), free_port()
    with (
        socket.create_server((LOOPBACK, 0)) as listener,
        relay(
            *("redis", "--listen", f"{LOOPBACK}:{port}", "--backend", "sessions"),
            *("--to", f"{LOOPBACK}:{listener.getsockname()[1]}"),
            *("--report", f"http://{LOOPBACK}:{nobody}"),
        ) as process,
    ):
        with connect(port) as sock:
            database, _ = listener.accept()
            ask(sock, database, 5)
            time.sleep(1.2)
            ask(sock, database, 5)
            database.close()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=BOUND)
        assert process.returncode == 0
    failures = [line for line in errors.splitlines() if "relay.report_failed" in line]
    assert len(failures) == 1
    assert json.loads(failures[0])["kind"] == "connect"


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("0.0.0.0:9464", "metrics is 0.0.0.0:9464; it must be on loopback"),
        ("9464", "--metrics: '9464' is not host:port"),
        ("127.0.0.1:1", "--metrics: 127.0.0.1:1: "),
    ],
)
def test_metrics_that_cannot_be_served_are_one_line_and_exit_code_2(where: str, told: str) -> None:
    with contextlib.ExitStack() as stack:
        if where == "127.0.0.1:1":  # taken
            taken = stack.enter_context(socket.create_server((LOOPBACK, 0)))
            where = f"{LOOPBACK}:{taken.getsockname()[1]}"
            told = f"--metrics: {where}: "
        options = ("--listen", f"{LOOPBACK}:{free_port()}", "--backend", "db")
        process = stack.enter_context(
            relay("mysql", *options, "--to", "127.0.0.1:1", "--metrics", where)
        )
        output, errors = process.communicate(timeout=BOUND)
    assert (process.returncode, output) == (2, "")
    assert told in errors
    assert [line for line in errors.splitlines() if not line.startswith("{")] == [
        errors.splitlines()[-1]
    ]


def test_an_address_that_cannot_be_bound_is_one_line_and_exit_code_2() -> None:
    options = ("--listen", "203.0.113.1:1", "--backend", "db", "--to", "127.0.0.1:1")
    with relay("mysql", *options) as process:
        output, errors = process.communicate(timeout=BOUND)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("onetrip: --listen: 203.0.113.1:1: ")
    assert errors.count("\n") == 1
