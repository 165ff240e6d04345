"""What relays tell whoever scrapes them, against what clients did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import aiohttp
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from onetrip.model.catalog import BackendKind
from onetrip.model.topology import Endpoint
from onetrip.relay.scrape import MetricsServer, Relay, Scrape
from support.ports import free_port
from support.relayed import LOOPBACK, echo, relayed, serving
from support.replicated_postgres import PostgresGroup, replicated_postgres
from support.routed import (
    HBA,
    STATEMENTS,
    connect,
    relay_settings,
    route_to,
    routed,
    value,
)
from support.waits import eventually

Told = dict[tuple[str, ...], float]


def read(text: str) -> Told:
    """Return values by name and label values, the backend's left out."""
    return {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "backend")): float(
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("onetrip_relay_") and not sample.name.endswith("_created")
    }


def told_by(relay: Relay) -> Told:
    return read(Scrape(relay, relay_settings()).text().decode())


@pytest.fixture(scope="module")
def group() -> Iterator[PostgresGroup]:
    with replicated_postgres(hba=HBA, statements=STATEMENTS) as group:
        yield group


async def test_a_relay_without_routes_tells_sessions_bytes_and_who_was_refused() -> None:
    async with serving(echo) as port, relayed(port, max_connections=1) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(b"x" * 1000)
        await reader.readexactly(1000)
        # There is room for one.
        other, _ = await asyncio.open_connection(LOOPBACK, own)
        with contextlib.suppress(ConnectionError):
            assert await other.read() == b""
        told = told_by(server)
        assert told["onetrip_relay_sessions_open",] == 1
        assert told["onetrip_relay_sessions_total",] == 1
        assert told["onetrip_relay_sessions_refused_total", "connection_limit"] == 1
        assert told["onetrip_relay_bytes_total", "sent"] == 1000
        assert told["onetrip_relay_bytes_total", "received"] == 1000
        assert not any(name.startswith("onetrip_relay_pool") for name, *_ in told)
        writer.close()
        await eventually(lambda: told_by(server)["onetrip_relay_sessions_open",] == 0)


async def test_a_database_that_is_not_there_is_a_reason() -> None:
    async with relayed(free_port(), BackendKind.MYSQL) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        refused = ("onetrip_relay_sessions_refused_total", "connect")
        await eventually(lambda: told_by(server).get(refused) == 1)


async def test_a_scrape_counts_on_from_the_last_one() -> None:
    async with serving(echo) as port, relayed(port) as (server, own):
        scrape = Scrape(server, relay_settings())
        for count in (1, 2, 3):
            reader, writer = await asyncio.open_connection(LOOPBACK, own)
            writer.write(b"x")
            await reader.readexactly(1)
            writer.close()
            for _ in range(2):
                assert read(scrape.text().decode())["onetrip_relay_sessions_total",] == count


async def test_transactions_are_told_by_server_and_kind_and_so_is_waiting(
    group: PostgresGroup,
) -> None:
    primary, standby = group.primary.name, group.standbys[0].name
    async with (
        routed(route_to(group, replica_wait=0.05)) as (server, port),
        connect(port) as one,
    ):
        await one.execute("CREATE TABLE told (a int)")
        await eventually(lambda: server.fleet.standings.nearest_fresh() is not None)
        before = told_by(server)
        for _ in range(3):
            await value(one, "SELECT 1")
        async with one.transaction():
            await one.execute("INSERT INTO told VALUES (1)")
            await one.execute("INSERT INTO told VALUES (2)")
        group.standbys[0].pause_replay()
        try:
            await one.execute("INSERT INTO told VALUES (3)")
            await value(one, "SELECT 1")  # stale
            told = told_by(server)
        finally:
            group.standbys[0].resume_replay()
        await eventually(lambda: server.fleet.standings.nearest_fresh() is not None)
        await one.execute("DROP TABLE told")

    def more(*key: str) -> float:
        return told.get(key, 0.0) - before.get(key, 0.0)

    count = "onetrip_relay_transactions_total"
    assert more(count, standby, "read") == 3
    assert more(count, primary, "write") == 2
    assert more(count, primary, "read") == more("onetrip_relay_freshness_total", "stale") == 1
    assert more("onetrip_relay_freshness_total", "fresh") == 3
    assert more("onetrip_relay_freshness_wait_seconds_total") >= 0.05
    assert told["onetrip_relay_endpoint_up", standby] == 1
    assert told["onetrip_relay_endpoint_primary", primary] == 1
    assert told["onetrip_relay_endpoint_primary", standby] == 0
    assert told["onetrip_relay_endpoint_rtt_seconds", primary] > 0
    assert told["onetrip_relay_endpoint_lag_bytes", standby] > 0
    assert told["onetrip_relay_endpoint_lag_bytes", primary] == 0
    assert told["onetrip_relay_pool_connections", primary, "idle"] == 1
    assert told["onetrip_relay_pool_connections", primary, "used"] == 0
    assert told["onetrip_relay_pool_waiting_sessions", primary] == 0


async def test_failures_are_told_by_kind_and_refused_logins_by_reason(
    group: PostgresGroup,
) -> None:
    async with routed(route_to(group)) as (server, port):
        with pytest.raises(psycopg.OperationalError, match="password"):
            async with connect(port, password="not the one"):
                pass
        async with connect(port) as one:
            with pytest.raises(psycopg.Error):
                await one.execute("SELECT 1/0")  # the server's own word: no failure of ours
            async with one.transaction():
                with pytest.raises(psycopg.OperationalError):
                    await one.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        told = told_by(server)
        assert told["onetrip_relay_sessions_refused_total", "denied"] == 1
        assert told["onetrip_relay_errors_total", "reset"] == 1
        assert told["onetrip_relay_sessions_total",] == 2


async def test_they_are_served_over_http(group: PostgresGroup) -> None:
    async with routed(route_to(group)) as (server, _):
        own = MetricsServer(server, relay_settings())
        port = await own.start(Endpoint(LOOPBACK, 0))
        try:
            async with aiohttp.ClientSession(f"http://{LOOPBACK}:{port}") as client:
                async with client.get("/metrics") as reply:
                    assert reply.headers["Content-Type"].startswith("text/plain")
                    assert ("onetrip_relay_endpoint_up", "primary") in read(await reply.text())
                async with client.get("/status") as reply:
                    assert reply.status == 404
        finally:
            await own.stop()
