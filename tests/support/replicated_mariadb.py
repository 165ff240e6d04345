"""A MariaDB primary with GTID replicas on loopback, whose replication a test disturbs.

Users, from this machine and without TLS: `root` without a password, and `repl` with the password
`repl`, with which the replicas connect. All servers begin as copies of one data directory that is
made once a test run.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path

from support.ports import free_port
from support.restartable import Restartable, plain_environment, unprivileged
from support.servers import give_away, require_program, run_program, server_directory
from support.waits import soon

_OPTIONS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=2",
    "--log-bin=log",
    "--log-slave-updates",
    "--gtid-strict-mode",
    "--slave-net-timeout=4",
)


class MariadbServer:
    """One server of a group; primary or replica, whatever it is told to be.

    Attributes:
        number: its `server_id`.
        port: where it listens on loopback; stays the same over restarts.
    """

    def __init__(self, number: int, directory: Path, options: Sequence[str]) -> None:
        program = require_program("mariadbd")
        self.number = number
        self.port = free_port()
        self.directory = directory
        command = [program, "--no-defaults", f"--datadir={directory / 'data'}"]
        command += [f"--port={self.port}", f"--socket={directory / 'socket'}"]
        command += [f"--pid-file={directory / 'pid'}", f"--server-id={number}", *_OPTIONS, *options]
        self._program = Restartable(command, directory, self.port, ids=unprivileged())

    def start(self) -> None:
        """Start it, after `stop` or `kill` too; a replica goes on replicating."""
        self._program.start()

    def stop(self) -> None:
        """Shut it down in order."""
        self._program.stop()

    def kill(self) -> None:
        """Crash it."""
        self._program.kill()

    def query(self, *statements: str, database: str = "") -> list[list[str]]:
        """Run statements in a session of its own, committed; give the rows, as text."""
        client = require_program("mariadb")
        options = ["--no-defaults", f"--socket={self.directory / 'socket'}", "-u", "root", "-NB"]
        done = subprocess.run(
            [client, *options, database],
            input=";\n".join(statements) + ";\n",
            env=plain_environment(self.directory),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{statements}: {done.stderr.strip()}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def log_text(self) -> str:
        """Return what it has logged."""
        return self._program.log_text()

    @property
    def is_replica(self) -> bool:
        """Tell whether it is set up to replicate from another server."""
        return bool(self.query("SHOW SLAVE STATUS"))

    @property
    def written(self) -> str:
        """The GTID list after the last change of a primary."""
        return self.query("SELECT @@gtid_binlog_pos")[0][0]

    @property
    def replayed(self) -> str:
        """The GTID list up to which a replica has applied."""
        return self.query("SELECT @@gtid_slave_pos")[0][0]

    def has_replayed(self, position: str) -> bool:
        """Tell whether a replica has reached `position`, a GTID list."""
        return self.query(f"SELECT MASTER_GTID_WAIT('{position}', 0)") == [["0"]]

    def pause_replay(self) -> None:
        """Have a replica go on receiving, but show nothing new until `resume_replay`."""
        self.query("STOP SLAVE SQL_THREAD")

    def resume_replay(self) -> None:
        """Have a replica show what it has received, and go on."""
        self.query("START SLAVE")

    def delay_replay(self, delay: int) -> None:
        """Have a replica show each change `delay` whole seconds after the primary made it."""
        self.query("STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY={delay}", "START SLAVE")

    @property
    def received(self) -> str:
        """The GTID list up to which a replica has received changes, applied or not."""
        return self._status("Gtid_IO_Pos")

    @property
    def received_count(self) -> int:
        """How many changes a replica has received: the sequence number of the last one."""
        return int(self.received.rpartition("-")[2] or 0)

    def promote(self) -> None:
        """Make a replica a primary that takes writes, with everything that it has received."""
        self.query("STOP SLAVE IO_THREAD", "START SLAVE SQL_THREAD")
        received = self.received
        soon(partial(self.has_replayed, received), f"server {self.number} at {received}")
        self.query("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only=0")

    def _status(self, name: str) -> str:
        lines = [line for (line, *_) in self.query("SHOW SLAVE STATUS\\G")]
        found = [line.partition(": ")[2] for line in lines if line.strip().startswith(f"{name}:")]
        return found[0].strip() if found else ""

    def follow(self, primary: MariadbServer) -> None:
        """Have it replicate from `primary` from now on, and take no writes of others."""
        source = f"MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}"
        account = "MASTER_USER='repl', MASTER_PASSWORD='repl'"
        self.query(
            "STOP SLAVE",
            "SET GLOBAL read_only=1",
            f"CHANGE MASTER TO {source}, {account}, MASTER_CONNECT_RETRY=1, "
            "MASTER_USE_GTID=slave_pos",
            "START SLAVE",
        )


class MariadbGroup:
    """A primary and its replicas.

    Attributes:
        primary: where writes go; changed by `failover`.
        replicas: the others that run, in order.
    """

    def __init__(self, primary: MariadbServer, replicas: list[MariadbServer]) -> None:
        self.primary = primary
        self.replicas = replicas

    @property
    def servers(self) -> list[MariadbServer]:
        """All servers of the group."""
        return [self.primary, *self.replicas]

    def settle(self) -> None:
        """Wait until every replica shows all that the primary has written by now."""
        position = self.primary.written
        for replica in self.replicas:
            soon(partial(replica.has_replayed, position), f"server {replica.number} at {position}")

    def failover(self, replica: MariadbServer) -> MariadbServer:
        """Crash the primary, promote `replica`, have the others follow it; give the crashed one."""
        old = self.primary
        old.kill()
        replica.promote()
        self.replicas.remove(replica)
        self.primary = replica
        for other in self.replicas:
            other.follow(replica)
        return old


@contextmanager
def replicated_mariadb(
    replicas: int = 1, *, options: Sequence[str] = (), statements: Sequence[str] = ()
) -> Iterator[MariadbGroup]:
    """Run a primary with replicas that have caught up with it.

    Args:
        options: for every server, beside small ones for tests.
        statements: run on the primary at its start, such as `CREATE USER`.
    """
    with server_directory() as root:
        servers = [_make_server(number + 1, root, options) for number in range(1 + replicas)]
        group = MariadbGroup(servers[0], servers[1:])
        try:
            for each in servers:
                each.start()
            for each in group.replicas:
                each.follow(group.primary)
            account = "CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'repl'"
            grant = "GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'"
            group.primary.query(account, grant, *statements)
            group.settle()
            yield group
        finally:
            for each in reversed(servers):
                each.stop()


def _make_server(number: int, root: Path, options: Sequence[str]) -> MariadbServer:
    directory = root / f"server{number}"
    directory.mkdir()
    shutil.copytree(_template(), directory / "data")
    give_away(directory)
    return MariadbServer(number, directory, options)


@cache
def _template() -> Path:
    """Return a data directory that was made and never served; it goes with the process."""
    install = require_program("mariadb-install-db")
    directory = _stack.enter_context(server_directory())
    data = directory / "data"
    options = ["--skip-test-db", "--auth-root-authentication-method=normal", *_OPTIONS[2:4]]
    run_program([install, "--no-defaults", f"--datadir={data}", *options], directory)
    return data


_stack = ExitStack()
atexit.register(_stack.close)
