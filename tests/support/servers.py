"""Real PostgreSQL, MariaDB and Redis for tests: started in a directory of their own, on loopback.

A program that is not installed skips the test, with its name; where the environment says CI=true
it fails instead, so that a missing package cannot turn the tests off unseen. PostgreSQL and
MariaDB refuse to run as root, so root starts them as `nobody`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.ports import free_port
from support.restartable import START_TIMEOUT, Restartable, plain_environment, unprivileged

POSTGRES_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
"""Where Debian's packages put the programs that are not on the path, newest version first."""


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
    initdb = require_program("initdb", *POSTGRES_PLACES)
    program = require_program("postgres", *POSTGRES_PLACES)
    with server_directory() as directory:
        data = str(directory / "data")
        run_program([initdb, "-D", data, "-U", "probe", "-A", "trust", "--no-sync"], directory)
        if tls is not None:
            options += ("-c", "ssl=on")
            for source, name in zip(tls, ("server.crt", "server.key"), strict=True):
                made = Path(shutil.copy(source, directory / "data" / name))
                made.chmod(0o600)
                give_away(made)
        port = free_port()
        command = [program, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(directory)]
        with _process([*command, "-F", *options], directory, port) as server:
            wait_until_ready(directory / "data" / "postmaster.pid", server.log)
            yield server


@contextmanager
def running_mariadb(*options: str, statements: Sequence[str] = ()) -> Iterator[RunningServer]:
    """Run MariaDB; `statements` run at its start."""
    install = require_program("mariadb-install-db")
    program = require_program("mariadbd")
    with server_directory() as directory:
        data = f"--datadir={directory / 'data'}"
        auth = "--auth-root-authentication-method=normal"
        run_program([install, "--no-defaults", data, auth, "--skip-test-db"], directory)
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
    with server_directory() as directory:
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


@contextmanager
def server_directory() -> Iterator[Path]:
    """Give a directory that belongs to the user who runs the servers; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="onetrip-server-") as name:
        give_away(Path(name))
        yield Path(name)


def give_away(path: Path) -> None:
    """Make a file, or a folder and all in it, belong to the user who runs the servers."""
    if ids := unprivileged():
        for each in (path, *path.rglob("*")):
            os.chown(each, ids["user"], ids["group"])


def run_program(command: list[str], directory: Path) -> None:
    """Run a program to its end as the user who runs the servers; its failure fails the test."""
    result = subprocess.run(
        command,
        cwd=directory,
        env=plain_environment(directory),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=unprivileged().get("user"),
        group=unprivileged().get("group"),
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
    ids = unprivileged() if ids is None else ids
    program = Restartable(command, directory, port, environment, ids)
    try:
        program.start()
        yield RunningServer(port, directory, program.log)
    finally:
        program.stop()


def wait_until_ready(status: Path, log: Path) -> None:
    """Wait until PostgreSQL takes sessions; it listens before, and then writes a word about it.

    Args:
        status: its `postmaster.pid`, whose eighth line begins with the word.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if status.read_text(encoding="ascii").splitlines()[7:8] == ["ready   "]:
                return
        time.sleep(0.02)
    pytest.fail(f"server did not get ready: {log.read_text(errors='replace')[-1000:]}")
