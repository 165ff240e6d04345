"""Server-sent events: what happens at a node, as it happens.

A subscriber has no queue: it holds the id of the last event it was told and reads on from the
node's ring, so a slow one costs nothing but its connection, and misses what the ring has dropped
(and is told so). Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable

import msgspec
from aiohttp import web

from onetrip.control import convert
from onetrip.control.operations import Call
from onetrip.control.requests import outside
from onetrip.control.schemas import StatusBody
from onetrip.control.summary import status_body
from onetrip.control.view import NodeView
from onetrip.errors import ApiError, Kind

MAX_STREAMS = 32
"""Subscribers at once."""

INTERVAL = 1.0
"""Time between two looks at the status, s."""

HEARTBEAT = 15.0
"""Longest silence, s: shorter than the idle timeouts of usual proxies (60 s)."""

MAX_LIFE = 3600.0
"""Longest stream, s: then the client comes back, and its token is looked at again."""

WRITE_TIMEOUT = 10.0
"""Longest wait for a client that does not read, s."""


class Streams:
    """The handler, and all its subscribers.

    Args:
        wall: Unix time, s.
        now: monotonic time, s.
    """

    def __init__(self, view: NodeView, wall: Callable[[], float], now: Callable[[], float]) -> None:
        self._view = view
        self._wall = wall
        self._now = now
        self._open = 0
        self._closing = asyncio.Event()
        self._status: tuple[float, StatusBody] | None = None

    async def close(self) -> None:
        """End every stream."""
        self._closing.set()

    async def stream(self, call: Call) -> web.StreamResponse:
        """Tell events and changes of the status until the client goes."""
        last = self._first(call.request)
        if self._open >= MAX_STREAMS:
            raise ApiError(
                f"there are {self._open} streams, the most at once",
                kind=Kind.OVERLOADED,
                limit=str(MAX_STREAMS),
            )
        self._open += 1
        try:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(call.request)
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._feed(response, last)
            return response
        finally:
            self._open -= 1

    def _first(self, request: web.Request) -> int | None:
        text = request.headers.get("Last-Event-ID")
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
            raise outside("last-event-id", text, "the id of an earlier event")
        return int(text)

    async def _feed(self, response: web.StreamResponse, last: int | None) -> None:
        newest = self._view.events(1)
        told = last if last is not None else (newest[0].id if newest else 0)
        status, quiet_since, end = "", self._now(), self._now() + MAX_LIFE
        while not self._closing.is_set() and self._now() < end:
            text = ""
            if (change := _status_key(body := self._status_now())) != status:
                status, text = change, _message("status", body)
            missed, events = self._view.events_after(told)
            if missed:
                text += _message("missed", None)
            for event in events:
                told = event.id
                text += _message("event", convert.event_row(event), event.id)
            if not text and self._now() - quiet_since >= HEARTBEAT:
                text = ":\n\n"
            if text:
                quiet_since = self._now()
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await response.write(text.encode())
            await self._wait()

    async def _wait(self) -> None:
        waits = [
            asyncio.ensure_future(self._view.next_event()),
            asyncio.ensure_future(self._closing.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def _status_now(self) -> StatusBody:
        """Return the status, made at most once an interval for all subscribers."""
        now = self._now()
        if self._status is None or now - self._status[0] >= INTERVAL:
            self._status = now, status_body(self._view, self._wall())
        return self._status[1]


def _status_key(body: StatusBody) -> str:
    """Return what makes a status a new one; figures that always move do not."""
    facts = (body.state, body.problems, body.routes, body.catalog_version, body.regions_alive)
    return repr(facts)


def _message(name: str, body: msgspec.Struct | None, id: int | None = None) -> str:
    head = f"event: {name}\n" + (f"id: {id}\n" if id is not None else "")
    return f"{head}data: {msgspec.json.encode(body).decode()}\n\n"
