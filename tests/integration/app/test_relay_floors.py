"""A node's questions to routing relays, over their HTTP: told, silent, foreign and broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from onetrip.app.relay_floors import RelayClient, RelayFloors
from onetrip.model.replication import lsn, parse_position
from support.ports import free_port

TOKEN = "a token of the relays"


class FakeRelay:
    """The HTTP of a relay that routes.

    Attributes:
        floors: bodies of the floors that it was told.
        reply: what it says of its position.
    """

    def __init__(self) -> None:
        self.floors: list[dict[str, str]] = []
        self.reply: object = {"backend": "db", "position": "0/0", "floor": "0/0"}
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeRelay]:
        application = web.Application()
        application.router.add_get("/position", self._position)
        application.router.add_post("/floor", self._floor)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _position(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response(self.reply)

    async def _floor(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        if body["backend"] != "db":
            raise web.HTTPNotFound
        self.floors.append(body)
        return web.json_response({"backend": "db", "floor": body["position"]})

    def _check(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized


@pytest.fixture
async def client() -> AsyncIterator[RelayClient]:
    client = RelayClient()
    yield client
    await client.close()


async def test_every_relay_is_told_the_floor(client: RelayClient) -> None:
    async with FakeRelay().serving() as first, FakeRelay().serving() as second:
        floors = RelayFloors(client, "db", (first.url, second.url), TOKEN)
        assert await floors.hold(parse_position("16/B374D848"))
        assert first.floors == second.floors == [{"backend": "db", "position": "16/B374D848"}]


async def test_one_that_is_silent_or_refuses_holds_nothing(client: RelayClient) -> None:
    async with FakeRelay().serving() as relay:
        nobody = f"http://127.0.0.1:{free_port()}"
        for backend, urls, token in (
            ("db", (relay.url, nobody), TOKEN),
            ("other", (relay.url,), TOKEN),
            ("db", (relay.url,), "not the token"),
        ):
            floors = RelayFloors(client, backend, urls, token)
            assert not await floors.hold(lsn(8))
            if backend == "db":
                assert await floors.written() is None


async def test_commits_through_all_relays_are_covered(client: RelayClient) -> None:
    async with FakeRelay().serving() as first, FakeRelay().serving() as second:
        floors = RelayFloors(client, "db", (first.url, second.url), TOKEN)
        assert await floors.written() is None
        first.reply, second.reply = {"position": "0/500"}, {"position": "0/800", "more": 1}
        assert await floors.written() == lsn(0x800)
        first.reply = {"position": "0/0"}
        assert await floors.written() is None, "it may have been started again"


@pytest.mark.parametrize("reply", [{}, [], {"position": 7}, {"position": "x"}, "no", None])
async def test_nonsense_is_no_position(client: RelayClient, reply: object) -> None:
    async with FakeRelay().serving() as relay:
        relay.reply = reply
        assert await RelayFloors(client, "db", (relay.url,), TOKEN).written() is None


async def test_no_relay_covers_nothing(client: RelayClient) -> None:
    floors = RelayFloors(client, "db", (), "")
    assert await floors.written() is None
    assert await asyncio.wait_for(floors.hold(lsn(1)), 1)
