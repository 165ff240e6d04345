"""A node over PostgreSQL with a standby: from the configuration to what applications are told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from onetrip.app.config import load_settings
from onetrip.app.node import Node
from onetrip.observe.logs import silent_log
from support.database_trouble import POSTGRES_STATEMENTS
from support.listed_databases import Lists, list_application, postgres_lists
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


def configuration(
    tmp_path: Path, far: int, near: int, instance: int, *, workers: int = 1, **promise: Any
) -> Path:
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
        "workers": workers,
        "probe": {"interval": 0.1},
        "score_interval": 0.1,
        "regions": {"den": {}},
        "backends": {"db": orders},
        "consistency": {"key_file": "key"},
        "projects": {
            "shop": {
                "consistency": {"mode": "session", "wait": 0.1, **promise},
                "environments": {"production": environment},
            }
        },
    }
    path = tmp_path / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@asynccontextmanager
async def told_application(lists: Lists, told: list[str]) -> AsyncIterator[int]:
    """Run an application that notes where it is told to read; give its port."""

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
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def test_a_client_reads_what_it_wrote_while_the_standby_is_behind(
    tmp_path: Path, postgres: PostgresGroup
) -> None:
    lists, told = postgres_lists(postgres), list[str]()
    standby = postgres.standbys[0]
    async with (
        far_away(postgres.primary.port) as far,
        told_application(lists, told) as instance,
        aiohttp.ClientSession() as browser,
    ):
        path = configuration(tmp_path, far, standby.port, instance)
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
            lists.close()


class Session:
    """A client that keeps several connections open, and its token in mind."""

    def __init__(self, port: int, connections: int) -> None:
        self._url = f"http://127.0.0.1:{port}/lists/w"
        self._token = ""
        self._clients = [self._connection() for _ in range(connections)]

    async def send(self, method: str, connection: int, path: str = "") -> str:
        """Send a request on one of the connections; return the body of the answer."""
        headers = {"Host": "shop.test"}
        if self._token:
            headers["onetrip-consistency"] = self._token
        client = self._clients[connection]
        async with client.request(method, self._url + path, headers=headers) as reply:
            assert reply.status == 200
            self._token = reply.headers.get("onetrip-consistency", self._token)
            return await reply.text()

    def forget(self) -> None:
        """Bring no token along with the next request."""
        self._token = ""

    async def read_everywhere(self) -> set[str]:
        """Read on each connection, one after the other; return what was there."""
        return {await self.send("GET", number) for number in range(len(self._clients))}

    async def reconnect(self) -> None:
        """Open all connections anew."""
        await self.close()
        self._clients = [self._connection() for _ in self._clients]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.close()

    @staticmethod
    def _connection() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
async def test_a_session_over_connections_of_several_workers_reads_what_it_wrote(
    tmp_path: Path, postgres: PostgresGroup
) -> None:
    lists, told = postgres_lists(postgres), list[str]()
    standby, values = postgres.standbys[0], list[str]()
    async with (
        far_away(postgres.primary.port) as far,
        told_application(lists, told) as instance,
    ):
        path = configuration(tmp_path, far, standby.port, instance, workers=2, carry="header")
        node = Node(load_settings(path, "den"), log=silent_log())
        await node.start()
        session, stranger = Session(node.proxy_port, 8), Session(node.proxy_port, 1)

        async def write() -> str:
            values.append(str(len(values) + 1))
            await session.send("POST", len(values) % 8, f"/{values[-1]}")
            return ",".join(values)

        def counted(outcome: str) -> float:
            found = node.metrics.exported.get_sample_value(
                "onetrip_consistency_total", {"outcome": outcome}
            )
            return found or 0

        async def until_read_nearby(reader: Session, wanted: str) -> None:
            """Read until that is done from the standby alone: on a busy machine it may be far."""
            deadline, told[:] = time.monotonic() + BOUND, [""]
            while set(told) != {"db=db/r1"}:
                assert time.monotonic() < deadline, told
                told.clear()
                assert await reader.read_everywhere() == {wanted}

        async def until_past_is_read(reader: Session) -> None:
            """Read without a token until that shows nothing of what was written."""
            deadline = time.monotonic() + BOUND
            reader.forget()
            while await reader.send("GET", 0) != "":
                assert time.monotonic() < deadline
                reader.forget()

        try:
            await until_read_nearby(stranger, "")
            standby.delay_replay(3600)
            for _ in range(4):
                everything = await write()
                assert await session.read_everywhere() == {everything}
            assert set(told[-8:]) == {"db=db"}
            await until_past_is_read(stranger)
            await eventually(lambda: min(each.connections for each in node.plane.workers()) > 1)
            # A worker that dies takes no promise with it.
            pid = node.plane.workers()[0].pid
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: node.plane.workers()[0].pid not in (0, pid))
            await eventually(lambda: all(each.is_serving for each in node.plane.workers()))
            await session.reconnect()
            assert await session.read_everywhere() == {everything}
            # Once the standby has it all, it is read again; what it shows never shrinks.
            standby.delay_replay(0)
            postgres.settle()
            await until_read_nearby(session, everything)
            for _ in range(4):
                everything = await write()
                assert await session.read_everywhere() == {everything}
            await eventually(lambda: counted("primary") >= 32)
            # A worker tells twice a second; a standby that is a little late is waited for.
            await eventually(lambda: counted("fresh") + counted("waited") >= 8)
        finally:
            standby.delay_replay(0)
            await session.close()
            await stranger.close()
            await node.stop(0.5)
            lists.close()
