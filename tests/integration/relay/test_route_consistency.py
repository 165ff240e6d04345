"""Floors that a node gives to real relays of two regions: what was written is read in the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from onetrip.app.relay_floors import RelayClient, RelayFloors
from onetrip.model.replication import parse_position
from onetrip.model.topology import Endpoint
from onetrip.relay.route_api import RouteApi
from support.relayed import LOOPBACK
from support.replicated_postgres import PostgresGroup, replicated_postgres
from support.routed import HBA, STATEMENTS, connect, relay_settings, route_to, routed, value

TOKEN = "a token of the relays"


@pytest.fixture(scope="module")
def group() -> Iterator[PostgresGroup]:
    with replicated_postgres(hba=HBA, statements=STATEMENTS) as group:
        yield group


@asynccontextmanager
async def region(
    group: PostgresGroup, client: RelayClient
) -> AsyncIterator[tuple[int, RelayFloors]]:
    """Run one region's relay; give its port and what the node there asks it."""
    async with routed(route_to(group, replica_wait=0.05)) as (server, port):
        api = RouteApi(server, relay_settings("db"), TOKEN)
        own = await api.start(Endpoint(LOOPBACK, 0))
        try:
            yield port, RelayFloors(client, "db", (f"http://{LOOPBACK}:{own}",), TOKEN)
        finally:
            await api.stop()


async def test_a_floor_has_the_other_regions_relay_read_what_was_written(
    group: PostgresGroup,
) -> None:
    standby = group.standbys[0]
    async with AsyncExitStack() as stack:
        client = RelayClient()
        stack.push_async_callback(client.close)
        here, writes = await stack.enter_async_context(region(group, client))
        there, reads = await stack.enter_async_context(region(group, client))
        writer = await stack.enter_async_context(connect(here))
        reader = await stack.enter_async_context(connect(there))
        table = f"notes{here}"
        count = f"SELECT count(*) FROM {table}"
        assert await writes.written() is None, "nothing was committed through it"
        await writer.execute(f"CREATE TABLE {table} (n int)")
        group.settle()
        standby.pause_replay()
        try:
            await writer.execute(f"INSERT INTO {table} VALUES (1)")
            written = await writes.written()
            assert written is not None
            assert not parse_position(standby.replayed).covers(written)
            assert await value(reader, count) == 0, "its relay reads the standby, and may"
            assert await reads.hold(written)
            assert await value(reader, count) == 1
        finally:
            standby.resume_replay()
        group.settle()
        assert await value(reader, count) == 1
