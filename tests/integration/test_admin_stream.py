"""Server-sent events and the rate limit, on a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from onetrip.control import stream
from onetrip.control.api import build_admin
from onetrip.control.rates import RateLimit
from onetrip.observe.logs import silent_log
from support.fake_view import FakeView

BOUND = 20.0
"""Longest wait for a message, s."""


class Served:
    """An admin API, its session and its view."""

    def __init__(self, view: FakeView, runner: web.AppRunner, url: str) -> None:
        self.view = view
        self.runner = runner
        self.session = aiohttp.ClientSession(url)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    view = FakeView()
    runner = web.AppRunner(build_admin(view, token=None, log=silent_log(), wall=view.wall))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found = Served(view, runner, f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield found
    await found.session.close()
    await runner.cleanup()


async def message(reply: aiohttp.ClientResponse) -> tuple[str, int | None, Any]:
    """Return the next message: its name, id and data; a comment's name is ""."""
    fields = dict[str, str]()
    async with asyncio.timeout(BOUND):
        while line := (await reply.content.readline()).decode().rstrip("\n"):
            name, _, text = line.partition(": ")
            fields[name] = text
    number = int(fields["id"]) if "id" in fields else None
    return fields.get("event", ""), number, json.loads(fields.get("data", "null"))


async def test_stream_tells_the_status_and_then_what_happens(served: Served) -> None:
    async with served.session.get("/v1/stream") as reply:
        assert reply.content_type == "text/event-stream"
        assert reply.headers["Cache-Control"] == "no-store"
        name, _, body = await message(reply)
        assert (name, body["state"], body["region"]) == ("status", "ok", "den")
        served.view.happen("place.moved", "shop/production read /x", "to bom")
        name, id, body = await message(reply)
        assert (name, body["name"], body["detail"]) == ("event", "place.moved", "to bom")
        assert (id, body["id"]) == (served.view.events(1)[0].id,) * 2


async def test_status_is_told_again_when_it_changes(served: Served) -> None:
    async with served.session.get("/v1/stream") as reply:
        assert (await message(reply))[2]["state"] == "ok"
        served.view.dead = frozenset({"bom"})
        name, _, body = await message(reply)
        assert (name, body["state"]) == ("status", "degraded")


async def test_client_that_comes_back_gets_what_it_missed(served: Served) -> None:
    last = served.view.events(3)[-1].id
    async with served.session.get("/v1/stream", headers={"Last-Event-ID": str(last)}) as reply:
        found = [await message(reply) for _ in range(3)]
    assert [(name, id) for name, id, _ in found] == [
        ("status", None),
        ("event", last + 1),
        ("event", last + 2),
    ]


async def test_gap_is_told(served: Served) -> None:
    async with served.session.get("/v1/stream", headers={"Last-Event-ID": "1"}) as reply:
        found = [(await message(reply))[0] for _ in range(3)]
    assert found == ["status", "missed", "event"]


async def test_silence_is_broken(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.0)
    async with served.session.get("/v1/stream") as reply:
        assert (await message(reply))[0] == "status"
        assert await message(reply) == ("", None, None)


@pytest.mark.parametrize("id", ["x", "-1", "1" * 19])
async def test_id_of_no_event_is_refused(served: Served, id: str) -> None:
    async with served.session.get("/v1/stream", headers={"Last-Event-ID": id}) as reply:
        assert (reply.status, (await reply.json())["field"]) == (400, "last-event-id")


async def test_streams_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    async with served.session.get("/v1/stream") as reply:
        await message(reply)
        async with served.session.get("/v1/stream") as other:
            assert (other.status, (await other.json())["limit"]) == (503, "1")


async def test_stream_ends_with_the_node(served: Served) -> None:
    async with served.session.get("/v1/stream") as reply:
        await message(reply)
        async with asyncio.timeout(BOUND):
            await served.runner.cleanup()
            assert await reply.content.read() == b""


async def test_caller_with_nothing_left_is_told_when_to_come_back() -> None:
    view, at = FakeView(), [0.0]
    rates = RateLimit(0.5, 3, lambda: at[0])
    app = build_admin(view, token="right", log=silent_log(), wall=view.wall, rates=rates)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def get(path: str, token: str) -> aiohttp.ClientResponse:
        async with session.get(path, headers={"Authorization": f"Bearer {token}"}) as reply:
            await reply.read()
            return reply

    async with aiohttp.ClientSession(url) as session:
        paths = ("/v1/status", "/v1/nope", "/v1/status")
        left = [(await get(path, "right")).headers["RateLimit"] for path in paths]
        assert left == [f'"default";r={n};t={t}' for n, t in ((2, 2), (1, 4), (0, 6))]
        refused = await get("/v1/status", "right")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
        assert refused.content_type == "application/problem+json"
        guesses = [(await get("/v1/status", "guess")).status for _ in range(4)]
        assert guesses == [401, 401, 401, 429]
        healthy = await get("/healthz", "right")
        assert healthy.status == 200
        assert "RateLimit" not in healthy.headers
        at[0] += 2.0
        assert (await get("/v1/status", "right")).status == 200
    await runner.cleanup()
