"""A PostgreSQL primary with streaming standbys on loopback, whose replication a test disturbs.

All servers begin as copies of one cluster that is made once a test run: a copy of a cluster that
was shut down in order is a base backup, so a standby streams from the first moment on. User `probe`
is a superuser without password; `hba` lines, before that rule, may ask others for more.

Copies are made with `pg_basebackup` only where a server has a history of its own (`rejoin`).
"""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection

from support.ports import free_port
from support.restartable import Restartable, unprivileged
from support.servers import (
    POSTGRES_PLACES,
    give_away,
    require_program,
    run_program,
    server_directory,
    wait_until_ready,
)
from support.waits import soon

_OPTIONS = {
    "fsync": "off",
    "shared_buffers": "8MB",
    "max_wal_size": "64MB",
    "min_wal_size": "8MB",
    "wal_keep_size": "64MB",
    "wal_log_hints": "on",
    "wal_receiver_status_interval": "1",
    "wal_retrieve_retry_interval": "100ms",
    "autovacuum": "off",
}


class PostgresServer:
    """One server of a group; primary or standby, whatever it was when it started.

    Attributes:
        name: what it calls itself to its primary (`application_name`).
        port: where it listens on loopback; stays the same over restarts.
    """

    def __init__(self, name: str, directory: Path, options: Sequence[str]) -> None:
        program = require_program("postgres", *POSTGRES_PLACES)
        self.name = name
        self.port = free_port()
        self.directory = directory
        self.data = directory / "data"
        command = [program, "-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1"]
        command += ["-k", str(directory), *options]
        self._program = Restartable(command, directory, self.port, ids=unprivileged())

    def start(self) -> None:
        """Start it, after `stop` or `kill` too, and wait until it takes sessions."""
        self._program.start()
        wait_until_ready(self.data / "postmaster.pid", self._program.log)

    def stop(self) -> None:
        """Shut it down in order, without waiting for its sessions."""
        if self._program.is_running:
            with suppress(DatabaseError, InterfaceError, OSError):
                self.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
        self._program.stop()

    def kill(self) -> None:
        """Crash it: SIGKILL to all of its processes."""
        self._program.kill()

    def query(self, sql: str, **values: Any) -> list[list[Any]]:
        """Run one statement in a session of its own, committed; give its rows."""
        connection = Connection("probe", "127.0.0.1", "postgres", self.port, timeout=30)
        try:
            return connection.run(sql, **values) or []
        finally:
            connection.close()

    def log_text(self) -> str:
        """Return what it has logged."""
        return self._program.log_text()

    @property
    def is_standby(self) -> bool:
        """Tell whether it replays another server's changes."""
        return bool(self.query("SELECT pg_is_in_recovery()")[0][0])

    @property
    def written(self) -> str:
        """The position after the last committed change of a primary, as text.

        The position where the next record would begin may be beyond a page's header, which no
        standby reaches before there is a record.
        """
        return str(self.query("SELECT pg_current_wal_flush_lsn()")[0][0])

    @property
    def replayed(self) -> str:
        """The position up to which a standby has replayed, as text."""
        return str(self.query("SELECT pg_last_wal_replay_lsn()")[0][0])

    def has_replayed(self, position: str) -> bool:
        """Tell whether a standby has reached `position`."""
        return bool(
            self.query("SELECT pg_last_wal_replay_lsn() >= cast(:p as pg_lsn)", p=position)[0][0]
        )

    def pause_replay(self) -> None:
        """Have a standby go on receiving, but show nothing new until `resume_replay`."""
        self.query("SELECT pg_wal_replay_pause()")
        soon(lambda: self.query("SELECT pg_get_wal_replay_pause_state()") == [["paused"]])

    def resume_replay(self) -> None:
        """Have a standby show what it has received."""
        self.query("SELECT pg_wal_replay_resume()")

    def delay_replay(self, delay: float) -> None:
        """Have a standby show each commit `delay` seconds after the primary made it; 0 at once."""
        self.set("recovery_min_apply_delay", f"{round(delay * 1000)}ms")

    def set(self, name: str, value: str) -> None:
        """Change a setting of the whole server that a reload takes in."""
        self.query(f"ALTER SYSTEM SET {name} = '{value}'")
        self.query("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby a primary, and wait until it takes writes."""
        assert self.query("SELECT pg_promote(true, 60)") == [[True]]

    def follow(self, primary: PostgresServer) -> None:
        """Have a standby stream from another primary from now on."""
        self.set("primary_conninfo", _conninfo(primary, self.name).replace("'", "''"))


class PostgresGroup:
    """A primary and its standbys.

    Attributes:
        primary: where writes go; changed by `failover`.
        standbys: the others that run, in order.
    """

    def __init__(self, primary: PostgresServer, standbys: list[PostgresServer]) -> None:
        self.primary = primary
        self.standbys = standbys

    @property
    def servers(self) -> list[PostgresServer]:
        """All servers of the group."""
        return [self.primary, *self.standbys]

    def settle(self) -> None:
        """Wait until every standby shows all that the primary has written by now."""
        position = self.primary.written
        for standby in self.standbys:
            soon(partial(standby.has_replayed, position), f"{standby.name} at {position}")

    def failover(self, standby: PostgresServer) -> PostgresServer:
        """Crash the primary, promote `standby`, have the others follow it; give the crashed one."""
        old = self.primary
        old.kill()
        standby.promote()
        self.standbys.remove(standby)
        self.primary = standby
        for other in self.standbys:
            other.follow(standby)
        return old

    def rejoin(self, server: PostgresServer) -> None:
        """Bring a crashed server back as a standby, with a new copy of the primary's data."""
        shutil.rmtree(server.data)
        program = require_program("pg_basebackup", *POSTGRES_PLACES)
        source = ["-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "probe"]
        run_program(
            [program, "-D", str(server.data), "-c", "fast", "--no-sync", *source], server.directory
        )
        _make_standby(server, self.primary)
        server.start()
        self.standbys.append(server)


@contextmanager
def replicated_postgres(
    standbys: int = 1,
    *,
    hba: Sequence[str] = (),
    settings: Sequence[str] = (),
    statements: Sequence[str] = (),
) -> Iterator[PostgresGroup]:
    """Run a primary with standbys that have caught up with it.

    Args:
        hba: lines that stand before the one that lets everybody in without a password.
        settings: `name=value` for every server, beside small ones for tests.
        statements: run on the primary at its start, such as `CREATE ROLE`.
    """
    chosen = _OPTIONS | dict(each.split("=", 1) for each in settings)
    options = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
    with server_directory() as root:
        names = ["primary", *(f"standby{i + 1}" for i in range(standbys))]
        servers = [_make_server(name, root, hba, options) for name in names]
        group = PostgresGroup(servers[0], servers[1:])
        try:
            group.primary.start()
            for each in group.standbys:
                _make_standby(each, group.primary)
                each.start()
            for statement in statements:
                group.primary.query(statement)
            group.settle()
            yield group
        finally:
            for each in reversed(servers):
                each.stop()


def _make_server(
    name: str, root: Path, hba: Sequence[str], options: Sequence[str]
) -> PostgresServer:
    directory = root / name
    directory.mkdir()
    server = PostgresServer(name, directory, options)
    shutil.copytree(_template(), server.data)
    rules = server.data / "pg_hba.conf"
    rules.write_text("".join(f"{line}\n" for line in hba) + rules.read_text())
    give_away(directory)
    return server


def _make_standby(server: PostgresServer, primary: PostgresServer) -> None:
    (server.data / "standby.signal").touch()
    conninfo = _conninfo(primary, server.name)
    with (server.data / "postgresql.auto.conf").open("a", encoding="ascii") as file:
        file.write(f"primary_conninfo = '{conninfo}'\n")
    give_away(server.data)


def _conninfo(primary: PostgresServer, name: str) -> str:
    return f"host=127.0.0.1 port={primary.port} user=probe application_name={name}"


@cache
def _template() -> Path:
    """Return a cluster that was made and never started; it goes with the process."""
    initdb = require_program("initdb", *POSTGRES_PLACES)
    directory = _stack.enter_context(server_directory())
    data = directory / "data"
    options = ["-U", "probe", "-A", "trust", "--no-sync", "--wal-segsize=1"]
    run_program([initdb, "-D", str(data), *options], directory)
    return data


_stack = ExitStack()
atexit.register(_stack.close)
