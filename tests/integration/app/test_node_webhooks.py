"""Webhooks of a real node at a receiver that checks signatures with the reference library."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import standardwebhooks
from aiohttp import web

from support.fake_upstream import FakeUpstream
from support.served_node import ServedNode

NEW = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BOUND = 30.0
"""Longest wait, s."""


class Receiver:
    """Verifies what it is sent.

    Attributes:
        secret: it knows.
        got: what it took: (id, body).
        asked: paths that were asked for.
        held: attempts wait for this; None answers at once.
    """

    def __init__(self) -> None:
        self.secret = NEW
        self.status = 204
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[str] = []
        self.held: asyncio.Event | None = None
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        body = await request.read()
        checked = standardwebhooks.Webhook(self.secret).verify(body, dict(request.headers))
        if self.held is not None:
            await self.held.wait()
        if self.status < 300:
            self.got.append((request.headers["webhook-id"], checked))
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    found, app = Receiver(), web.Application()
    app.router.add_post("/{tail:.*}", found.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


async def eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def is_kept(node: ServedNode) -> bool:
    """Tell whether a message is on disk."""
    with closing(sqlite3.connect(node.folder / "data" / "here" / "onetrip.db")) as db:
        return bool(db.execute("SELECT count(*) FROM webhook_messages").fetchone()[0])


def configure(node: ServedNode, receiver: Receiver) -> None:
    (node.folder / "secret").write_text(f"{NEW}\n{OLD}\n")
    url = f"http://127.0.0.1:{receiver.port}/hook/s3cret-path"
    hook = {"name": "ops", "url": url, "events": ["app.*"], "secret_file": "secret"}
    node.write_config(webhooks=[hook])


async def test_events_are_told_signed_and_tested_by_hand(tmp_path: Path) -> None:
    async with receiving() as receiver, FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        configure(node, receiver)
        async with node:
            for secret in (NEW, OLD):  # a receiver knows either while it changes over
                receiver.secret = secret
                count = len(receiver.got)
                os.kill(node.pid, signal.SIGHUP)
                await eventually(lambda count=count: len(receiver.got) > count)
            (first, body), (second, _) = receiver.got
            assert body["type"] == "app.reloaded"
            assert body["data"]["region"] == "here"
            assert first != second
            status, made = await node.call("POST", "/v1/webhooks/ops/test")
            assert (status, made["is_delivered"], made["status"]) == (200, True, 204)
            assert receiver.got[-1][1]["type"] == "webhooks.tested"
            status, body = await node.call("GET", "/v1/webhooks")
            (row,) = body["webhooks"]
            assert (row["state"], row["pending"]) == ("ok", 0)
            assert "s3cret-path" not in str(body)
            # A redirect would take the event where nobody configured it to go.
            receiver.status = 307
            _, made = await node.call("POST", "/v1/webhooks/ops/test")
            assert (made["is_delivered"], made["error"]) == (False, "answered 307")
            assert "/elsewhere" not in receiver.asked
            _, body = await node.call("GET", "/v1/webhooks/ops/deliveries")
            assert [row["is_delivered"] for row in body["deliveries"]] == [False, True, True, True]
            name = "onetrip_webhooks_deliveries_total"
            assert await node.metric(name, webhook="ops", outcome="delivered") == 3
            assert (await node.call("POST", "/v1/webhooks/x/test"))[0] == 404
        text = node.log.read_text()
        assert "s3cret-path" not in text
        assert NEW not in text


async def test_a_message_survives_the_death_of_its_node(tmp_path: Path) -> None:
    async with receiving() as receiver, FakeUpstream() as upstream:
        receiver.held = asyncio.Event()
        node = ServedNode(tmp_path, upstream.port)
        configure(node, receiver)
        async with node:
            os.kill(node.pid, signal.SIGHUP)
            await eventually(lambda: bool(receiver.asked) and is_kept(node))
        assert receiver.got == []  # killed while the receiver held it
        receiver.held.set()
        receiver.held = None
        receiver.got.clear()
        async with node:
            await node.logged("app.started", 2)
            await eventually(lambda: bool(receiver.got))
            assert receiver.got[0][1]["type"] == "app.reloaded"
            deadline = time.monotonic() + BOUND
            while (await node.call("GET", "/v1/webhooks"))[1]["webhooks"][0]["pending"]:
                assert time.monotonic() < deadline
