"""The relay over real sockets: bytes unchanged, ends and resets passed on, everything bounded."""

import asyncio
import socket
import struct
from random import Random

import pytest

from onetrip.relay.link import WRITE_LIMIT
from onetrip.relay.links import QUIET
from onetrip.relay.server import Counts
from support.relayed import LOOPBACK, echo, relayed, serving
from support.transcripts import resp
from support.waits import BOUND, eventually

GET, VALUE = resp(b"GET", b"k"), b"$1\r\nv\r\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        writer.write(VALUE)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def test_large_data_passes_unchanged_both_ways_at_once() -> None:
    data = Random(7).randbytes(5_000_000)
    async with serving(echo) as port, relayed(port) as (_, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        async with asyncio.timeout(BOUND), asyncio.TaskGroup() as group:
            group.create_task(send())
            received = group.create_task(reader.read(-1))
        assert received.result() == data
        writer.close()


async def test_each_answer_is_one_trip() -> None:
    async with serving(answer) as port, relayed(port) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        for _ in range(11):
            writer.write(GET)
            assert await reader.readexactly(len(VALUE)) == VALUE
        assert server.counts == Counts(trips=11, setup_trips=0, connections=1)
        writer.close()
        await eventually(lambda: server.connections == 0)


async def test_the_server_may_speak_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read(1)

    async with serving(greet) as port, relayed(port) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        assert await reader.readexactly(5) == b"hello"
        assert server.counts == Counts(connections=1)
        writer.close()


async def test_each_direction_ends_on_its_own() -> None:
    async def sum_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = await reader.read(-1)
        writer.write(b"%d" % len(whole))
        writer.write_eof()

    async with serving(sum_up) as port, relayed(port) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(b"x" * 1000)
        writer.write_eof()
        assert await reader.read(-1) == b"1000"
        writer.close()
        await eventually(lambda: server.connections == 0)


async def test_a_server_that_ends_first_still_gets_what_the_client_sends() -> None:
    got: list[bytes] = []

    async def end_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        got.append(await reader.read(-1))

    async with serving(end_first) as port, relayed(port) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        assert await reader.read(-1) == b""
        writer.write(b"last words")
        writer.close()
        await eventually(lambda: server.connections == 0)
    assert got == [b"last words"]


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_reset_of_the_server_is_a_reset_for_the_client() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset(writer)

    async with serving(break_off) as port, relayed(port) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        await eventually(lambda: server.connections == 0)


async def test_a_reset_of_the_client_is_a_reset_for_the_server() -> None:
    seen: list[type[BaseException]] = []

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        try:
            await reader.read(1)
        except ConnectionError as error:
            seen.append(type(error))

    async with serving(wait) as port, relayed(port) as (server, own):
        _, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(b"x")
        await eventually(lambda: server.connections == 1)
        await asyncio.sleep(0.05)
        reset(writer)
        await eventually(lambda: server.connections == 0)
        await eventually(lambda: seen == [ConnectionResetError])


async def test_a_slow_reader_stops_the_sender() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(1)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(flood) as port, relayed(port) as (_, own):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, own))
        await asyncio.get_running_loop().sock_sendall(sock, b"x")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < WRITE_LIMIT + 16 * 1024 * 1024  # kernels buffer some megabytes
        sock.close()


async def test_a_database_that_refuses_is_a_reset() -> None:
    async with serving(answer) as port:
        pass
    async with relayed(port) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        assert server.connections == 0
        writer.close()


async def test_a_database_that_does_not_answer_is_a_reset_in_time() -> None:
    with socket.create_server((LOOPBACK, 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex((LOOPBACK, port))
        async with relayed(port, connect_timeout=0.3) as (server, own):
            reader, _ = await asyncio.open_connection(LOOPBACK, own)
            async with asyncio.timeout(BOUND):
                with pytest.raises(ConnectionResetError):
                    await reader.read(-1)
            assert server.connections == 0
        for each in fillers:
            each.close()


async def test_connections_above_the_limit_are_reset_and_the_others_live() -> None:
    async with serving(answer) as port, relayed(port, max_connections=2) as (server, own):
        kept = [await asyncio.open_connection(LOOPBACK, own) for _ in range(2)]
        reader, _ = await asyncio.open_connection(LOOPBACK, own)
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        for reader, writer in kept:
            writer.write(GET)
            assert await reader.readexactly(len(VALUE)) == VALUE
            writer.close()
        await eventually(lambda: server.connections == 0)
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(GET)
        assert await reader.readexactly(len(VALUE)) == VALUE
        writer.close()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    async with serving(answer) as port, relayed(port, idle_timeout=1.0) as (_, own):
        idle, _ = await asyncio.open_connection(LOOPBACK, own)
        busy, writer = await asyncio.open_connection(LOOPBACK, own)
        ended = asyncio.create_task(idle.read(-1))
        while not ended.done():
            writer.write(GET)
            assert await busy.readexactly(len(VALUE)) == VALUE
            await asyncio.sleep(0.1)
        assert await ended == b""
        writer.close()


async def test_drain_waits_for_an_answer_and_closes_what_is_silent() -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        asked.set()
        await go_on.wait()
        writer.write(VALUE)
        await reader.read(1)

    async with serving(answer_late) as port, relayed(port, drain_timeout=10.0) as (server, own):
        silent, _ = await asyncio.open_connection(LOOPBACK, own)
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(GET)
        await asked.wait()
        draining = asyncio.create_task(server.drain())
        assert await silent.read(-1) == b""
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection(LOOPBACK, own)
        await asyncio.sleep(QUIET + 0.2)
        assert server.connections == 1
        go_on.set()
        assert await reader.read(-1) == VALUE
        await asyncio.wait_for(draining, BOUND)
        assert server.connections == 0


async def test_drain_ends_by_its_timeout() -> None:
    async with serving(silence) as port, relayed(port, drain_timeout=0.3) as (server, own):
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(GET)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(server.drain(), BOUND)
        assert server.connections == 1
        await server.stop()
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
