"""Counts through real PostgreSQL, MariaDB and Redis, with their own clients, where installed."""

import asyncio
import contextlib
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pg8000.dbapi
import pg8000.native
import pytest

from onetrip.model.catalog import BackendKind
from onetrip.relay.server import Counts, RelayServer
from onetrip.timing import Clock
from support.clock import VirtualClock
from support.relayed import LOOPBACK, relayed
from support.servers import (
    RunningServer,
    require_program,
    running_mariadb,
    running_postgres,
    running_redis,
)
from support.waits import BOUND


@contextlib.contextmanager
def relay(
    kind: BackendKind, port: int, clock: Clock | None = None
) -> Iterator[tuple[RelayServer, int]]:
    """Run a relay on a thread of its own, for clients that block."""
    ready, ended = threading.Event(), asyncio.Event()
    found: list[tuple[RelayServer, int]] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with relayed(port, kind, clock=clock) as pair:
            found.append(pair)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(BOUND), "the relay did not start"
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(BOUND)
        loop.close()


def settle(server: RelayServer) -> Counts:
    """Return the counts once they have stood still for a moment; bytes are counted after sent."""
    before = None
    while before != (before := server.counts):
        time.sleep(0.05)
    return before


def certificate(folder: Path) -> None:
    """Make a self-signed certificate that a PostgreSQL server in `folder` can use."""
    openssl = require_program("openssl")
    key, cert = folder / "server.key", folder / "server.crt"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=BOUND)
    key.chmod(0o600)
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in (key, cert):
            os.chown(path, owner.st_uid, owner.st_gid)


@pytest.fixture(scope="module")
def postgres() -> Iterator[RunningServer]:
    with running_postgres() as server:
        with connect(server.port) as connection, cursor(connection) as sql:
            sql.execute("CREATE ROLE app LOGIN PASSWORD 'a-test-password'")
            certificate(server.directory / "data")
            sql.execute("ALTER SYSTEM SET ssl = on")
            sql.execute("SELECT pg_reload_conf()")
        yield server


@contextlib.contextmanager
def connect(port: int, tls: ssl.SSLContext | bool = False, **more: str) -> Iterator:
    options = {"user": "probe", "database": "postgres"} | more
    connection = pg8000.dbapi.connect(host=LOOPBACK, port=port, ssl_context=tls, **options)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def cursor(connection) -> Iterator:
    made = connection.cursor()
    yield made
    made.close()


@contextlib.contextmanager
def through(
    postgres: RunningServer,
    tls: ssl.SSLContext | bool = False,
    clock: Clock | None = None,
) -> Iterator[tuple[RelayServer, pg8000.dbapi.Connection, pg8000.dbapi.Cursor]]:
    """Connect through a relay; give it, the connection and a cursor."""
    with (
        relay(BackendKind.POSTGRES, postgres.port, clock) as (server, port),
        connect(port, tls) as connection,
        cursor(connection) as sql,
    ):
        yield server, connection, sql


def direct_answer(port: int, text: str) -> object:
    with connect(port) as connection, cursor(connection) as sql:
        sql.execute(text)
        return sql.fetchall()


WIDE = "SELECT i, repeat('x', 1000), NULL::int FROM generate_series(1, 2000) AS i"


@pytest.mark.needs_server("postgres")
def test_postgres_simple_queries_are_one_trip_each(postgres: RunningServer) -> None:
    with through(postgres) as (server, _, sql):
        assert settle(server) == Counts(trips=0, setup_trips=1, connections=1)
        for _ in range(11):
            sql.execute("SELECT 1")
            assert sql.fetchall() == ([1],)
        assert settle(server) == Counts(trips=11, setup_trips=1, connections=1)
        sql.execute(WIDE)
        assert sql.fetchall() == direct_answer(postgres.port, WIDE)
        assert settle(server) == Counts(trips=12, setup_trips=1, connections=1)


@pytest.mark.needs_server("postgres")
def test_postgres_parameters_and_prepared_statements(postgres: RunningServer) -> None:
    # pg8000 waits for Parse, for Describe and for Bind + Execute of a new statement: three trips.
    # Preparing one sends Parse + Describe together, running it Bind + Execute: one trip each.
    with through(postgres) as (server, connection, sql):
        sql.execute("SELECT %s::int + 1", (41,))
        assert sql.fetchall() == ([42],)
        assert settle(server).trips == 3
        statement = pg8000.native.PreparedStatement(connection, "SELECT :v::int + 1")
        before = settle(server).trips
        assert before == 4
        for value in range(5):
            assert statement.run(v=value) == [[value + 1]]
        assert settle(server).trips - before == 5


@pytest.mark.needs_server("postgres")
def test_postgres_errors_are_answers_too(postgres: RunningServer) -> None:
    with through(postgres) as (server, _, sql):
        with pytest.raises(pg8000.dbapi.Error):
            sql.execute("SELECT nothing FROM nowhere")
        assert settle(server).trips == 1
        sql.execute("SELECT 1")
        assert settle(server).trips == 2


@pytest.mark.needs_server("postgres")
def test_postgres_notifications_are_no_trips(postgres: RunningServer) -> None:
    with through(postgres) as (server, connection, sql):
        sql.execute("LISTEN news")
        before = settle(server).trips
        for text in "abc":
            direct_answer(postgres.port, f"SELECT pg_notify('news', '{text}')")
        time.sleep(0.1)
        assert settle(server).trips == before
        sql.execute("SELECT 1")
        assert [payload for _, _, payload in connection.notifications] == ["a", "b", "c"]
        assert settle(server).trips == before + 1


@pytest.mark.needs_server("postgres")
def test_postgres_scram_is_set_up(postgres: RunningServer) -> None:
    hba = postgres.directory / "data" / "pg_hba.conf"
    text = hba.read_text()
    hba.write_text("host all app 127.0.0.1/32 scram-sha-256\n" + text)
    direct_answer(postgres.port, "SELECT pg_reload_conf()")
    with relay(BackendKind.POSTGRES, postgres.port) as (server, port):
        deadline = time.monotonic() + BOUND
        while settle(server).setup_trips % 3 or not server.counts.connections:
            assert time.monotonic() < deadline
            with connect(port, user="app", password="a-test-password"):
                pass
        counts = settle(server)
        assert counts.setup_trips == 3  # startup, SASL first, SASL final
        assert (counts.trips, counts.opaque) == (0, 0)


@pytest.mark.needs_server("postgres")
def test_postgres_over_tls_is_counted_without_being_read(postgres: RunningServer) -> None:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    clock = VirtualClock()  # the client pauses when we say so, not when the machine is busy
    with through(postgres, tls, clock) as (server, _, sql):
        counts = settle(server)
        # SSLRequest, ClientHello, Finished with the startup packet; a server that sends session
        # tickets answers Finished by itself (RFC 8446, section 4.6.1).
        assert counts.setup_trips in (3, 4)
        assert (counts.trips, counts.opaque) == (0, 1)
        clock.step(0.1)  # the pause that ends a set-up nobody can read
        for _ in range(11):
            sql.execute("SELECT 1")
        sql.execute(WIDE)
        assert sql.fetchall() == direct_answer(postgres.port, WIDE)
        assert settle(server) == replace(counts, trips=12)


@pytest.fixture(scope="module")
def mariadb() -> Iterator[RunningServer]:
    user = "CREATE USER 'app'@'%' IDENTIFIED BY 'a-test-password'"
    with running_mariadb(statements=[user]) as server:
        yield server


def mariadb_run(port: int, statements: list[str], *options: str) -> str:
    """Run statements through MariaDB's own client, which sends each by itself."""
    client = require_program("mariadb")
    command = [client, "--no-defaults", "-h", LOOPBACK, "-P", str(port), "-u", "app"]
    command += ["--batch", "--skip-column-names", *options]
    done = subprocess.run(
        command,
        input=";\n".join([*statements, ""]),
        env={"MYSQL_PWD": "a-test-password", "PATH": os.environ.get("PATH", "")},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs_server("mariadbd")
def test_mariadb_statements_are_one_trip_each(mariadb: RunningServer) -> None:
    asked = [f"SELECT {n}, REPEAT('x', 20000)" for n in range(11)]
    with relay(BackendKind.MYSQL, mariadb.port) as (server, port):
        # What the client asks of its own accord is the same with any number of statements.
        mariadb_run(port, [], "--skip-ssl")
        own = settle(server)
        assert mariadb_run(port, asked, "--skip-ssl") == mariadb_run(
            mariadb.port, asked, "--skip-ssl"
        )
        counts = settle(server)
        assert counts.trips - own.trips == own.trips + 11
        assert own.setup_trips == 1  # native password in the first answer: no switch
        assert counts == Counts(2 * own.trips + 11, setup_trips=2, connections=2)


@pytest.mark.needs_server("redis-server")
def test_redis_commands_are_one_trip_each() -> None:
    client = require_program("redis-cli")
    value = "v" * 100_000
    with (
        running_redis("--requirepass", "unused") as running,
        relay(BackendKind.REDIS, running.port) as (server, port),
    ):

        def ask(lines: str) -> list[str]:
            command = [client, "-h", LOOPBACK, "-p", str(port), "-n", "2", "-a", "unused"]
            done = subprocess.run(
                command, input=lines, capture_output=True, text=True, timeout=BOUND, check=False
            )
            return done.stdout.split()

        assert ask("PING\n") == ["PONG"]
        own = settle(server).trips - 1  # redis-cli asks for the documentation of its commands
        assert ask(f"SET k {value}\n" + "GET k\n" * 10) == ["OK", *[value] * 10]
        assert settle(server) == Counts(trips=2 * own + 12, setup_trips=4, connections=2)


@pytest.mark.needs_server("redis-server")
async def test_redis_pipelines_are_one_trip_and_messages_are_none() -> None:
    with running_redis("--protected-mode", "no") as running:
        async with relayed(running.port, BackendKind.REDIS) as (server, own):
            reader, writer = await asyncio.open_connection(LOOPBACK, own)
            writer.write(b"INCR n\r\n" * 1000)
            assert (await reader.readuntil(b":1000\r\n")).count(b"\r\n") == 1000
            assert server.counts.trips == 1
            writer.write(b"SUBSCRIBE news\r\n")
            await reader.readuntil(b":1\r\n")
            other, publish = await asyncio.open_connection(LOOPBACK, running.port)
            for _ in range(5):
                publish.write(b"PUBLISH news hello\r\n")
                await other.readuntil(b":1\r\n")
                await reader.readuntil(b"hello\r\n")
            assert server.counts.trips == 2
            for each in (writer, publish):
                each.close()
