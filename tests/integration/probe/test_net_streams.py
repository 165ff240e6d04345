"""The small stream: what it hands out, when it says bytes came, and its bounds."""

from __future__ import annotations

import asyncio
import socket

import pytest

from onetrip.errors import Kind, UpstreamError
from onetrip.net.dial import LOST_AFTER, PROBE_AFTER, TcpDialer
from onetrip.net.streams import Connection
from onetrip.timing import MonotonicClock
from support.delayed_servers import DelayedServer, Visitor, serving
from support.waits import BOUND, eventually

CLOCK = MonotonicClock()


async def connected(server: DelayedServer, limit: int = 65536) -> Connection:
    return await TcpDialer()(
        lambda: Connection(CLOCK, limit), "127.0.0.1", server.endpoint.port, timeout=BOUND
    )


async def echo(visitor: Visitor) -> None:
    while True:
        await visitor.answer(await visitor.question(4))


async def test_bytes_come_back_with_the_time_of_their_arrival() -> None:
    async with serving(echo, delay=0.02) as server:
        connection = await connected(server)
        assert connection.is_idle
        asked_at = CLOCK.now()
        connection.write(b"ping")
        assert connection.answered_at is None
        await eventually(lambda: connection.answered_at is not None)
        noticed_at = CLOCK.now()
        await asyncio.sleep(0.02)  # the reader is late; the instant is not
        assert await connection.read(BOUND) == b"ping"
        assert connection.answered_at is not None
        assert asked_at + 0.018 <= connection.answered_at <= noticed_at
        connection.close()


async def test_silence_is_a_timeout_and_the_connection_lives_on() -> None:
    async with serving(echo, delay=0.05) as server:
        connection = await connected(server)
        connection.write(b"ping")
        with pytest.raises(UpstreamError) as caught:
            await connection.read(0.01)
        assert caught.value.kind is Kind.TIMEOUT
        assert await connection.read(BOUND) == b"ping"
        connection.close()


async def test_end_comes_after_the_last_bytes_and_stays() -> None:
    async def farewell(visitor: Visitor) -> None:
        await visitor.send(b"bye")

    async with serving(farewell) as server:
        connection = await connected(server)
        await asyncio.sleep(0.02)
        assert not connection.is_idle
        assert await connection.read(BOUND) == b"bye"
        assert await connection.read(BOUND) == b""
        assert await connection.read(BOUND) == b""
        connection.write(b"lost")
        connection.close()


async def test_close_wakes_the_reader_and_may_be_repeated() -> None:
    async with serving(echo) as server:
        connection = await connected(server)
        reading = asyncio.get_running_loop().create_task(connection.read(BOUND))
        await asyncio.sleep(0)
        connection.close()
        connection.close()
        assert await reading == b""
        assert not connection.is_idle


async def test_unread_bytes_are_bounded_and_none_is_lost() -> None:
    size = 8 * 1024 * 1024

    async def flood(visitor: Visitor) -> None:
        await visitor.send(b"x" * size)

    async with serving(flood) as server:
        connection = await connected(server, limit=1000)
        await asyncio.sleep(0.05)
        most = total = 0
        while data := await connection.read(BOUND):
            most, total = max(most, len(data)), total + len(data)
        assert total == size
        assert most <= 1000 + 512 * 1024
        connection.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="not on this system")
async def test_a_connection_whose_other_end_is_gone_is_noticed() -> None:
    async with serving(echo, delay=0.0) as server:
        connection = await connected(server)
        sock = connection._transport.get_extra_info("socket")

        def option(level: int, name: int) -> int:
            return int(sock.getsockopt(level, name))

        assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * LOST_AFTER
        assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == PROBE_AFTER
        connection.close()
