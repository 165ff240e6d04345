"""Both databases, asked by a real client."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pg8000.native
import pytest

from onetrip.model.topology import Endpoint
from onetrip.timing import MonotonicClock
from onetrip_lab import seed
from onetrip_lab.children import Children, LabError
from onetrip_lab.database import find_postgres, start_database
from support.lab_world import embedded_database, own_address
from support.waits import BOUND

needs_postgres = pytest.mark.skipif(find_postgres() is None, reason="needs server postgres")


def connect(endpoint: Endpoint) -> pg8000.native.Connection:
    return pg8000.native.Connection(
        "shop", host=endpoint.host, port=endpoint.port, database="postgres", timeout=5
    )


def ask(endpoint: Endpoint, sql: str, **params: object) -> list[list[object]]:
    with connect(endpoint) as connection:
        return connection.run(sql, **params)


@pytest.fixture
async def embedded() -> AsyncIterator[Endpoint]:
    async with embedded_database() as endpoint:
        yield endpoint


async def test_client_reads_and_writes_the_embedded_database(embedded: Endpoint) -> None:
    rows = await asyncio.to_thread(
        ask, embedded, "SELECT title, price_cents FROM items WHERE id = 7"
    )
    assert len(rows) == 1
    assert isinstance(rows[0][1], int)
    await asyncio.to_thread(ask, embedded, "INSERT INTO carts VALUES (1, 7, 2)")
    assert await asyncio.to_thread(ask, embedded, "SELECT * FROM carts") == [[1, 7, 2]]


async def test_client_uses_parameters(embedded: Endpoint) -> None:
    sql = "SELECT COUNT(*) FROM lines WHERE order_id = :order"
    assert await asyncio.to_thread(functools.partial(ask, embedded, sql, order=5)) == [
        [str(seed.LINES_PER_ORDER)]
    ]


async def test_client_uses_a_prepared_statement(embedded: Endpoint) -> None:
    def work() -> list[list[object]]:
        with connect(embedded) as connection:
            prepared = connection.prepare("SELECT name FROM customers WHERE id = :id")
            found = [prepared.run(id=n)[0] for n in (1, 2)]
            prepared.close()
            return found

    assert len(await asyncio.to_thread(work)) == 2


async def test_client_sees_a_typed_error_and_goes_on(embedded: Endpoint) -> None:
    def work() -> list[list[object]]:
        with connect(embedded) as connection:
            with pytest.raises(pg8000.native.DatabaseError) as caught:
                connection.run("SELECT * FROM nowhere")
            assert caught.value.args[0]["C"] == "42601"
            return connection.run("SELECT 1")

    assert await asyncio.to_thread(work) == [[1]]


@pytest.mark.parametrize(
    "choice",
    [
        "embedded",
        pytest.param("postgres", marks=[needs_postgres, pytest.mark.needs_server("postgres")]),
    ],
)
async def test_started_database_holds_the_shop_and_is_gone_after_stop(
    choice: str, tmp_path: Path
) -> None:
    # PostgreSQL runs as another user when the tests run as root: its folder must be reachable.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o711)
    (tmp_path / "db").mkdir()
    children, endpoint = Children(tmp_path), Endpoint(own_address(), 5432)
    try:
        running = await start_database(
            choice, endpoint, tmp_path / "db", children, MonotonicClock()
        )
        rows = await asyncio.to_thread(ask, endpoint, "SELECT COUNT(*) FROM lines")
        assert rows == [[seed.ORDERS * seed.LINES_PER_ORDER]]
        assert ("PostgreSQL" in running.product) == (choice == "postgres")
    finally:
        await children.stop()
    with pytest.raises(pg8000.native.InterfaceError):
        await asyncio.to_thread(ask, endpoint, "SELECT 1")


async def test_taken_address_is_reported_with_the_childs_own_words(tmp_path: Path) -> None:
    async with embedded_database() as taken:
        children = Children(tmp_path)
        child = await children.start(
            "database", [*_python_module("onetrip_lab.embedded"), "--listen", str(taken)]
        )
        async with asyncio.timeout(BOUND):
            assert await asyncio.shield(children.failure) is child
        with pytest.raises(LabError, match=f"(?s)database ended with code 1.*listen on {taken}"):
            children.check()
        await children.stop()


async def test_missing_program_is_a_clear_error(tmp_path: Path) -> None:
    children = Children(tmp_path)
    with pytest.raises(LabError, match="node den: cannot run /nowhere/python"):
        await children.start("node den", ["/nowhere/python"])
    await children.stop()


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('on', flush=True); time.sleep(60)"
    )
    children = Children(tmp_path)
    child = await children.start("stubborn", [*_python("-c"), program])
    async with asyncio.timeout(BOUND):
        while child.tail() != "on":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await children.stop(terminate_timeout=0.2)
    assert child.process.returncode == -9


def test_search_path_decides_which_postgres_is_found(tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        assert find_postgres(str(tmp_path)) is None
    for name in ("postgres", "initdb"):
        (tmp_path / name).chmod(0o755)
    assert find_postgres(str(tmp_path)) == tmp_path
    assert find_postgres(str(tmp_path / "none")) is None


def _python(*args: str) -> list[str]:
    return [sys.executable, *args]


def _python_module(name: str) -> list[str]:
    return _python("-m", name)
