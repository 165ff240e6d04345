"""What real Redis servers say about replication, and what servers say that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from onetrip.errors import Kind, ReplicationError
from onetrip.model.catalog import Backend, BackendKind
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.replication import Role
from onetrip.model.topology import Endpoint
from onetrip.net.dial import TcpDialer
from onetrip.probe.replication import ReplicationMonitor
from onetrip.probe.replication_base import SeenReplica
from onetrip.probe.replication_redis import RedisClient
from onetrip.timing import MonotonicClock
from support.certs import Authority
from support.fake_server import FakeServer
from support.ports import free_ports
from support.replicated_redis import RedisGroup, replicated_redis
from support.servers import require_program, running_redis, running_server
from support.waits import eventually, soon

ACCESS = ReplicationAccess("watcher", "a-secret-of-the-watcher")
LEAST_USER = ("--user", "watcher", "on", f">{ACCESS.password}", "+info")


def backend(*ports: int, access: ReplicationAccess = ACCESS) -> Backend:
    """Return the backend of a primary and its replicas, on ports of this machine."""
    primary, *others = (Endpoint("127.0.0.1", port) for port in ports)
    replicas = tuple(Replica(f"db/r{n + 1}", each) for n, each in enumerate(others))
    return Backend("db", BackendKind.REDIS, primary, replicas=replicas, replication=access)


def client(port: int, access: ReplicationAccess = ACCESS) -> RedisClient:
    plain = backend(port, access=access)
    return RedisClient(plain, plain.endpoint)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisGroup]:
    with replicated_redis(options=LEAST_USER) as group:
        yield group


@pytest.fixture
async def monitor() -> AsyncIterator[ReplicationMonitor]:
    monitor = ReplicationMonitor(MonotonicClock(), Random(3))
    yield monitor
    await monitor.close()


async def test_a_user_that_may_ask_and_nothing_else_is_told_roles_offsets_and_no_lag(
    redis: RedisGroup, monitor: ReplicationMonitor
) -> None:
    redis.settle()
    await monitor.follow([backend(*(server.port for server in redis.servers))])
    for _ in range(100):  # the primary pings its replica between two looks, now and then
        await monitor.look("db", ["db"])
        await monitor.look("db", ["db/r1"])
        states = monitor.states("db")
        if states["db"].position == states["db/r1"].position:
            break
    assert (states["db"].role, states["db/r1"].role) == (Role.PRIMARY, Role.REPLICA)
    assert str(states["db"].position).startswith(redis.primary.standing.id)
    assert (states["db/r1"].lag, states["db/r1"].lag_bytes) == (0.0, 0)
    assert states["db/r1"].is_replicating


async def test_a_replica_whose_stream_stands_still_gets_older_though_its_link_is_up(
    redis: RedisGroup, monitor: ReplicationMonitor
) -> None:
    await monitor.follow([backend(*(server.port for server in redis.servers))])
    valve = redis.valves["replica1"]
    await monitor.look("db", ["db", "db/r1"])
    valve.shut()
    try:
        redis.write()
        await monitor.look("db", ["db"])
        lags = []
        for _ in range(3):
            await asyncio.sleep(0.2)
            await monitor.look("db", ["db/r1"])
            lags.append(monitor.states("db")["db/r1"].lag)
        state = monitor.states("db")["db/r1"]
        assert lags == sorted(lags)
        assert lags[0] >= 0.2
        assert lags[-1] >= 0.6
        assert state.lag_bytes
        assert state.is_replicating, "the server itself has not noticed"
    finally:
        valve.open()
    soon(lambda: redis.replicas[0].has_all_of(redis.primary))
    await monitor.look("db", ["db", "db/r1"])
    assert monitor.states("db")["db/r1"].lag == 0.0


async def test_a_position_that_covers_what_was_answered_is_told_of_no_redis(
    redis: RedisGroup, monitor: ReplicationMonitor
) -> None:
    await monitor.follow([backend(redis.primary.port)])
    with pytest.raises(ReplicationError, match="tells no position"):
        await monitor.position("db")


async def test_a_primary_tells_its_replicas_by_address_and_port(redis: RedisGroup) -> None:
    asked = client(redis.primary.port)
    assert await asked.replicas(10) == [SeenReplica("", "127.0.0.1", redis.replicas[0].port)]
    await asked.close()
    asked = client(redis.replicas[0].port)
    assert await asked.replicas(10) == []
    await asked.close()


@pytest.mark.parametrize(
    ("access", "field"),
    [
        (replace(ACCESS, password="not the one"), "password"),
        (ReplicationAccess("nobody", "not the one"), "password"),
        (ReplicationAccess("default", "not the one"), "password"),
        (ReplicationAccess("idle", ACCESS.password), "user"),
    ],
)
async def test_an_account_that_is_refused_is_told_by_the_field_and_without_its_password(
    redis: RedisGroup, access: ReplicationAccess, field: str
) -> None:
    redis.primary.run("ACL", "SETUSER", "idle", "on", f">{ACCESS.password}", "+ping")
    asked = client(redis.primary.port, access)
    with pytest.raises(ReplicationError, match=f"backends.db.replication.{field}") as caught:
        await asked.look(10)
    assert caught.value.kind is Kind.DENIED
    assert access.password not in str(caught.value)
    await asked.close()


async def test_a_password_without_a_user_is_that_of_the_default_one() -> None:
    with running_redis("--requirepass", "one for all") as server:
        asked = client(server.port, ReplicationAccess("default", "one for all"))
        assert (await asked.look(10)).role is Role.PRIMARY
        await asked.close()
        asked = client(server.port, ReplicationAccess("default", ""))
        with pytest.raises(ReplicationError, match=r"replication\.password: .* is required"):
            await asked.look(10)
        await asked.close()


async def test_a_server_without_passwords_is_asked_without_one(redis: RedisGroup) -> None:
    asked = client(redis.primary.port, ReplicationAccess("default", ""))
    assert (await asked.look(10)).role is Role.PRIMARY
    await asked.close()


async def test_a_name_over_tls_is_checked_before_a_password_is_sent(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("cache", "127.0.0.1")
    plain, port = free_ports(2)
    program = require_program("redis-server")
    command = [program, "--port", str(plain), "--bind", "127.0.0.1", "--save", "", *LEAST_USER]
    command += ["--tls-port", str(port), "--tls-cert-file", str(pair.cert)]
    command += ["--tls-key-file", str(pair.key), "--tls-auth-clients", "no"]
    command += ["--tls-ca-cert-file", str(authority.file)]
    with running_server(command, plain):
        secure = replace(backend(port), endpoint=Endpoint("127.0.0.1", port, "127.0.0.1"))
        trusting = TcpDialer(make_tls=authority.client_context)
        asked = RedisClient(secure, secure.endpoint, trusting)
        assert (await asked.look(10)).role is Role.PRIMARY
        await asked.close()
        asked = RedisClient(secure, secure.endpoint)
        with pytest.raises(ReplicationError, match=r"(?i)certificate"):
            await asked.look(10)
        await asked.close()


async def test_a_connection_is_kept_and_made_again_when_the_server_ends_it(
    redis: RedisGroup,
) -> None:
    asked = client(redis.primary.port)
    await asked.look(10)
    await asked.look(10)
    listed = redis.primary.run("CLIENT", "LIST").decode()
    (line,) = [line for line in listed.splitlines() if "user=watcher" in line]
    assert "cmd=info" in line
    redis.primary.run("CLIENT", "KILL", dict(w.split("=", 1) for w in line.split())["addr"])
    connection = asked._connection
    assert connection is not None
    await eventually(lambda: not connection.is_open)
    assert (await asked.look(10)).role is Role.PRIMARY
    await asked.close()


async def test_a_replica_that_was_promoted_is_the_primary_and_the_others_follow_it(
    monitor: ReplicationMonitor,
) -> None:
    with replicated_redis(2, options=LEAST_USER) as group:
        promoted, other = group.replicas
        group.write()
        group.settle()
        await monitor.follow([backend(*(server.port for server in group.servers))])
        await monitor.look("db", ["db", "db/r1", "db/r2"])
        group.failover(promoted)
        soon(lambda: other.has_all_of(promoted), other.log_text)
        await monitor.look("db", ["db", "db/r1", "db/r2"])
        states = monitor.states("db")
        assert states["db"].problem
        assert states["db/r1"].role is Role.PRIMARY
        # Nobody has told yet that the primary is another one: it is late by nobody's account.
        assert states["db/r2"].lag < 1.0
        monitor.primary_is("db", "db/r1")
        group.write()
        soon(lambda: other.has_all_of(promoted))
        await monitor.look("db", ["db/r1"])
        await monitor.look("db", ["db/r2"])
        assert monitor.states("db")["db/r2"].lag < 1.0


class Scripted(FakeServer):
    """Answers every read with the next of its answers, then with silence."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.asked.append(data)
            if self.answers:
                writer.write(self.answers.pop(0))
                await writer.drain()


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "is no string and no error"),
        ((b"+OK\r\n", b"$9999999\r\n"), "exceeds limit of 65536"),
        ((b"+OK\r\n", b"$-1\r\n"), "is null"),
        ((b"+OK\r\n", b"+PONG\r\n"), "is no bulk string"),
        ((b"+OK\r\n", b"$13\r\nrole:sentinel\r\n"), "role 'sentinel' is not one of"),
        ((b"+OK\r\n", b"$4\r\nabcd\r\n+more\r\n"), "more than it was asked for"),
        ((b"+OK\r\n", b"-LOADING Redis is loading the dataset in memory\r\n"), "INFO: LOADING"),
        ((b"+QUEUED\r\n",), "neither \\+OK nor an error"),
        ((), "did not answer within 0.3 s"),
    ],
)
async def test_garbage_and_silence_end_in_a_typed_error_and_a_closed_connection(
    answers: tuple[bytes, ...], told: str
) -> None:
    async with Scripted(*answers) as server:
        asked = client(server.endpoint.port)
        with pytest.raises(ReplicationError, match=told):
            await asked.look(0.3 if not answers else 10)
        assert asked._connection is None


async def test_a_server_that_repeats_the_password_does_not_get_it_into_a_message() -> None:
    repeated = b"-ERR unknown command 'AUTH', with args beginning with: 'watcher' '%b'\r\n"
    async with Scripted(repeated % ACCESS.password.encode()) as server:
        with pytest.raises(ReplicationError, match="takes no such login") as caught:
            await client(server.endpoint.port).look(10)
    assert ACCESS.password not in str(caught.value)


async def test_bytes_that_nobody_asked_for_are_not_taken_for_an_answer() -> None:
    standing = b"role:master\r\nmaster_replid:%b\r\nmaster_repl_offset:7\r\n" % (b"a" * 40)
    answer = b"$%d\r\n%b\r\n" % (len(standing), standing)
    async with Scripted(b"+OK\r\n", answer, b"+OK\r\n", answer) as server:
        asked = client(server.endpoint.port)
        assert (await asked.look(10)).role is Role.PRIMARY
        connection = asked._connection
        assert connection is not None
        connection.data_received(answer)
        assert (await asked.look(10)).role is Role.PRIMARY
        assert len(server.asked) == 4, "it logged in again"
        await asked.close()
