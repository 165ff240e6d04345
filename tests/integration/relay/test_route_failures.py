"""A routing relay while its servers crash, come back and change places."""

import asyncio

import psycopg
import pytest
import uvloop

from onetrip.model.replication import Role
from onetrip.relay.route_settings import PoolLimits
from support.replicated_postgres import replicated_postgres
from support.routed import (
    HBA,
    STATEMENTS,
    connect,
    port_of,
    route_to,
    routed,
    value,
)
from support.waits import BOUND, eventually

LOST = "the server was lost|terminating connection"


def test_servers_fail_one_after_the_other():
    # On one event loop only: crashes take their time.
    with replicated_postgres(1, hba=HBA, statements=STATEMENTS) as group:
        uvloop.run(story(group))


async def story(group) -> None:
    async with routed(route_to(group, replica_wait=0.05, pool=PoolLimits(wait=0.5))) as (
        server,
        port,
    ):
        await a_replica_dies_in_a_read(group, server, port)
        await nobody_is_primary(group, server, port)
        await a_replica_is_promoted(group, server, port)


async def a_replica_dies_in_a_read(group, server, port) -> None:
    standby = group.standbys[0]
    async with connect(port) as one, connect(port) as two:
        reading = asyncio.create_task(value(one, "SELECT pg_sleep(1.5)::text || 'done'"))
        await two.execute("BEGIN READ ONLY")
        assert await port_of(two) == standby.port
        await eventually(lambda: server.usage.replica == 2)
        await asyncio.to_thread(standby.kill)
        # It cost the transaction, which had been told something, but not the read.
        with pytest.raises(psycopg.OperationalError, match=LOST):
            await two.execute("SELECT 1")
        assert await reading == "done"
        assert server.usage.repeated == 1
        for _ in range(3):
            assert await port_of(one) == group.primary.port
    await asyncio.to_thread(standby.start)
    await eventually(lambda: server.fleet.standings.nearest_fresh() is not None)
    async with connect(port) as one:
        assert await port_of(one) == standby.port


async def nobody_is_primary(group, server, port) -> None:
    standby = group.standbys[0]
    async with connect(port) as one, connect(port) as two, connect(port) as pinned:
        await one.execute("CREATE TABLE kept (a int primary key)")
        await asyncio.to_thread(group.settle)
        await two.execute("BEGIN")
        await two.execute("INSERT INTO kept VALUES (0)")
        await pinned.execute("LISTEN news")
        await asyncio.to_thread(group.primary.kill)
        await eventually(lambda: server.fleet.standings.by_name["primary"].role is Role.UNKNOWN)
        for each, sql in ((two, "COMMIT"), (pinned, "SELECT 1")):
            with pytest.raises(psycopg.OperationalError, match=LOST):
                await each.execute(sql)
        async with asyncio.timeout(BOUND):
            assert await port_of(one) == standby.port
            with pytest.raises(psycopg.OperationalError) as error:
                await one.execute("INSERT INTO kept VALUES (1)")
        assert error.value.sqlstate in ("08006", "57P03")
        assert await port_of(one) == standby.port


async def a_replica_is_promoted(group, server, port) -> None:
    standby = group.standbys[0]
    async with connect(port) as one:
        await asyncio.to_thread(standby.promote)
        await eventually(lambda: server.fleet.standings.primary == "standby1")
        await one.execute("INSERT INTO kept VALUES (2)")
        assert await value(one, "SELECT sum(a) FROM kept") == 2
        assert await port_of(one) == standby.port
