"""What real databases say about replication: PostgreSQL and MariaDB that lag and fail over."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from random import Random

import pytest

from onetrip.errors import Kind, ReplicationError
from onetrip.model.catalog import Backend, BackendKind, DatabaseTls
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.replication import Role, parse_position
from onetrip.model.topology import Endpoint
from onetrip.probe.replication import ReplicationMonitor
from onetrip.probe.replication_base import make_client
from onetrip.timing import MonotonicClock
from support.ports import free_port
from support.replicated_mariadb import MariadbGroup, replicated_mariadb
from support.replicated_postgres import PostgresGroup, replicated_postgres
from support.waits import soon

ACCESS = ReplicationAccess("watcher", "a secret of the watcher")


def backend(kind: BackendKind, group: PostgresGroup | MariadbGroup) -> Backend:
    """Return the backend that a group is, its endpoints in the order of the servers."""
    primary, *others = (Endpoint("127.0.0.1", server.port) for server in group.servers)
    replicas = tuple(Replica(f"db/r{n + 1}", each) for n, each in enumerate(others))
    return Backend("db", kind, primary, replicas=replicas, replication=ACCESS)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresGroup]:
    with replicated_postgres(
        hba=["host all watcher 127.0.0.1/32 scram-sha-256"],
        statements=[
            "SET password_encryption = 'scram-sha-256'",
            f"CREATE ROLE watcher LOGIN PASSWORD '{ACCESS.password}'",
            "CREATE TABLE notes (n int)",
        ],
    ) as group:
        yield group


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariadbGroup]:
    with replicated_mariadb(
        statements=[
            f"CREATE USER watcher@'127.0.0.1' IDENTIFIED BY '{ACCESS.password}'",
            "GRANT SLAVE MONITOR, REPLICATION MASTER ADMIN ON *.* TO watcher@'127.0.0.1'",
            "CREATE DATABASE app",
            "CREATE TABLE app.notes (n int)",
        ]
    ) as group:
        yield group


@pytest.fixture
async def monitor() -> AsyncIterator[ReplicationMonitor]:
    monitor = ReplicationMonitor(MonotonicClock(), Random(3))
    yield monitor
    await monitor.close()


async def test_postgres_tells_roles_positions_and_no_lag_while_nothing_is_written(
    postgres: PostgresGroup, monitor: ReplicationMonitor
) -> None:
    postgres.settle()
    await monitor.follow([backend(BackendKind.POSTGRES, postgres)])
    for _ in range(100):  # the server itself may write a record between two looks
        await monitor.look("db", ["db"])
        await monitor.look("db", ["db/r1"])
        states = monitor.states("db")
        if states["db"].position == states["db/r1"].position:
            break
    assert (states["db"].role, states["db/r1"].role) == (Role.PRIMARY, Role.REPLICA)
    assert states["db"].timeline == 1
    assert states["db/r1"].position == states["db"].position
    # The last commit may be long ago: that is not lag.
    assert (states["db/r1"].lag, states["db/r1"].lag_bytes) == (0.0, 0)
    assert states["db/r1"].is_replicating


async def test_a_position_asked_after_a_write_is_reached_when_the_standby_shows_it(
    postgres: PostgresGroup, monitor: ReplicationMonitor
) -> None:
    await monitor.follow([backend(BackendKind.POSTGRES, postgres)])
    standby = postgres.standbys[0]
    standby.pause_replay()
    try:
        postgres.primary.query("INSERT INTO notes VALUES (1)")
        flushed = parse_position(postgres.primary.written)
        written = await monitor.position("db")
        assert written.covers(flushed)
        assert not await monitor.reached("db", "db/r1", written, 0.1)
        assert await monitor.reached("db", "db", written, 10)
        await monitor.look("db", ["db/r1"])
        state = monitor.states("db")["db/r1"]
        assert not state.is_replicating
        assert state.lag > 0
        assert state.lag_bytes
    finally:
        standby.resume_replay()
    assert await monitor.reached("db", "db/r1", written, 30)
    assert standby.query("SELECT count(*) FROM notes")[0][0] > 0


async def test_a_commit_that_is_answered_before_it_is_written_out_is_covered(
    postgres: PostgresGroup, monitor: ReplicationMonitor
) -> None:
    await monitor.follow([backend(BackendKind.POSTGRES, postgres)])
    primary = postgres.primary
    primary.query("SET synchronous_commit = off; INSERT INTO notes VALUES (2)")
    answered = parse_position(primary.query("SELECT pg_current_wal_insert_lsn()")[0][0])
    assert (await monitor.position("db")).covers(answered)


async def check_refusals(plain: Backend) -> None:
    """An account that is refused is told by the field, and without its password."""
    for change, field in (
        ({"password": "not the one"}, "password"),
        ({"database": "nowhere"}, "database"),
    ):
        client = make_client(replace(plain, replication=replace(ACCESS, **change)), plain.endpoint)
        with pytest.raises(ReplicationError, match=f"backends.db.replication.{field}") as caught:
            await client.look(10)
        assert caught.value.kind is Kind.DENIED
        assert "not the one" not in str(caught.value)
        await client.close()


async def test_an_account_that_is_refused_is_told_by_the_field_and_without_its_password(
    postgres: PostgresGroup,
) -> None:
    await check_refusals(backend(BackendKind.POSTGRES, postgres))


async def test_tls_is_asked_for_as_the_probe_asks(postgres: PostgresGroup) -> None:
    plain = backend(BackendKind.POSTGRES, postgres)
    client = make_client(replace(plain, tls=DatabaseTls.REQUIRE), plain.endpoint)
    with pytest.raises(ReplicationError, match="SSL"):
        await client.look(10)
    await client.close()


async def test_an_address_that_nobody_serves_is_an_error_and_no_hang(
    monitor: ReplicationMonitor,
) -> None:
    nowhere = Endpoint("127.0.0.1", free_port())
    for kind in (BackendKind.POSTGRES, BackendKind.MYSQL):
        await monitor.follow([Backend("db", kind, nowhere, replication=ACCESS)])
        with pytest.raises(ReplicationError):
            await monitor.position("db")
        assert monitor.states("db")["db"].problem


async def test_mariadb_tells_roles_positions_and_lag(
    mariadb: MariadbGroup, monitor: ReplicationMonitor
) -> None:
    await monitor.follow([backend(BackendKind.MYSQL, mariadb)])
    replica = mariadb.replicas[0]
    replica.pause_replay()
    try:
        mariadb.primary.query("INSERT INTO app.notes VALUES (1)")
        written = await monitor.position("db")
        assert str(written) == mariadb.primary.written
        assert not await monitor.reached("db", "db/r1", written, 0.1)
        await monitor.look("db", ["db", "db/r1"])
        states = monitor.states("db")
        assert (states["db"].role, states["db/r1"].role) == (Role.PRIMARY, Role.REPLICA)
        assert not states["db/r1"].is_replicating
        assert states["db/r1"].lag > 0 or math.isnan(states["db/r1"].lag)
        assert states["db/r1"].lag_bytes is None
    finally:
        replica.resume_replay()
    assert await monitor.reached("db", "db/r1", written, 30)
    await monitor.look("db", ["db", "db/r1"])
    await monitor.look("db", ["db/r1"])
    state = monitor.states("db")["db/r1"]
    assert state.is_replicating
    assert state.lag == 0.0


async def test_mariadb_refuses_by_the_field(mariadb: MariadbGroup) -> None:
    await check_refusals(backend(BackendKind.MYSQL, mariadb))


async def test_a_standby_that_was_promoted_is_found_to_be_the_primary(
    monitor: ReplicationMonitor,
) -> None:
    with replicated_postgres(2, statements=["CREATE ROLE watcher LOGIN"]) as group:
        declared = backend(BackendKind.POSTGRES, group)
        await monitor.follow([declared])
        before = await monitor.position("db")
        soon(lambda: group.standbys[0].has_replayed(str(before)))
        group.failover(group.standbys[0])
        group.primary.query("CREATE TABLE later (n int)")
        written = parse_position(group.primary.written)
        after = await monitor.position("db")
        assert after.covers(written)
        states = monitor.states("db")
        assert states["db/r1"].role is Role.PRIMARY
        assert states["db/r1"].timeline == 2
        assert states["db"].problem
        assert await monitor.reached("db", "db/r2", after, 30)
