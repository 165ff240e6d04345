"""Probes against real PostgreSQL, MariaDB and Redis, where they are installed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from onetrip.errors import Kind, ProbeError
from onetrip.model.catalog import BackendKind
from onetrip.model.measure import Sample, SampleKind, Target, TargetKind
from onetrip.model.topology import Endpoint
from onetrip.net.dial import TcpDialer
from onetrip.net.knock import TcpKnock
from onetrip.net.resolve import CachingResolver
from onetrip.probe.base import Network, ProbeSpec
from onetrip.probe.handshake import FIRST_GREETINGS
from onetrip.probe.runner import make_probe
from onetrip.timing import MonotonicClock
from support.servers import RunningServer, running_mariadb, running_postgres, running_redis

TARGET = Target(TargetKind.BACKEND, "orders")
SOURCE = "127.0.0.2"  # MariaDB counts no errors of 127.0.0.1


async def samples(kind: BackendKind, server: RunningServer, times: int) -> list[Sample]:
    clock = MonotonicClock()
    network = Network(TcpDialer(SOURCE), TcpKnock(clock, SOURCE), CachingResolver(clock), clock)
    probe = make_probe(ProbeSpec(TARGET, kind, Endpoint("127.0.0.1", server.port)), network)
    taken = [await probe.run(5.0) for _ in range(times)]
    probe.close()
    return taken


@pytest.fixture(scope="module")
def postgres() -> Iterator[RunningServer]:
    with running_postgres() as server:
        yield server


@pytest.mark.needs_server("postgres")
async def test_postgres_answers_the_ssl_request_and_logs_nothing(postgres: RunningServer) -> None:
    before = postgres.log_text()
    taken = await samples(BackendKind.POSTGRES, postgres, 5)
    assert {sample.kind for sample in taken} == {SampleKind.HANDSHAKE}
    assert all(0 < sample.rtt < 1 for sample in taken)
    lines = postgres.log_text()[len(before) :].splitlines()
    assert not [line for line in lines if "ready to accept connections" not in line]


@pytest.fixture
def mariadb() -> Iterator[RunningServer]:
    user = "CREATE USER 'app'@'%' IDENTIFIED BY 'unused'"
    with running_mariadb("--max-connect-errors=5", statements=[user]) as server:
        yield server


def first_bytes(server: RunningServer) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 5.0, (SOURCE, 0)) as sock:
        return sock.recv(512)


@pytest.mark.needs_server("mariadbd")
async def test_mariadb_is_probed_for_long_and_blocks_nobody(mariadb: RunningServer) -> None:
    taken = await samples(BackendKind.MYSQL, mariadb, 40)
    kinds = [sample.kind for sample in taken]
    assert kinds[:FIRST_GREETINGS] == [SampleKind.HANDSHAKE] * FIRST_GREETINGS
    assert set(kinds[FIRST_GREETINGS:]) == {SampleKind.CONNECT}
    assert b"MariaDB" in first_bytes(mariadb)
    assert b"blocked" not in first_bytes(mariadb)


@pytest.mark.needs_server("mariadbd")
async def test_mariadb_that_blocked_us_names_the_remedy(mariadb: RunningServer) -> None:
    while b"blocked" not in first_bytes(mariadb):
        pass  # five interrupted connections are enough
    with pytest.raises(ProbeError, match="FLUSH HOSTS") as caught:
        await samples(BackendKind.MYSQL, mariadb, 1)
    assert caught.value.kind is Kind.DENIED


def redis_connections(server: RunningServer) -> int:
    with socket.create_connection(("127.0.0.1", server.port), 5.0) as sock:
        sock.sendall(b"INFO stats\r\n")
        text = sock.recv(65536).decode()
    return int(text.partition("total_connections_received:")[2].split()[0])


@pytest.mark.needs_server("redis-server")
async def test_redis_answers_on_one_kept_connection() -> None:
    with running_redis("--protected-mode", "no") as server:
        before = redis_connections(server)
        taken = await samples(BackendKind.REDIS, server, 5)
        assert redis_connections(server) - before == 2  # the probe's, and the one that asks
    assert {sample.kind for sample in taken} == {SampleKind.HANDSHAKE}
    assert all(0 < sample.rtt < 1 for sample in taken)


@pytest.mark.needs_server("redis-server")
async def test_redis_that_wants_a_password_is_measured_all_the_same() -> None:
    with running_redis("--requirepass", "unused") as server:
        taken = await samples(BackendKind.REDIS, server, 5)
    assert all(0 < sample.rtt < 1 for sample in taken)
