"""Sessions through a routing relay, before a real primary and a real standby."""

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from psycopg.errors import (
    DivisionByZero,
    InFailedSqlTransaction,
    InvalidPassword,
    QueryCanceled,
    TooManyConnections,
)

from onetrip.relay.route_settings import Others, PoolLimits, PoolMode
from support.relayed import LOOPBACK
from support.replicated_postgres import POSTGRES_PLACES, PostgresGroup, replicated_postgres
from support.routed import (
    DATABASE,
    HBA,
    PASSWORD,
    STATEMENTS,
    USER,
    connect,
    port_of,
    route_to,
    routed,
    value,
)
from support.servers import require_program
from support.waits import BOUND, eventually


@pytest.fixture(scope="module")
def group() -> Iterator[PostgresGroup]:
    with replicated_postgres(1, hba=HBA, statements=STATEMENTS) as made:
        yield made


@pytest.fixture
async def relay(group):
    async with routed(route_to(group)) as (server, port):
        yield server, port


async def copy_rows(cursor, numbers: range) -> None:
    async with cursor.copy("COPY copied FROM STDIN") as copy:
        for number in numbers:
            await copy.write_row((number, "x" * 50))


async def pipelined(connection, *statements: str) -> None:
    async with connection.pipeline():
        for statement in statements:
            await connection.execute(statement)


class TestRouting:
    async def test_reads_run_on_the_replica_and_see_every_write_before_them(self, relay, group):
        server, port = relay
        async with connect(port) as one, connect(port) as other:
            await one.execute("CREATE TABLE notes (id int primary key)")
            for number in range(20):
                await one.execute("INSERT INTO notes VALUES (%s)", (number,))
                assert await value(other, "SELECT count(*) FROM notes") == number + 1
            assert await port_of(one) == group.standbys[0].port
            await one.execute("DROP TABLE notes")
        assert server.usage.replica >= 21
        assert server.usage.stale == server.usage.repeated == server.usage.pinned == 0

    async def test_a_transaction_stays_where_it_began(self, relay, group):
        _, port = relay
        primary, standby = group.primary.port, group.standbys[0].port
        async with connect(port) as one:
            for begin, wanted in (
                ("BEGIN", primary),
                ("BEGIN READ ONLY", standby),
                ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", standby),
                ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", primary),
            ):
                await one.execute(begin)
                assert [await port_of(one), await port_of(one)] == [wanted, wanted]
                await one.execute("COMMIT")
                assert await port_of(one) == standby
            await one.execute("SET default_transaction_read_only = on")
            await one.execute("BEGIN")
            assert await port_of(one) == standby
            await one.execute("COMMIT")

    async def test_what_is_no_sure_read_runs_on_the_primary(self, relay, group):
        _, port = relay
        async with connect(port) as one:
            for sql in ("SELECT pg_is_in_recovery()", "SELECT current_setting('port'), now()"):
                assert str(await value(one, sql)) in ("False", str(group.primary.port))
            await one.execute("CREATE TABLE locked (port text)")
            await one.execute("INSERT INTO locked SELECT current_setting('port')")
            locking = "SELECT port FROM locked FOR UPDATE"
            assert await value(one, locking) == str(group.primary.port)
            await one.execute("DROP TABLE locked")

    async def test_a_read_that_the_replica_refuses_runs_on_the_primary(self, relay, group):
        server, port = relay
        async with connect(port) as one:
            await one.execute("CREATE SEQUENCE numbers")
            await one.execute("CREATE VIEW next_number AS SELECT nextval('numbers') AS number")
            for number in (1, 2, 3):
                assert await value(one, "SELECT number FROM next_number", prepare=True) == number
            await one.execute("DROP VIEW next_number; DROP SEQUENCE numbers")
        assert server.usage.repeated == 3

    async def test_errors_and_failed_transactions_are_the_servers(self, relay):
        _, port = relay
        async with connect(port, autocommit=False) as one:
            with pytest.raises(DivisionByZero):
                await one.execute("SELECT 1 / 0")
            with pytest.raises(InFailedSqlTransaction):
                await one.execute("SELECT 1")
            await one.rollback()
            assert await value(one, "SELECT 1") == 1
            await one.commit()
            await one.set_autocommit(True)
            with pytest.raises(DivisionByZero):
                await one.execute("SELECT 1 / 0")
            assert await value(one, "SELECT 2") == 2

    async def test_large_values_both_ways(self, relay):
        _, port = relay
        async with connect(port) as one:
            size = 20_000_000
            assert len(await value(one, f"SELECT repeat('x', {size})")) == size
            big = "y" * 3_000_000
            assert await value(one, "SELECT length(%s::text)", big) == len(big)
            assert await value(one, f"SELECT length('{big}')") == len(big)

    async def test_copy(self, relay):
        server, port = relay
        async with connect(port) as one:
            await one.execute("CREATE TABLE copied (a int primary key, b text)")
            async with one.cursor() as cursor:
                await copy_rows(cursor, range(20_000))
                assert await value(one, "SELECT count(*) FROM copied") == 20_000
                with pytest.raises(psycopg.errors.UniqueViolation):
                    await copy_rows(cursor, range(19_999, 60_000))
                async with cursor.copy("COPY copied TO STDOUT") as copy:
                    assert len([row async for row in copy.rows()]) == 20_000
                assert await value(one, "SELECT count(*) FROM copied") == 20_000
            await one.execute("DROP TABLE copied")
        assert server.usage.pinned == 0


class TestState:
    async def test_settings_follow_the_session_to_every_server(self, relay, group):
        _, port = relay
        async with connect(port, options="-c statement_timeout=1234") as one:
            await one.execute("SET TimeZone TO 'Asia/Kathmandu'")
            await one.execute("SET search_path = 'a', pg_catalog")
            for _ in range(2):
                assert await value(one, "SHOW TimeZone") == "Asia/Kathmandu"
                assert await value(one, "SHOW statement_timeout") == "1234ms"
                assert await value(one, "SHOW search_path") == "a, pg_catalog"
                assert await port_of(one) == group.standbys[0].port
                assert await value(one, "SELECT current_setting('TimeZone')") == "Asia/Kathmandu"
            await one.execute("RESET TimeZone")
            await one.execute("RESET statement_timeout")
            assert await value(one, "SHOW TimeZone") != "Asia/Kathmandu"
            assert await value(one, "SHOW statement_timeout") == "1234ms"
        async with connect(port) as other:
            assert await value(other, "SHOW statement_timeout") == "0"
            assert await value(other, "SELECT current_setting('search_path')") == '"$user", public'

    async def test_settings_of_a_transaction_last_if_it_commits(self, relay):
        _, port = relay
        async with connect(port, autocommit=False) as one:
            for end, wanted in ((one.rollback, "0"), (one.commit, "2s")):
                await one.execute("SET lock_timeout = '2s'")
                assert await value(one, "SHOW lock_timeout") == "2s"
                await end()
                assert await value(one, "SHOW lock_timeout") == wanted
                await one.commit()

    @pytest.mark.parametrize(
        ("makes", "shows"),
        [
            ("CREATE TEMP TABLE own (a int)", "SELECT count(*) FROM own"),
            ("PREPARE one_more AS SELECT 0", "EXECUTE one_more"),
            (
                "SELECT set_config('app.tenant', '7', false)",
                "SELECT 1 / (current_setting('app.tenant') = '7')::int",
            ),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "FETCH c"),
        ],
    )
    async def test_state_that_cannot_be_made_again_pins(self, relay, group, makes, shows):
        server, port = relay
        async with connect(port) as one, connect(port) as other:
            await one.execute(makes)
            for _ in range(3):
                await other.execute("SELECT pg_backend_pid()")
                assert str(await value(one, shows)) in ("0", "1", "None")
            assert await port_of(one) == group.primary.port
            assert server.usage.pinned == 1
        # The connection is clean when the next session has it.
        await eventually(
            lambda: all(pool.size == pool.idle for pool in server.fleet.pools.values())
        )
        async with connect(port) as fresh:
            with pytest.raises(psycopg.Error):
                await fresh.execute(shows)

    async def test_no_session_is_pinned_to_a_replica(self, relay, group):
        _, port = relay
        async with connect(port) as one:
            await one.execute("BEGIN READ ONLY")
            assert await port_of(one) == group.standbys[0].port
            for sql in ("LISTEN news", "SELECT set_config('app.own', '1', false)"):
                with pytest.raises(psycopg.errors.FeatureNotSupported):
                    await one.execute(sql)
            await one.execute("SAVEPOINT a")
            await one.execute("SET lock_timeout = 7")
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                await one.execute("ROLLBACK TO a")
            await one.execute("ROLLBACK")
            await one.execute("BEGIN READ ONLY")
            with pytest.raises(DivisionByZero):
                await one.execute("SELECT 1 / 0")
            with pytest.raises(InFailedSqlTransaction):
                await one.execute("LISTEN news")
            await one.execute("ROLLBACK")
            assert await port_of(one) == group.standbys[0].port
            # An encoding in which SQL cannot be read pins, and the primary is where to.
            await one.execute("BEGIN READ ONLY")
            await one.execute("SET client_encoding = 'SJIS'")
            assert await port_of(one) == group.standbys[0].port
            await one.execute("COMMIT")
            assert await port_of(one) == group.primary.port
            await one.execute("CREATE TABLE written_after_that (a int)")
            await one.execute("DROP TABLE written_after_that")

    async def test_discard_all_unpins(self, relay, group):
        _, port = relay
        async with connect(port) as one:
            await one.execute("CREATE TEMP TABLE own (a int)")
            assert await port_of(one) == group.primary.port
            await one.execute("DISCARD ALL")
            assert await port_of(one) == group.standbys[0].port

    async def test_locks_of_a_session_are_its_own(self, relay):
        _, port = relay
        async with connect(port) as one, connect(port) as other:
            assert await value(one, "SELECT pg_try_advisory_lock(4711)")
            assert not await value(other, "SELECT pg_try_advisory_lock(4711)")
        async with connect(port) as third:
            for _ in range(200):
                if await value(third, "SELECT pg_try_advisory_lock(4711)"):
                    break
                await asyncio.sleep(0.02)
            else:
                pytest.fail("the lock outlived its session")

    async def test_notifications_reach_who_listens(self, relay):
        _, port = relay
        async with connect(port) as one, connect(port) as other:
            await one.execute("LISTEN news")
            await other.execute("NOTIFY news, 'hello'")
            async with asyncio.timeout(BOUND):
                async for found in one.notifies():
                    assert found.payload == "hello"
                    break

    async def test_sessions_may_keep_their_connection(self, group):
        route = route_to(group, mode=PoolMode.SESSION)
        async with routed(route) as (_, port), connect(port) as one:
            first = await value(one, "SELECT pg_backend_pid()")
            assert await value(one, "SELECT pg_backend_pid()") == first
            assert await port_of(one) == group.primary.port


class TestStatements:
    async def test_prepared_statements_go_along(self, relay, group):
        server, port = relay
        async with connect(port) as one, connect(port) as other:
            for number in range(12):
                for each in (one, other):
                    sql = "SELECT %s::int + 1"
                    assert await value(each, sql, number, prepare=True) == number + 1
                if number % 3 == 0:
                    await one.execute("BEGIN")
                    assert await value(one, sql, number, prepare=True) == number + 1
                    await one.execute("COMMIT")
        assert server.usage.pinned == 0

    async def test_more_statements_than_a_driver_keeps(self, relay):
        _, port = relay
        async with connect(port) as one:
            one.prepared_max = 3
            for number in range(12):
                assert await value(one, f"SELECT {number} + %s::int", 1, prepare=True) == number + 1

    async def test_pipelines(self, relay):
        _, port = relay
        async with connect(port) as one:
            async with one.pipeline():
                cursors = [await one.execute("SELECT %s::int", (n,)) for n in range(50)]
            assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(50))
            with pytest.raises(DivisionByZero):
                await pipelined(one, "SELECT 1", "SELECT 1 / 0", "SELECT 2")
            assert await value(one, "SELECT 3") == 3

    async def test_asyncpg(self, relay, group):
        server, port = relay
        pool = await asyncpg.create_pool(
            host=LOOPBACK,
            port=port,
            user=USER,
            password=PASSWORD,
            database=DATABASE,
            min_size=2,
            max_size=2,
            ssl=False,
        )
        try:
            await pool.execute("CREATE TABLE counted (a int primary key, b text)")
            for number in range(10):
                await pool.execute("INSERT INTO counted VALUES ($1, $2)", number, "x")
                assert await pool.fetchval("SELECT count(*) FROM counted") == number + 1
            async with pool.acquire() as one:
                async with one.transaction(readonly=True):
                    assert await one.fetchval("SHOW port") == str(group.standbys[0].port)
                async with one.transaction():
                    cursor = await one.cursor("SELECT a FROM counted ORDER BY a")
                    assert [row["a"] for row in await cursor.fetch(5)] == [0, 1, 2, 3, 4]
                with pytest.raises(asyncpg.UniqueViolationError):
                    await one.executemany(
                        "INSERT INTO counted VALUES ($1, $2)",
                        [(n, "y") for n in range(20, 9, -1)] + [(0, "z")],
                    )
            assert await pool.fetchval("SELECT count(*) FROM counted") == 10
            await pool.copy_records_to_table("counted", records=[(n, "c") for n in range(100, 200)])
            assert await pool.fetchval("SELECT count(*) FROM counted") == 110
            await pool.execute("DROP TABLE counted")
        finally:
            await pool.close()
        assert server.usage.replica > 10
        assert server.usage.pinned == 0


class TestClients:
    async def test_a_wrong_password_and_an_unknown_user_look_alike(self, relay):
        _, port = relay
        texts = []
        for user in (USER, "nobody"):
            with pytest.raises((InvalidPassword, psycopg.OperationalError)) as error:
                async with connect(port, user=user, password="wrong"):
                    pass
            texts.append(str(error.value).replace(user, "USER"))
        assert texts[0] == texts[1]
        assert "password authentication failed" in texts[0]

    async def test_what_the_server_refuses_is_told(self, relay):
        _, port = relay
        for more, text in (
            ({"dbname": "nowhere"}, "nowhere"),
            ({"options": "-c statement_timeout=never"}, "refuses a setting"),
            ({"options": "-x"}, "option"),
        ):
            with pytest.raises(psycopg.OperationalError, match=text):
                async with connect(port, **more):
                    pass

    async def test_a_query_is_cancelled_where_it_runs(self, relay):
        _, port = relay
        async with connect(port) as one:
            for sql in ("SELECT pg_sleep(60)", "SELECT pg_sleep(60) FROM pg_stat_activity"):
                running = asyncio.create_task(one.execute(sql))
                for _ in range(2000):
                    await asyncio.sleep(0.02)
                    await one.cancel_safe(timeout=BOUND)
                    if running.done():
                        break
                with pytest.raises(QueryCanceled):
                    await running
            assert await value(one, "SELECT 1") == 1

    async def test_few_connections_serve_many_sessions_and_the_wait_is_bounded(self, group):
        limits = PoolLimits(size=1, waiting=3, wait=30.0)
        async with (
            routed(route_to(group, pool=limits)) as (server, port),
            connect(port) as one,
            connect(port) as two,
            connect(port) as three,
        ):
            await one.execute("BEGIN")
            waiting = [asyncio.create_task(each.execute("BEGIN")) for each in (two, three)]
            pool = server.fleet.pools["primary", USER, DATABASE]
            await eventually(lambda: pool.waiting == 2)
            await one.execute("COMMIT")
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1
            assert pool.size == 1
            first, second = (two, three) if waiting[0] in done else (three, two)
            await first.execute("COMMIT")
            await asyncio.wait(waiting)
            await second.execute("COMMIT")
        limits = PoolLimits(size=1, waiting=3, wait=0.05)
        async with (
            routed(route_to(group, pool=limits)) as (_, port),
            connect(port) as one,
            connect(port) as two,
        ):
            await one.execute("BEGIN")
            with pytest.raises(TooManyConnections):
                await two.execute("BEGIN")
            await one.execute("COMMIT")
            await two.execute("BEGIN")

    async def test_users_without_an_account_can_be_passed_on(self, group):
        async with (
            routed(route_to(group, others=Others.PASS)) as (server, port),
            connect(port, user="probe") as one,
        ):
            assert await value(one, "SELECT current_user::text") == "probe"
            assert await port_of(one) == group.primary.port
            assert server.connections == 1
            await one.close()
            await eventually(lambda: server.connections == 0)

    async def test_draining_waits_for_transactions(self, group):
        async with (
            routed(route_to(group), drain_timeout=30.0) as (server, port),
            connect(port) as one,
            connect(port) as two,
        ):
            await one.execute("BEGIN")
            await two.execute("SELECT 1")
            draining = asyncio.create_task(server.drain())
            await eventually(lambda: server.connections == 1)
            await one.execute("SELECT 1")
            await one.execute("COMMIT")
            await draining
            with pytest.raises(psycopg.OperationalError, match="the relay stops"):
                await two.execute("SELECT 1")

    async def test_round_trips_are_counted_to_the_servers(self, relay):
        server, port = relay
        before = server.counts
        async with connect(port) as one:
            for _ in range(10):
                await one.execute("SELECT 1", prepare=False)
            for _ in range(10):
                await one.execute("CREATE TABLE IF NOT EXISTS trips (a int)", prepare=False)
        async with connect(port) as one:
            await one.execute("DROP TABLE trips")
        after = server.counts
        assert after.trips - before.trips == 21
        assert after.connections - before.connections == 2
        assert after.setup_trips - before.setup_trips == 2 * 4  # start, SCRAM twice, position


class TestLag:
    async def test_a_replica_that_shows_too_little_serves_no_read(self, group):
        primary, standby = group.primary.port, group.standbys[0]
        async with (
            routed(route_to(group, replica_wait=0.05)) as (server, port),
            connect(port) as one,
        ):
            await one.execute("CREATE TABLE seen (a int)")
            await eventually(lambda: server.fleet.standings.nearest_fresh() is not None)
            assert await port_of(one) == standby.port
            standby.pause_replay()
            try:
                assert await port_of(one) == standby.port  # nothing was written since
                for number in range(3):
                    await one.execute("INSERT INTO seen VALUES (1)")
                    assert await value(one, "SELECT count(*) FROM seen") == number + 1
                    assert await port_of(one) == primary
                assert server.usage.stale == 6
            finally:
                standby.resume_replay()
            await eventually(lambda: server.fleet.standings.nearest_fresh() is not None)
            assert await port_of(one) == standby.port
            await one.execute("DROP TABLE seen")

    async def test_a_floor_from_outside_holds(self, group):
        standby = group.standbys[0]
        async with (
            routed(route_to(group, replica_wait=0.05)) as (server, port),
            connect(port) as one,
        ):
            assert await port_of(one) == standby.port
            standings = server.fleet.standings
            standings.raise_floor(standings.by_name["standby1"].position + 1_000_000)
            assert await port_of(one) == group.primary.port

    async def test_no_read_is_older_than_a_write_that_was_answered(self, group):
        """Writers and readers over one relay, while the replica lags by a changing delay."""
        group.primary.query("CREATE TABLE IF NOT EXISTS register (k int primary key, v int)")
        rng, written = random.Random(11), [0] * 4
        async with (
            routed(route_to(group, replica_wait=0.03)) as (server, port),
            connect(port, user="app") as setup,
        ):
            await setup.execute("CREATE TABLE own_register (k int primary key, v int)")
            await setup.execute("INSERT INTO own_register SELECT generate_series(0, 3), 0")

            async def write(key: int) -> None:
                async with connect(port) as one:
                    for number in range(1, 25):
                        if rng.random() < 0.5:
                            await one.execute(
                                "UPDATE own_register SET v = %s WHERE k = %s", (number, key)
                            )
                        else:
                            async with one.transaction():
                                await one.execute(
                                    "UPDATE own_register SET v = %s WHERE k = %s", (number, key)
                                )
                        written[key] = number
                        await asyncio.sleep(rng.random() * 0.02)

            async def read() -> None:
                async with connect(port) as one:
                    while min(written) < 24:
                        key = rng.randrange(4)
                        least = written[key]
                        found = await value(one, "SELECT v FROM own_register WHERE k = %s", key)
                        assert found >= least

            for delay in (0.0, 0.02):
                written[:] = [0] * 4
                await asyncio.to_thread(group.standbys[0].delay_replay, delay)
                async with asyncio.TaskGroup() as tasks:
                    for key in range(4):
                        tasks.create_task(write(key))
                    for _ in range(3):
                        tasks.create_task(read())
            await asyncio.to_thread(group.standbys[0].delay_replay, 0.0)
            async with connect(port) as one:
                await one.execute("DROP TABLE own_register")
            assert server.usage.replica > 20
            assert server.usage.stale > 0


class TestPgbench:
    async def test_money_is_neither_made_nor_lost(self, relay, group):
        server, port = relay
        program = require_program("pgbench", *POSTGRES_PLACES)
        base = [program, "-h", LOOPBACK, "-p", str(port), "-U", USER]
        await pgbench([*base, "-i", "-q", DATABASE])
        for mode in ("simple", "extended", "prepared"):
            await pgbench([*base, "-n", "-c", "4", "-t", "8", "-M", mode, DATABASE])
            await pgbench([*base, "-n", "-S", "-c", "4", "-t", "20", "-M", mode, DATABASE])
        async with connect(port) as one:
            sums = [
                await value(one, f"SELECT sum({column}) FROM pgbench_{table}")
                for column, table in (
                    ("abalance", "accounts"),
                    ("bbalance", "branches"),
                    ("tbalance", "tellers"),
                    ("delta", "history"),
                )
            ]
            assert len(set(sums)) == 1
            assert await value(one, "SELECT count(*) FROM pgbench_history") == 3 * 4 * 8
        assert server.usage.replica >= 3 * 4 * 20


async def pgbench(command: list[str]) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, "PGPASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " 0 (0.000%)" in done.stdout or "-i" in command, done.stdout
