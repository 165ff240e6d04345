"""A node over PostgreSQL with a standby: from the configuration to what applications are told."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from onetrip.app.config import load_settings
from onetrip.app.node import Node
from onetrip.observe.logs import silent_log
from support.database_trouble import POSTGRES_STATEMENTS
from support.listed_databases import list_application, postgres_lists
from support.ports import free_port
from support.replicated_postgres import PostgresGroup, replicated_postgres
from support.waits import BOUND, eventually

FAR = 0.03
"""Delay of each answer of the primary, s: the standby is nearer."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresGroup]:
    with replicated_postgres(1, statements=POSTGRES_STATEMENTS) as group:
        yield group


@asynccontextmanager
async def far_away(port: int) -> AsyncIterator[int]:
    """Forward connections to a port of this machine; answers come late."""
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(late)
            writer.write(data)
        writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        for task in (copy(reader, there[1], 0.0), copy(there[0], writer, FAR)):
            tasks.add(asyncio.ensure_future(task))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def configuration(tmp_path: Path, far: int, near: int, instance: int) -> Path:
    """Write a file whose project promises consistency over two endpoints."""
    (tmp_path / "key").write_text("a key for the tokens of tests")
    account = {"user": "watcher", "interval": 0.2, "max_lag": 600}
    orders = {
        "kind": "postgres",
        "address": f"127.0.0.1:{far}",
        "replicas": {"r1": {"address": f"127.0.0.1:{near}"}},
        "replication": account,
    }
    environment = {
        "hosts": ["shop.test"],
        "instances": {"den": [f"127.0.0.1:{instance}"]},
        "bindings": {"db": {"backend": "db", "reads": "nearest"}},
    }
    data = {
        "listen": f"127.0.0.1:{free_port()}",
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "log": {"access": "off"},
        "probe": {"interval": 0.1},
        "score_interval": 0.1,
        "regions": {"den": {}},
        "backends": {"db": orders},
        "consistency": {"key_file": "key"},
        "projects": {
            "shop": {
                "consistency": {"mode": "session", "wait": 0.1},
                "environments": {"production": environment},
            }
        },
    }
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


async def test_a_client_reads_what_it_wrote_while_the_standby_is_behind(
    tmp_path: Path, postgres: PostgresGroup
) -> None:
    lists, told = postgres_lists(postgres), list[str]()

    @web.middleware
    async def note(request, handler):
        if request.path.startswith("/lists"):
            told.append(request.headers.get("onetrip-read", ""))
        return await handler(request)

    application = list_application(lists, "db/r1")
    application.middlewares.append(note)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    standby = postgres.standbys[0]
    async with far_away(postgres.primary.port) as far, aiohttp.ClientSession() as browser:
        path = configuration(tmp_path, far, standby.port, int(runner.addresses[0][1]))
        node = Node(load_settings(path, "den"), log=silent_log())
        await node.start()
        url = f"http://127.0.0.1:{node.proxy_port}/lists/a"
        headers = {"Host": "shop.test"}

        async def is_read_nearby() -> bool:
            async with browser.get(url, headers=headers) as reply:
                assert reply.status == 200
            return told[-1] == "db=db/r1"

        try:
            deadline = time.monotonic() + BOUND
            while not await is_read_nearby():
                assert time.monotonic() < deadline, told[-1]
            standby.delay_replay(3600)  # one that is paused would not count as a place to read
            browser.cookie_jar.clear()
            async with browser.post(f"{url}/1", headers=headers) as reply:
                assert reply.status == 200
                (cookie,) = reply.headers.getall("Set-Cookie")
                assert re.match(r"onetrip-wrote=v1\.\S+; Path=/; Max-Age=3600; HttpOnly", cookie)
            token = {"Cookie": cookie.partition(";")[0]}
            async with browser.get(url, headers=headers | token) as reply:
                assert (await reply.text(), told[-1]) == ("1", "db=db")
            async with browser.get(url, headers=headers) as reply:
                assert (await reply.text(), told[-1]) == ("", "db=db/r1"), "another client"
            standby.delay_replay(0)
            postgres.settle()
            async with browser.get(url, headers=headers | token) as reply:
                assert (await reply.text(), told[-1]) == ("1", "db=db/r1")
            metrics = node.metrics.registry
            name = "onetrip_consistency_total"
            await eventually(lambda: metrics.get_sample_value(name, {"outcome": "primary"}) == 1)
            assert metrics.get_sample_value(name, {"outcome": "fresh"})
        finally:
            standby.delay_replay(0)
            await node.stop(0.5)
            await runner.cleanup()
            lists.close()
