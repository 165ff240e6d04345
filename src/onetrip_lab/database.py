"""The lab's database: a private PostgreSQL when its programs are present, else the embedded one.

Both speak the PostgreSQL protocol, hold the same rows and run as a process of their own, so the
application cannot tell them apart and every query really crosses the relay.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pg8000.native

from onetrip.model.topology import Endpoint
from onetrip.timing import Clock, Deadline
from onetrip_lab import seed
from onetrip_lab.children import Child, Children, LabError

CHOICES = ("auto", "postgres", "embedded")

USER = "shop"
"""Superuser of the private cluster, and user of the application; there is no password."""

INITDB_TIMEOUT = 60.0
READY_TIMEOUT = 30.0
"""Bounds on making a cluster and on its first answer, s; both take about 1 s on an idle disk."""

_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)

_SETTINGS = {
    "listen_addresses": "",
    "port": "",
    "unix_socket_directories": "",
    "max_connections": "800",  # see embedded.MAX_CLIENTS
    "shared_buffers": "16MB",
    # The data dies with the lab: durability would only wait for the disk.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "logging_collector": "off",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True)
class RunningDatabase:
    """A database that answers. `product` is what people should be told it is."""

    product: str
    endpoint: Endpoint
    child: Child


def find_postgres(path: str | None = None) -> Path | None:
    """Return the folder that holds `postgres` and `initdb`, or None.

    Args:
        path: search path used instead of $PATH and the usual places.
    """
    folders = [Path(p) for p in (path or os.environ.get("PATH", "")).split(os.pathsep) if p]
    if path is None:
        for pattern in _PLACES:
            folders += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
            return folder
    return None


async def start_database(
    choice: str, endpoint: Endpoint, folder: Path, children: Children, clock: Clock
) -> RunningDatabase:
    """Start a database on `endpoint` with the shop's data in it.

    Args:
        choice: one of `CHOICES`; `auto` takes PostgreSQL if it is present and starts.
        folder: empty folder for its files; its owner changes when PostgreSQL must run as another
            user.

    Raises:
        LabError: it did not start, or PostgreSQL was asked for and is absent.
    """
    programs = find_postgres() if choice != "embedded" else None
    if choice == "postgres" and programs is None:
        raise LabError("no PostgreSQL found: neither postgres nor initdb is on the search path")
    if programs is None:
        return await _start_embedded(endpoint, children, clock)
    try:
        return await _start_postgres(programs, endpoint, folder, children, clock)
    except LabError:
        if choice == "postgres" or children.failure.done():
            raise
        return await _start_embedded(endpoint, children, clock)


async def _start_embedded(endpoint: Endpoint, children: Children, clock: Clock) -> RunningDatabase:
    command = [sys.executable, "-m", "onetrip_lab.embedded", "--listen", str(endpoint)]
    child = await children.start("database", command)
    await _wait_until_ready(endpoint, children, clock)
    return RunningDatabase("SQLite (embedded)", endpoint, child)


async def _start_postgres(
    programs: Path, endpoint: Endpoint, folder: Path, children: Children, clock: Clock
) -> RunningDatabase:
    user, group = _unprivileged()
    if user is not None:
        os.chown(folder, user, group or -1)
    data = folder / "pg"
    await asyncio.to_thread(_initdb, programs, data, user, group)
    settings = _SETTINGS | {"listen_addresses": endpoint.host, "port": str(endpoint.port)}
    command = [str(programs / "postgres"), "-D", str(data)]
    command += [word for k, v in settings.items() for word in ("-c", f"{k}={v}")]
    child = await children.start(
        "database",
        command,
        user=user,
        group=group,
        env=_environment(),
        cwd="/",  # ours may be closed to that user
        stop_signal=signal.SIGINT,  # "fast shutdown": does not wait for clients
    )
    await _wait_until_ready(endpoint, children, clock)
    version = await asyncio.to_thread(_load, endpoint, tuple(seed.statements()))
    return RunningDatabase(f"PostgreSQL {version}", endpoint, child)


def _unprivileged() -> tuple[int | None, int | None]:
    """Return the user and group to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None, None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise LabError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _environment() -> dict[str, str]:
    # Nothing of the person's PG* variables or locale may reach the private cluster.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _initdb(programs: Path, data: Path, user: int | None, group: int | None) -> None:
    command = [str(programs / "initdb"), "-D", str(data), "-U", USER, "-A", "trust"]
    command += ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=INITDB_TIMEOUT,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            env=_environment(),
            cwd="/",
        )
        rule = f"host all {USER} 127.0.0.0/8 trust\n"
        with (data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
            rules.write(rule)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise LabError(f"initdb failed: {lines[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"initdb failed: {error}") from error


async def _wait_until_ready(endpoint: Endpoint, children: Children, clock: Clock) -> None:
    deadline = Deadline.after(READY_TIMEOUT, clock)
    while True:
        children.check()
        try:
            await asyncio.to_thread(_load, endpoint, ())
            return
        except (pg8000.native.Error, OSError) as error:
            if not deadline.remaining(clock):
                raise LabError(
                    f"database did not answer on {endpoint} in {READY_TIMEOUT:g} s: {error}"
                ) from error
        await clock.sleep(0.05)


def _load(endpoint: Endpoint, statements: Sequence[str]) -> str:
    """Run `statements` and return the server's version."""
    with pg8000.native.Connection(
        USER, host=endpoint.host, port=endpoint.port, database="postgres", timeout=10
    ) as connection:
        for statement in statements:
            connection.run(statement)
        return str(connection.parameter_statuses.get("server_version", "?")).split()[0]
