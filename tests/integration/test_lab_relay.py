"""The relay between real sockets. Upper bounds have slack for a busy machine; lower ones none."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint
from onetrip_lab.topology import INTRA_RTT
from support.lab_world import NEAR_RTT, relay_to, run_precisely, two_regions
from support.waits import BOUND

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SLACK = 0.020
"""What the best of several round trips may take longer than the RTT, s."""


@asynccontextmanager
async def target(handler: Handler) -> AsyncIterator[Endpoint]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield Endpoint(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def dial(
    far: Endpoint, source: str = "127.0.0.2"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(far.host, far.port, local_addr=(source, 0))


async def round_trips(far: Endpoint, source: str, count: int) -> list[float]:
    reader, writer = await dial(far, source)
    times = []
    for number in range(count + 1):
        started_at = time.perf_counter()
        writer.write(b"%d\n" % number)
        assert await reader.readline() == b"%d\n" % number
        times.append(time.perf_counter() - started_at)
    writer.close()
    return times[1:]  # the first waits for the relay's own connect


async def round_trips_until(far: Endpoint, source: str, limit: float) -> list[float]:
    """Measure until one takes less than `limit` s; a busy machine delays others."""
    times = [limit]
    async with asyncio.timeout(BOUND):
        while min(times) >= limit:
            times += await round_trips(far, source, 5)
    return times


def test_round_trip_takes_the_rtt_of_the_regions() -> None:
    async def check() -> None:
        async with target(echo) as near, relay_to(near, "b") as (_, far):
            times = await round_trips_until(far, "127.0.0.2", NEAR_RTT + SLACK)
        assert min(times) >= NEAR_RTT

    run_precisely(check())


def test_round_trip_inside_a_region_is_short() -> None:
    async def check() -> None:
        async with target(echo) as near, relay_to(near, "b") as (_, far):
            own = await round_trips_until(far, "127.0.0.3", 0.005)
            await round_trips_until(far, "127.0.0.1", 0.005)
        assert min(own) >= INTRA_RTT

    run_precisely(check())


def test_server_that_speaks_first_is_heard_one_rtt_after_the_connect() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def check() -> None:
        async with target(greet) as near, relay_to(near, "b") as (_, far):
            started_at = time.perf_counter()
            reader, writer = await dial(far)
            assert await reader.read() == b"hello"
            assert time.perf_counter() - started_at >= NEAR_RTT
            writer.close()

    run_precisely(check())


def test_bytes_arrive_in_order_and_complete_through_backpressure() -> None:
    size = 12_000_000  # three times what a direction may hold

    async def check() -> None:
        async with target(echo) as near, relay_to(near, "b") as (_, far):
            reader, writer = await dial(far)
            sent = bytes(range(256)) * (size // 256)
            writing = asyncio.create_task(_send(writer, sent))
            received = await reader.readexactly(len(sent))
            await writing
            writer.close()
        assert received == sent

    async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
        for start in range(0, len(data), 1 << 20):
            writer.write(data[start : start + (1 << 20)])
            await writer.drain()

    run_precisely(check())


def test_half_closed_connection_still_carries_the_reply() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read()))
        writer.close()

    async def check() -> None:
        async with target(count) as near, relay_to(near, "b") as (relay, far):
            reader, writer = await dial(far)
            writer.write(bytes(1000))
            writer.write_eof()
            assert await reader.read() == b"1000"
            writer.close()
            await _until(lambda: len(relay) == 0)

    run_precisely(check())


def test_unreachable_target_resets_the_client() -> None:
    async def check() -> None:
        async with target(echo) as near:
            pass
        async with relay_to(near, "b") as (relay, far):
            reader, _ = await dial(far)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), BOUND)
            await _until(lambda: len(relay) == 0)

    run_precisely(check())


def test_reset_by_the_target_reaches_the_client() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        linger = struct.pack("ii", 1, 0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def check() -> None:
        async with target(reset) as near, relay_to(near, "b") as (relay, far):
            reader, writer = await dial(far)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), BOUND)
            await _until(lambda: len(relay) == 0)

    run_precisely(check())


def test_changed_rtt_applies_to_open_connections() -> None:
    async def check() -> None:
        async with target(echo) as near, relay_to(near, "b", two_regions(0.3)) as (relay, far):
            relay.set_rtt("a", "b", 0.01)
            times = await round_trips_until(far, "127.0.0.2", 0.05)
            relay.set_rtt("a", "b", 0.05)
            slower = await round_trips(far, "127.0.0.2", 5)
        assert min(times) >= 0.01
        assert min(slower) >= 0.05

    run_precisely(check())


def test_cut_path_stalls_and_flows_again_when_healed() -> None:
    async def check() -> None:
        async with target(echo) as near, relay_to(near, "b") as (relay, far):
            reader, writer = await dial(far)
            writer.write(b"1\n")
            await reader.readline()
            relay.cut("a", "b")
            writer.write(b"2\n")
            late_reader, late_writer = await dial(far)
            reading = asyncio.create_task(reader.readline())
            late_reading = asyncio.create_task(late_reader.readline())
            late_writer.write(b"3\n")
            done, _ = await asyncio.wait({reading, late_reading}, timeout=3 * NEAR_RTT)
            assert not done
            relay.heal("a", "b")
            async with asyncio.timeout(BOUND):
                assert await reading == b"2\n"
                assert await late_reading == b"3\n"
            writer.close()
            late_writer.close()

    run_precisely(check())


def test_taken_address_is_a_clear_error() -> None:
    async def check() -> None:
        async with target(echo) as near, relay_to(near, "b") as (relay, _):
            with pytest.raises(ConfigError, match=f"relay cannot listen on {near}"):
                await relay.listen(near, near, "b")

    run_precisely(check())


async def _until(is_true: Callable[[], bool], timeout: float = BOUND) -> None:
    async with asyncio.timeout(timeout):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
