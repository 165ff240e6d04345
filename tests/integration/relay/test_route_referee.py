"""The same random sessions, through a routing relay and directly: a client must see no difference.

Each side has a database of its own with the same tables. Every statement's rows, or the SQLSTATE of
its error, and the state of the transaction behind it are compared.
"""

import random

import psycopg
import pytest

from support.replicated_postgres import replicated_postgres
from support.routed import HBA, STATEMENTS, USER, connect, route_to, routed

MADE = """
CREATE TABLE items (k int PRIMARY KEY, v int NOT NULL CHECK (v < 100));
INSERT INTO items SELECT k, 0 FROM generate_series(0, 4) AS k;
CREATE SEQUENCE numbers;
CREATE VIEW next_number AS SELECT nextval('numbers') AS number;
CREATE FUNCTION bump(key int) RETURNS int LANGUAGE sql AS
  'UPDATE items SET v = v + 1 WHERE k = key RETURNING v';
"""

STEPS = (
    "SELECT k, v FROM items ORDER BY k",
    "SELECT sum(v) FROM items",
    "SELECT k FROM items WHERE v > (SELECT avg(v) FROM items) ORDER BY k",
    "TABLE items ORDER BY k",
    "SELECT number FROM next_number",
    "SELECT bump({n} % 5)",
    "UPDATE items SET v = v + 1 WHERE k = {n} % 5 RETURNING v",
    "INSERT INTO items VALUES ({n}, 1)",
    "DELETE FROM items WHERE k > 4",
    "WITH changed AS (UPDATE items SET v = 0 RETURNING k) SELECT count(*) FROM changed",
    "SELECT 1 / (k - 2) FROM items ORDER BY k",
    "SELECT nonsense",
    "SELEKT 1",
    "SELECT v FROM items WHERE k = 1 FOR UPDATE",
    "BEGIN",
    "BEGIN READ ONLY",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "SET lock_timeout = {n}",
    "SET LOCAL lock_timeout = {n}",
    "RESET lock_timeout",
    "RESET ALL",
    "SHOW lock_timeout",
    "SET default_transaction_read_only = on",
    "SET default_transaction_read_only = off",
    "SHOW default_transaction_read_only",
    "SET TRANSACTION READ ONLY",
    "SHOW transaction_read_only",
    "SELECT current_setting('lock_timeout'), current_setting('transaction_isolation')",
    "SELECT set_config('app.own', '{n}', {b})",
    # A setting that only a transaction had leaves an empty one on the connection it was on.
    "SELECT coalesce(current_setting('app.own', true), '')",
    "CREATE TEMP TABLE own (a int)",
    "INSERT INTO own VALUES ({n}) RETURNING a",
    "SELECT count(*) FROM own",
    "DROP TABLE own",
    "PREPARE p AS SELECT v + 0 FROM items WHERE k = 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "SELECT pg_try_advisory_lock(hashtext(current_database()), {n} % 3)",
    "SELECT pg_advisory_unlock(hashtext(current_database()), {n} % 3)",
    "DECLARE c CURSOR FOR SELECT k FROM items ORDER BY k",
    "DECLARE h CURSOR WITH HOLD FOR SELECT k FROM items ORDER BY k",
    "FETCH 2 FROM c",
    "FETCH 2 FROM h",
    "CLOSE ALL",
    "SELECT 1; SELECT 2",
    "BEGIN; UPDATE items SET v = v + 1 WHERE k = 0; COMMIT",
    "DO $$ BEGIN UPDATE items SET v = v + 1 WHERE k = 3; END $$",
    "",
)


REFUSED = ("FeatureNotSupported", "0A000")


async def step(session: psycopg.AsyncConnection, sql: str, style: str) -> tuple[object, object]:
    """Run one step; return all that a client sees of it."""
    try:
        if style == "parameter":
            cursor = await session.execute("SELECT v FROM items WHERE k = %s", (1,), prepare=True)
        elif style == "pipeline":
            async with session.pipeline():
                await session.execute("SELECT count(*) FROM items")
                cursor = await session.execute("SELECT max(k) FROM items WHERE k < 5")
        elif style == "copy":
            cursor = session.cursor()
            async with cursor.copy("COPY items TO STDOUT") as copy:
                rows = [bytes(row) async for row in copy]
            return sorted(b"".join(rows).split(b"\n")), session.info.transaction_status
        else:
            cursor = await session.execute(sql, prepare={"prepared": True}.get(style))
        seen: object = (
            cursor.statusmessage,
            await cursor.fetchall() if cursor.description else None,
        )
    except psycopg.Error as error:
        seen = (type(error).__name__, error.sqlstate)
    return seen, session.info.transaction_status


@pytest.fixture(scope="module")
def group():
    databases = [f"CREATE DATABASE {name} OWNER {USER}" for name in ("routed", "straight")]
    with replicated_postgres(1, hba=HBA, statements=[*STATEMENTS, *databases]) as made:
        yield made


@pytest.mark.parametrize("seed", range(3))
async def test_no_difference_can_be_seen(group, seed):
    rng = random.Random(seed)
    async with routed(route_to(group, replica_wait=1.0)) as (server, port):
        for name, where in (("routed", port), ("straight", group.primary.port)):
            async with connect(where, dbname=name) as setup:
                await setup.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                await setup.execute(MADE)
        async with (
            connect(port, dbname="routed") as relayed,
            connect(port, dbname="routed") as other,
            connect(group.primary.port, dbname="straight") as direct,
        ):
            told = []
            for number in range(120):
                if rng.random() < 0.3:
                    await other.execute("SELECT 1")  # takes the connection that was used last
                style = rng.choice(["simple"] * 8 + ["prepared", "parameter", "pipeline", "copy"])
                sql = rng.choice(STEPS).format(n=number + 10, b=rng.choice(["true", "false"]))
                told.append((style, sql))
                seen, wanted = await step(relayed, sql, style), await step(direct, sql, style)
                if seen[0] == REFUSED:
                    # State of a session in a transaction on a replica: the one known difference.
                    for session in (relayed, direct):
                        await session.execute("ROLLBACK")
                        await session.execute("DISCARD ALL")
                    continue
                assert seen == wanted, told[-12:]
        assert server.usage.replica > 5
