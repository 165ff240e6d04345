"""Sessions over PostgreSQL and MariaDB that lag, crash and fail over: the checker finds nothing.

Without the promise, the same checker finds the past: it can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from onetrip.model.catalog import Backend, BackendKind
from support.consistency_world import ConsistencyWorld, Seen, backend_of
from support.database_trouble import (
    MARIADB_OPTIONS,
    MARIADB_STATEMENTS,
    POSTGRES_SETTINGS,
    POSTGRES_STATEMENTS,
    Wait,
    lag_only,
    trouble_mariadb,
    trouble_postgres,
)
from support.histories import OWN, SEEN, check_lists
from support.listed_databases import Lists, mariadb_lists, postgres_lists
from support.replicated_mariadb import MariadbGroup, replicated_mariadb
from support.replicated_postgres import PostgresGroup, replicated_postgres

PACE, LEAST = 0.3, 60
"""Time of each trouble, s, and requests in it."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresGroup]:
    settings, statements = POSTGRES_SETTINGS, POSTGRES_STATEMENTS
    with replicated_postgres(2, settings=settings, statements=statements) as group:
        yield group


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariadbGroup]:
    options, statements = MARIADB_OPTIONS, MARIADB_STATEMENTS
    with replicated_mariadb(2, options=options, statements=statements) as group:
        yield group


def kinds(seen: Seen) -> Counter[str]:
    return Counter(found.kind for found in check_lists(seen.history))


def backend(kind: BackendKind, group: PostgresGroup | MariadbGroup):
    return backend_of(kind, [server.port for server in group.servers], "watcher", "")


async def check_that_it_is_needed(
    declared: Backend, lists: Lists, trouble: Callable[[Wait], object]
) -> None:
    """Without the promise clients see the past."""
    async with ConsistencyWorld(declared, lists, keeps=False) as world:
        seen = await world.run(trouble, PACE, LEAST)
    lists.close()
    found = kinds(seen)
    assert found[OWN] > 0
    assert found[SEEN] > 0
    assert set(found) == {OWN, SEEN}, "nothing is wrong with the database itself"


async def check_that_it_is_kept(
    declared: Backend, lists: Lists, trouble: Callable[[Wait], object]
) -> None:
    """With it nobody does, and replicas serve all the same."""
    async with ConsistencyWorld(declared, lists, keeps=True) as world:
        seen = await world.run(trouble, PACE, LEAST)
    lists.close()
    print(len(seen.history), seen.outcomes, seen.failures)
    assert kinds(seen) == {}, check_lists(seen.history)[:3]
    assert len(seen.history) > 200
    assert seen.outcomes["fresh"]
    assert seen.outcomes["waited"] + seen.outcomes["primary"] + seen.outcomes["moved"]


class TestPostgres:
    async def test_without_the_promise_clients_see_the_past(self, postgres):
        declared = backend(BackendKind.POSTGRES, postgres)
        trouble = partial(lag_only, postgres)
        await check_that_it_is_needed(declared, postgres_lists(postgres), trouble)

    async def test_with_it_nobody_does(self, postgres):
        declared, lists = backend(BackendKind.POSTGRES, postgres), postgres_lists(postgres)
        await check_that_it_is_kept(declared, lists, partial(trouble_postgres, postgres, lists))


class TestMariadb:
    async def test_without_the_promise_clients_see_the_past(self, mariadb):
        declared = backend(BackendKind.MYSQL, mariadb)
        trouble = partial(lag_only, mariadb)
        await check_that_it_is_needed(declared, mariadb_lists(mariadb), trouble)

    async def test_with_it_nobody_does(self, mariadb):
        declared, lists = backend(BackendKind.MYSQL, mariadb), mariadb_lists(mariadb)
        await check_that_it_is_kept(declared, lists, partial(trouble_mariadb, mariadb, lists))
