"""Clients that vanish, and clocks that jump.

The first line of each test is a row of docs/conformance.md: fault | what a client sees | sign.
"""

from __future__ import annotations

import asyncio

from onetrip.proxy.settings import ProxySettings
from onetrip.timing import MonotonicClock
from support.fake_upstream import FakeUpstream
from support.proxy_rig import one_region
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100000\r\n\r\n"


async def test_client_vanishes_in_an_upload():
    """Client resets in the middle of an upload | - | error kind `reset` of side `downstream`; the \
instance never sees the message as complete"""
    async with (
        FakeUpstream(lambda connection: connection.read_to_end()) as upstream,
        one_region(upstream.endpoint) as rig,
    ):
        async with rig.client() as client:
            await client.send(POST + b"x" * 1000)
            await eventually(lambda: upstream.received.endswith(b"x" * 1000))
            client.writer.transport.abort()
        await eventually(lambda: bool(rig.lines) and rig.server.connections == 0)
        assert rig.lines[0]["error"] == "reset"
        assert rig.metrics.errors.labels("downstream", "reset")._value.get() == 1
        await eventually(lambda: upstream.connections[0].reader.at_eof() or _is_reset(upstream))
        assert rig.observations == []


def _is_reset(upstream: FakeUpstream) -> bool:
    return upstream.connections[0].reader.exception() is not None


async def test_client_vanishes_in_a_download():
    """Client resets in the middle of a download | - | error kind `reset` of side `downstream`; \
the instance's connection is closed"""
    ended = asyncio.Event()

    async def flood(connection):
        await connection.read_request()
        try:
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await connection.send(b"x" * 65536)
        except ConnectionError:
            ended.set()

    async with FakeUpstream(flood) as upstream, one_region(upstream.endpoint) as rig:
        async with rig.client() as client:
            await client.send(GET)
            await client.head()
            client.writer.transport.abort()
        async with asyncio.timeout(BOUND):
            await ended.wait()
        await eventually(lambda: rig.server.connections == 0)
        assert rig.lines[0]["error"] == "reset"


async def test_half_open_client():
    """Client ends its side and waits (half-open) | its answer | none"""
    async with (
        FakeUpstream() as upstream,
        one_region(upstream.endpoint) as rig,
        rig.client() as client,
    ):
        await client.send(GET)
        client.writer.write_eof()
        assert (await client.response()).status == 200
        assert await client.is_closed()
        await eventually(lambda: rig.server.connections == 0)


class JumpingClock(MonotonicClock):
    """The machine's clock, moved by a test."""

    def __init__(self) -> None:
        self.wall_jump = self.jump = 0.0

    def now(self) -> float:
        return super().now() + self.jump

    def wall(self) -> float:
        return super().wall() + self.wall_jump


async def test_wall_clock_jumps():
    """The wall clock jumps an hour, either way | nothing | time stamps alone follow it"""
    clock = JumpingClock()
    async with (
        FakeUpstream() as upstream,
        one_region(upstream.endpoint, clock=clock) as rig,
        rig.client() as client,
    ):
        for jump in (0.0, 3600.0, -3600.0):
            clock.wall_jump = jump
            await client.send(GET)
            assert (await client.response()).status == 200
        stamps = [line["ts"] for line in rig.lines]
        assert stamps[1] - stamps[0] > 3000
        assert stamps[2] - stamps[1] < -6000
        assert all(0 <= line["duration"] < 5 for line in rig.lines)
        assert len(upstream.connections) == 1


async def test_monotonic_clock_jumps_forward():
    """The machine sleeps for an hour (the monotonic clock jumps) | requests in progress end with \
504, kept connections close, new ones are served | error kind `timeout`"""

    async def hang(connection):
        while head := await connection.read_request():
            if b"/hang" not in head:
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    clock = JumpingClock()
    settings = ProxySettings(read_timeout=60.0)
    async with (
        FakeUpstream(hang) as upstream,
        one_region(upstream.endpoint, settings=settings, clock=clock) as rig,
        rig.client() as idle,
        rig.client() as busy,
    ):
        await idle.send(GET)
        assert (await idle.response()).status == 200
        await busy.send(GET.replace(b"/a", b"/hang"))
        await eventually(lambda: upstream.count_requests() == 2)
        clock.jump = 3600.0
        assert (await busy.response()).status == 504
        assert await idle.is_closed()
        assert (await rig.ask(GET)).status == 200
