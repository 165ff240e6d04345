"""From a database's bytes to a route's trips: application, relay, node, explanation."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import aiohttp
import pytest
import yaml
from aiohttp import web

from onetrip.app.config import load_settings
from onetrip.app.node import Node
from onetrip.model.catalog import BackendKind
from onetrip.model.topology import Endpoint
from onetrip.observe.logs import silent_log
from onetrip.relay.report import HttpPost, Reporter
from onetrip.relay.settings import RelaySettings
from onetrip.timing import MonotonicClock
from support.admin_server import admin_server
from support.fake_view import FakeView
from support.ports import free_ports
from support.relayed import LOOPBACK, relayed, serving
from support.waits import BOUND

TRIPS = {"/static": 0, "/item": 1, "/cart": 4, "/orders": 11}
RTT = 0.004


async def database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        await asyncio.sleep(RTT)
        writer.write(b"+PONG\r\n")


@contextlib.asynccontextmanager
async def application(port: int) -> AsyncIterator[int]:
    """An application that asks its database as often as its route says, over a pool."""
    pool: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def answer(request: web.Request) -> web.Response:
        reader, writer = pool.pop() if pool else await asyncio.open_connection(LOOPBACK, port)
        for _ in range(TRIPS[request.path]):
            writer.write(b"PING\r\n")
            await reader.readline()
        pool.append((reader, writer))
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
        for _, writer in pool:
            writer.close()


@contextlib.asynccontextmanager
async def node(folder: Path, database_port: int, instance: int) -> AsyncIterator[Node]:
    proxy, admin = free_ports(2)
    config = {
        "score_interval": 0.2,
        "log": {"access": "off"},
        "regions": {
            "den": {
                "node": {"listen": f"{LOOPBACK}:{proxy}", "admin": f"{LOOPBACK}:{admin}"},
            }
        },
        "backends": {"db": {"kind": "redis", "address": f"{LOOPBACK}:{database_port}"}},
        "projects": {
            "shop": {
                "environments": {
                    "production": {
                        "hosts": ["shop.test"],
                        "bindings": {"db": "db"},
                        "instances": {"den": [f"{LOOPBACK}:{instance}"]},
                        "health_path": "/static",
                    }
                }
            }
        },
    }
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(config))
    made = Node(load_settings(path, "den"), log=silent_log())
    try:
        await made.start()
        yield made
    finally:
        await made.stop(0.5)


@contextlib.asynccontextmanager
async def reporting(server, admin: int) -> AsyncIterator[None]:
    nowhere = Endpoint(LOOPBACK, 1)
    settings = RelaySettings(BackendKind.REDIS, nowhere, nowhere, "db")
    post = HttpPost(f"http://{LOOPBACK}:{admin}", None)
    clock = MonotonicClock()
    reporter = Reporter(settings, "a1", lambda: server.counts, post, clock, silent_log())
    tasks = [
        asyncio.create_task(reporter.cut_forever()),
        asyncio.create_task(reporter.send_forever()),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await post.close()


async def load(session: aiohttp.ClientSession, port: int, seed: int) -> None:
    rng = Random(seed)
    while True:
        url = f"http://{LOOPBACK}:{port}{rng.choice(list(TRIPS))}"
        async with session.get(url, headers={"Host": "shop.test"}) as reply:
            assert reply.status == 200
            await reply.read()
        await asyncio.sleep(rng.uniform(0.0, 0.1))


async def learned(session: aiohttp.ClientSession, admin: int) -> dict:
    """Wait until every route's trips are known to about half a trip."""
    url = f"http://{LOOPBACK}:{admin}/v1/relays"
    async with asyncio.timeout(BOUND):
        while True:
            async with session.get(url) as reply:
                rows = (await reply.json())["relays"]
            errors = [route["error"] for row in rows for route in row["routes"]]
            if len(errors) == len(TRIPS) and max(errors) < 0.4:
                return rows[0]
            await asyncio.sleep(0.2)


async def test_counted_trips_reach_the_explanation(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        port = await enter(serving(database))
        server, own = await enter(relayed(port))
        instance = await enter(application(own))
        here = await enter(node(tmp_path, port, instance))
        await enter(reporting(server, here.admin_port))
        session = await enter(aiohttp.ClientSession())
        tasks = [asyncio.create_task(load(session, here.proxy_port, n)) for n in range(3)]
        try:
            row = await learned(session, here.admin_port)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        found = {route["route"]: route["round_trips"] for route in row["routes"]}
        assert found == pytest.approx(TRIPS, abs=0.8)
        assert (row["backend"], row["relays"]) == ("db", 1)
        assert row["setup_trips_per_connection"] == 0.0
        # One for each of three workers, or a few more where a busy machine made one reconnect.
        assert 0 < row["connections"] <= 8
        await here.scorer.run_once()
        for decision in here.view.decisions("shop"):
            assert "relay" in decision.trips.source
            assert decision.trips.round_trips["db"] == pytest.approx(
                TRIPS[decision.key.route], abs=0.8
            )
        async with session.get(f"http://{LOOPBACK}:{here.admin_port}/metrics") as reply:
            text = await reply.text()
        trips = next(
            float(line.split()[1])
            for line in text.splitlines()
            if line.startswith('onetrip_relay_trips_total{backend="db"}')
        )
        assert 0 < trips <= server.counts.trips


REPORT = {"backend": "orders-db", "at": 1_750_000_000.0, "duration": 1.0, "trips": 7}


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({}, 204, ""),
        ({"setup_trips": 1, "connections": 1, "relay": "a1-b", "project": "shop"}, 204, ""),
        ({"backend": "nothing"}, 404, "backend"),
        ({"project": "nothing"}, 404, "project"),
        ({"trips": -1}, 400, "trips"),
        ({"trips": 1.5}, 400, "trips"),
        ({"trips": 10**12}, 400, "trips"),
        ({"duration": 0}, 400, "duration"),
        ({"at": "now"}, 400, "at"),
        ({"relay": "A!"}, 400, "relay"),
        ({"password": "x"}, 400, "password"),
    ],
)
async def test_a_report_is_taken_or_refused_by_field(change: dict, status: int, field: str) -> None:
    view = FakeView()
    async with admin_server(view) as api, aiohttp.ClientSession() as session:
        async with session.post(f"{api}/v1/flips", json=REPORT | change) as reply:
            assert reply.status == status
            if status != 204:
                assert (await reply.json())["field"] == field
        assert len(view.flips) == (status == 204)


async def test_relays_are_listed_with_cold_and_warm_trips() -> None:
    async with (
        admin_server(FakeView()) as api,
        aiohttp.ClientSession() as session,
        session.get(f"{api}/v1/relays") as reply,
    ):
        [row] = (await reply.json())["relays"]
    assert row["setup_trips_per_connection"] == 4.0
    assert row["trips_per_request"] == 11.0
    assert row["routes"][0]["round_trips"] == pytest.approx(11.0)
