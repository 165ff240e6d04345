"""A Redis primary with replicas on loopback, whose replication a test disturbs.

Each replica hears its primary through a `Valve`, which can be shut: bytes then wait, and no
connection ends. The user `default` has no password.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from onetrip.wire.redis_replication import (
    Bulk,
    RedisReply,
    RedisStanding,
    Said,
    command,
    parse_replication,
)
from support.ports import free_port
from support.restartable import Restartable, unprivileged
from support.servers import give_away, require_program, server_directory
from support.waits import soon

_OPTIONS = (
    *("--bind", "127.0.0.1", "--save", ""),
    *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
)


class Valve:
    """A relay of bytes to a port of this machine that a test opens and shuts."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_open = threading.Event()
        self._is_open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def open(self) -> None:
        """Pass on what waits, and what comes."""
        self._is_open.set()

    def shut(self) -> None:
        """Pass nothing on; connections stay."""
        self._is_open.clear()

    def aim(self, port: int) -> None:
        """Lead new connections to another port."""
        self._target = port

    def close(self) -> None:
        """End it and its connections."""
        self.open()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), 10)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._is_open.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class RedisServer:
    """One server of a group; primary or replica, whatever it is told to be.

    Attributes:
        name: "primary" or "replicaN", of its start.
        port: where it listens on loopback; stays the same over restarts.
    """

    def __init__(self, name: str, directory: Path, options: Sequence[str]) -> None:
        self.name = name
        self.port = free_port()
        program = require_program("redis-server")
        line = [program, "--port", str(self.port), "--dir", str(directory), *_OPTIONS, *options]
        self._program = Restartable(line, directory, self.port, ids=unprivileged())

    def start(self) -> None:
        """Start it, after `kill` too; what it is then is a primary."""
        self._program.start()

    def stop(self) -> None:
        """Shut it down in order."""
        self._program.stop()

    def kill(self) -> None:
        """Crash it."""
        self._program.kill()

    def pause(self) -> None:
        """Have it do nothing until `resume`; its connections stay."""
        self._program.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        self._program.signal(signal.SIGCONT)

    def run(self, *words: str) -> bytes:
        """Run a command on a connection of its own; give its string."""
        reader = RedisReply()
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(command(*(word.encode() for word in words)))
            while not reader.is_done:
                data = connection.recv(65536)
                if not data:
                    raise RuntimeError(f"{words}: no answer")
                reader.receive_data(data)
        (event,) = reader.next_events()
        if isinstance(event, Said):
            return event.text
        if isinstance(event, Bulk):
            return event.data
        raise RuntimeError(f"{words}: {event.code}")

    def log_text(self) -> str:
        """Return what it has logged."""
        return self._program.log_text()

    @property
    def standing(self) -> RedisStanding:
        """What it says of replication."""
        return parse_replication(self.run("INFO", "replication"))

    def has_all_of(self, primary: RedisServer) -> bool:
        """Tell whether a replica shows what `primary` has written by now."""
        theirs, own = primary.standing, self.standing
        return own.is_linked and own.id == theirs.id and own.offset >= theirs.offset

    def promote(self) -> None:
        """Make a replica a primary."""
        self.run("REPLICAOF", "NO", "ONE")

    def follow(self, port: int) -> None:
        """Have it replicate from whoever listens on a port."""
        self.run("REPLICAOF", "127.0.0.1", str(port))


class RedisGroup:
    """A primary and its replicas.

    Attributes:
        primary: where writes go; changed by `failover`.
        replicas: the others that run, in order.
        valves: what the replica of a name hears its primary through.
    """

    def __init__(self, primary: RedisServer, replicas: list[RedisServer]) -> None:
        self.primary = primary
        self.replicas = replicas
        self.valves = {replica.name: Valve(primary.port) for replica in replicas}

    @property
    def servers(self) -> list[RedisServer]:
        """All servers of the group."""
        return [self.primary, *self.replicas]

    def write(self, key: str = "key") -> None:
        """Have the primary write something."""
        self.primary.run("SET", key, "value")

    def settle(self) -> None:
        """Wait until every replica shows all that the primary has written by now."""
        for replica in self.replicas:
            soon(partial(replica.has_all_of, self.primary), replica.log_text)

    def failover(self, replica: RedisServer) -> RedisServer:
        """Crash the primary, promote `replica`, have the others follow it; give the crashed one."""
        old = self.primary
        old.kill()
        replica.promote()
        self.replicas.remove(replica)
        self.primary = replica
        for other in self.replicas:
            self.valves[other.name].aim(replica.port)
            other.follow(self.valves[other.name].port)
        return old


@contextmanager
def replicated_redis(replicas: int = 1, *, options: Sequence[str] = ()) -> Iterator[RedisGroup]:
    """Run a primary with replicas that have caught up with it.

    Args:
        options: for every server, such as `--user NAME RULES…`.
    """
    with server_directory() as root:
        servers: list[RedisServer] = []
        for name in ("primary", *(f"replica{n + 1}" for n in range(replicas))):
            directory = root / name
            directory.mkdir()
            give_away(directory)
            servers.append(RedisServer(name, directory, options))
        group = RedisGroup(servers[0], servers[1:])
        try:
            for each in servers:
                each.start()
            for each in group.replicas:
                each.follow(group.valves[each.name].port)
            group.settle()
            yield group
        finally:
            for valve in group.valves.values():
                valve.close()
            for each in reversed(servers):
                each.stop()
