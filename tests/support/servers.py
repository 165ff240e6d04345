"""Real PostgreSQL, MariaDB and Redis for tests: started in a directory of their own, on loopback.

A program that is not installed skips the test, with its name; where the environment says CI=true
it fails instead, so that a missing package cannot turn the tests off unseen. PostgreSQL and
MariaDB refuse to run as root, so root starts them as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.ports import free_port

START_TIMEOUT = 60.0
"""Time for a server to accept connections, s."""

_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server, where it listens, its directory and its log."""

    port: int
    directory: Path
    log: Path

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return self.log.read_text(errors="replace")


def require_program(name: str, *places: Path) -> str:
    """Return the path of a program, or skip the test (fail it where CI=true)."""
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def running_postgres(
    *options: str, tls: tuple[Path, Path] | None = None
) -> Iterator[RunningServer]:
    """Run PostgreSQL; user `probe`, no password.

    Args:
        tls: certificate and key, to have it offer TLS.
    """
    initdb = require_program("initdb", *_POSTGRES)
    program = require_program("postgres", *_POSTGRES)
    with _directory() as directory:
        data = str(directory / "data")
        _run([initdb, "-D", data, "-U", "probe", "-A", "trust", "--no-sync"], directory)
        if tls is not None:
            options += ("-c", "ssl=on")
            for source, name in zip(tls, ("server.crt", "server.key"), strict=True):
                made = Path(shutil.copy(source, directory / "data" / name))
                made.chmod(0o600)
                if ids := _unprivileged():
                    os.chown(made, ids["user"], ids["group"])
        port = free_port()
        command = [program, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(directory)]
        with _process([*command, "-F", *options], directory, port) as server:
            _wait_until_ready(directory / "data" / "postmaster.pid", server)
            yield server


@contextmanager
def running_mariadb(*options: str, statements: Sequence[str] = ()) -> Iterator[RunningServer]:
    """Run MariaDB; `statements` run at its start."""
    install = require_program("mariadb-install-db")
    program = require_program("mariadbd")
    with _directory() as directory:
        data = f"--datadir={directory / 'data'}"
        auth = "--auth-root-authentication-method=normal"
        _run([install, "--no-defaults", data, auth, "--skip-test-db"], directory)
        init = directory / "init.sql"
        init.write_text("".join(f"{statement};\n" for statement in statements))
        port = free_port()
        command = [program, "--no-defaults", data, f"--port={port}", "--bind-address=127.0.0.1"]
        command += [f"--socket={directory / 'socket'}", f"--init-file={init}"]
        command += [f"--pid-file={directory / 'pid'}", "--innodb-buffer-pool-size=8M"]
        with _process([*command, *options], directory, port) as server:
            yield server


@contextmanager
def running_redis(*options: str) -> Iterator[RunningServer]:
    """Run Redis."""
    program = require_program("redis-server")
    with _directory() as directory:
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        with _process([*command, "--dir", str(directory), *options], directory, port) as server:
            yield server


@contextmanager
def running_server(
    command: list[str], port: int, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Run any other server, as the user of the tests, until it listens on `port`."""
    with (
        tempfile.TemporaryDirectory(prefix="onetrip-server-") as name,
        _process(command, Path(name), port, environment, ids={}) as server,
    ):
        yield server


def _unprivileged() -> dict[str, int]:
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid}


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="onetrip-server-") as name:
        ids = _unprivileged()
        if ids:
            os.chown(name, ids["user"], ids["group"])
        yield Path(name)


def _run(command: list[str], directory: Path) -> None:
    result = subprocess.run(
        command,
        cwd=directory,
        env=_environment(directory),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=_unprivileged().get("user"),
        group=_unprivileged().get("group"),
    )
    if result.returncode:
        pytest.fail(f"{command[0]} failed: {result.stdout[-500:]}{result.stderr[-500:]}")


@contextmanager
def _process(
    command: list[str],
    directory: Path,
    port: int,
    environment: Mapping[str, str] | None = None,
    ids: Mapping[str, int] | None = None,
) -> Iterator[RunningServer]:
    log = directory / "log"
    ids = _unprivileged() if ids is None else ids
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=_environment(directory) | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=ids.get("user"),
            group=ids.get("group"),
        )
    server = RunningServer(port, directory, log)
    try:
        _wait_until_open(process, server)
        yield server
    finally:
        _end(process)


def _wait_until_open(process: subprocess.Popen[bytes], server: RunningServer) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1.0).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"server did not start: {server.log_text()[-1000:]}")


def _wait_until_ready(status: Path, server: RunningServer) -> None:
    # PostgreSQL listens before it takes sessions, and then writes "ready" as the eighth line.
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if status.read_text(encoding="ascii").splitlines()[7:8] == ["ready   "]:
            return
        time.sleep(0.05)
    pytest.fail(f"server did not get ready: {server.log_text()[-1000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _environment(directory: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(directory), "LC_ALL": "C"}
