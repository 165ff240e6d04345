"""The demo application over a real connection to a database it reaches through the relay."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestClient, TestServer

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip.timing import MonotonicClock
from onetrip_lab.mix import Records
from onetrip_lab.shop import Database, Shop
from onetrip_lab.users import Users
from support.lab_world import NEAR_RTT, embedded_database, relay_to, run_precisely
from support.waits import BOUND


@asynccontextmanager
async def shop(endpoint: Endpoint, source: str | None = None) -> AsyncIterator[TestClient]:
    database = Database(endpoint, source, size=3)
    await database.open()
    try:
        async with TestClient(TestServer(Shop(database, "a").application())) as client:
            yield client
    finally:
        database.close()


@pytest.fixture
async def client() -> AsyncIterator[TestClient]:
    async with embedded_database() as endpoint, shop(endpoint) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "queries"),
    [("GET", "/orders/17", 11), ("GET", "/item/5", 1), ("POST", "/cart/3", 4)],
)
async def test_route_makes_its_number_of_queries(
    client: TestClient, method: str, path: str, queries: int
) -> None:
    async with client.request(method, path) as response:
        page = await response.json()
    assert response.status == 200
    assert (page["queries"], page["region"]) == (queries, "a")


async def test_order_page_holds_its_lines(client: TestClient) -> None:
    page = await (await client.get("/orders/17")).json()
    assert len(page["lines"]) == 8
    assert page["total"] == pytest.approx(
        sum(i["quantity"] * i["price"] for i in page["lines"]), abs=0.01
    )


async def test_cart_remembers_what_was_put_in(client: TestClient) -> None:
    quantities = [(await (await client.post("/cart/9")).json())["quantity"] for _ in range(3)]
    assert quantities == [1, 2, 3]


@pytest.mark.parametrize("path", ["/about", "/healthz"])
async def test_static_routes_ask_nothing(path: str) -> None:
    application = Shop(Database(Endpoint("127.0.0.1", 9), None, size=1), "a").application()
    async with TestClient(TestServer(application)) as client:
        assert (await client.get(path)).status == 200


@pytest.mark.parametrize("number", ["x", "-1", "1%3BDROP", "1234567890", "٣"])
async def test_id_that_is_no_number_is_refused(client: TestClient, number: str) -> None:
    response = await client.get(f"/orders/{number}")
    assert response.status == 400
    assert "digits" in (await response.json())["error"]


async def test_unknown_id_is_not_found_and_keeps_the_connection(client: TestClient) -> None:
    for _ in range(5):  # more often than there are connections
        assert (await client.get("/orders/999999")).status == 404
    assert (await client.get("/orders/1")).status == 200


async def test_lost_database_is_503_and_comes_back() -> None:
    async with (
        embedded_database() as near,
        relay_to(near, "b") as (relay, far),
        shop(far) as client,
    ):
        relay.reset_all()
        statuses = [(await client.get("/item/1")).status for _ in range(6)]
    assert 503 in statuses[:3]
    assert statuses[3:] == [200, 200, 200]


async def test_unreachable_database_is_a_config_error() -> None:
    database = Database(Endpoint("127.0.0.1", 9), None, size=1)
    with pytest.raises(ConfigError, match=r"database 127\.0\.0\.1:9 cannot be reached"):
        await database.open()
    database.close()


def test_every_query_is_exactly_one_round_trip() -> None:
    async def check() -> None:
        async with (
            embedded_database() as near,
            relay_to(near, "b") as (_, far),
            shop(far, source="127.0.0.2") as client,
        ):
            for path, queries in (("/orders/4", 11), ("/item/4", 1)):
                trips = math.inf
                async with asyncio.timeout(BOUND):  # a busy machine delays some requests
                    while trips >= queries * 1.5 + 0.5:
                        started_at = time.perf_counter()
                        assert (await client.get(path)).status == 200
                        trips = (time.perf_counter() - started_at) / NEAR_RTT
                        assert trips >= queries

    run_precisely(check())


async def test_users_browse_and_record_what_they_saw(client: TestClient) -> None:
    records = Records()
    users = Users(2, records, MonotonicClock())
    users.join("a", "127.0.0.2", Endpoint("127.0.0.1", client.port or 0))
    deadline = time.monotonic() + BOUND
    while records.total < 10 and time.monotonic() < deadline:
        await MonotonicClock().sleep(0.02)
    await users.leave()
    assert records.total >= 10
    assert records.failures == 0
    assert records.window(0).p50("a", "/about") is not None


async def test_users_record_a_missing_node_as_failures() -> None:
    records = Records()
    users = Users(1, records, MonotonicClock())
    users.join("a", "127.0.0.2", Endpoint("127.0.0.1", 9))
    deadline = time.monotonic() + BOUND
    while not records.failures and time.monotonic() < deadline:
        await MonotonicClock().sleep(0.02)
    await users.leave()
    assert records.last_failure.endswith("no response")
