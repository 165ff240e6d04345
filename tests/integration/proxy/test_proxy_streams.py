"""Bodies and connections that live on: both directions at once, 1xx, upgrades, WebSocket."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from onetrip.model.topology import Endpoint
from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import FakeUpstream
from support.proxy_rig import one_region
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECT = b"PUT /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test/1\r\n\r\n"


class TestBothDirections:
    async def test_response_starts_before_the_request_ends(self):
        async def echo(connection):
            await connection.read_head()
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                await connection.send(await connection.read_exactly(6))
            await connection.read_exactly(5)
            await connection.send(b"0\r\n\r\n")
            await connection.read_to_end()

        async with (
            FakeUpstream(echo) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(CHUNKED)
            head = await client.head()
            # The body was not read at this point, so the connection cannot be promised.
            assert b"Connection: close" in head
            for chunk in (b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n"):
                await client.send(chunk)
                assert await client.reader.readexactly(6) == chunk
            await client.send(b"0\r\n\r\n")
            assert await client.rest() == b"0\r\n\r\n"

    async def test_early_refusal_reaches_a_client_that_goes_on_sending(self):
        async def refuse(connection):
            await connection.read_head()
            await connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

        async with (
            FakeUpstream(refuse) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            client.writer.write(CHUNKED + b"10000\r\n" + b"x" * 65536)
            response = await client.response()
            assert (response.status, response.body) == (403, b"no")
            assert response.header("Connection") == ["close"]

    async def test_bodies_are_not_held_back(self):
        async def handle(connection):
            await connection.read_head()
            await connection.read_exactly(6)
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            await connection.read_exactly(11)
            await connection.send(b"cd")

        async with (
            FakeUpstream(handle) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(CHUNKED + b"1\r\na\r\n")
            await client.head()
            assert await client.reader.readexactly(2) == b"ab"
            await client.send(b"1\r\nb\r\n0\r\n\r\n")
            assert await client.reader.readexactly(2) == b"cd"


class TestInterimResponses:
    async def test_continue_is_relayed_and_then_the_body(self):
        async def handle(connection):
            while await connection.read_head():
                await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                await connection.read_exactly(5)
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with (
            FakeUpstream(handle) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            for _ in range(2):
                await client.send(EXPECT)
                assert (await client.response()).status == 100
                await client.send(b"hello")
                response = await client.response()
                assert (response.status, response.header("Connection")) == (200, [])
            assert b"\r\nExpect: 100-continue\r\n" in upstream.received

    async def test_final_status_instead_of_continue_ends_the_connection(self):
        async def refuse(connection):
            await connection.read_head()
            await connection.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
            await connection.read_to_end()

        async with (
            FakeUpstream(refuse) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(EXPECT)
            response = await client.response()
            assert (response.status, response.header("Connection")) == (417, ["close"])
            # What comes now could be the body or a request: it must be neither.
            await client.send(GET)
            assert await client.is_closed()
            assert upstream.count_requests() == 1

    async def test_client_that_sends_without_waiting_is_served(self):
        async def handle(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with FakeUpstream(handle) as upstream, one_region(upstream.endpoint) as rig:
            assert (await rig.ask(EXPECT + b"hello")).status == 200

    async def test_early_hints_are_relayed_but_not_to_http10(self):
        async def handle(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with FakeUpstream(handle) as upstream, one_region(upstream.endpoint) as rig:
            async with rig.client() as client:
                await client.send(GET)
                hints = await client.response()
                assert (hints.status, hints.header("Link")) == (103, ["</a>"])
                assert (await client.response()).status == 200
            assert (await rig.ask(GET.replace(b"1.1", b"1.0"))).status == 200


class TestUpgrades:
    async def test_tunnel_carries_bytes_both_ways_and_half_closes(self):
        async def shout(connection):
            head = await connection.read_head()
            assert b"\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n" in head
            await connection.send(SWITCH + b"early")
            said = await connection.reader.read()
            await connection.send(said.upper())

        async with (
            FakeUpstream(shout) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(UPGRADE + b"first ")
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nConnection: Upgrade\r\nUpgrade: test/1\r\n" in head
            assert await client.reader.readexactly(5) == b"early"
            await client.send(b"second")
            client.writer.write_eof()
            assert await client.rest() == b"FIRST SECOND"
            await eventually(lambda: bool(rig.lines))
            assert rig.observations == []
            assert (rig.lines[0]["bytes_in"], rig.lines[0]["bytes_out"]) == (12, 17)

    async def test_last_words_of_a_client_reach_upstream_without_a_reset(self):
        heard = asyncio.get_running_loop().create_future()

        async def listen(connection):
            await connection.read_head()
            await connection.send(SWITCH)
            heard.set_result(await connection.reader.read())

        async with FakeUpstream(listen) as upstream, one_region(upstream.endpoint) as rig:
            async with rig.client() as client:
                await client.send(UPGRADE)
                await client.head()
                await client.send(b"x" * 50_000 + b"bye")
            async with asyncio.timeout(BOUND):
                assert (await heard).endswith(b"bye")

    async def test_offer_with_a_body_is_not_passed_on(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            sized = GET[:-2] + offer + b"Content-Length: 5\r\n\r\nhello"
            chunked = CHUNKED[:-2] + offer + b"\r\n5\r\nhello\r\n0\r\n\r\n"
            for request in (sized, chunked):
                assert (await rig.ask(request)).status == 200
            assert b"pgrade" not in upstream.received
            assert upstream.received.count(b"hello") == 2

    async def test_connection_with_a_refused_offer_is_not_used_again(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            for request in (UPGRADE, GET, GET):
                await client.send(request)
                assert (await client.response()).status == 200
            assert [c.received.count(b"HTTP/1.1\r\n") for c in upstream.connections] == [1, 2]

    async def test_bytes_after_a_refused_upgrade_are_the_next_request(self):
        async def refuse(connection):
            while await connection.read_head():
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with (
            FakeUpstream(refuse) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(UPGRADE + GET.replace(b"shop.test", b"other"))
            assert (await client.response()).status == 200
            assert (await client.response()).status == 404
            assert upstream.count_requests() == 1

    async def test_silent_tunnel_ends(self):
        async def hold(connection):
            await connection.read_head()
            await connection.send(SWITCH)
            await connection.read_to_end()

        settings = ProxySettings(tunnel_timeout=0.1, linger_timeout=0.1)
        async with (
            FakeUpstream(hold) as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
            rig.client() as client,
        ):
            await client.send(UPGRADE)
            await client.head()
            assert await client.is_closed()

    @pytest.mark.parametrize("protocol", [b"h2c", b"foo, h2c", b"HTTP/2.0"])
    async def test_http2_in_clear_is_not_offered_to_upstream(self, protocol):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            assert (await rig.ask(UPGRADE.replace(b"test/1", protocol))).status == 200
            assert b"pgrade" not in upstream.received

    async def test_websocket_library_on_both_ends(self):
        async def echo(websocket):
            async for message in websocket:
                await websocket.send(message)

        async with websockets.serve(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with one_region(Endpoint("127.0.0.1", port), hosts=("127.0.0.1",)) as rig:
                url = f"ws://127.0.0.1:{rig.port}/chat"
                async with websockets.connect(url, proxy=None, max_size=None) as socket:
                    for message in ("hello", b"\x00" * 1_000_000, "bye"):
                        await socket.send(message)
                        assert await socket.recv() == message
                await eventually(lambda: bool(rig.lines))
                assert rig.lines[0]["status"] == 101
                assert rig.metrics.upgrades._value.get() == 1


async def test_large_body_both_ways_is_intact():
    size = 3_000_000

    async def echo(connection):
        await connection.read_head()
        body = await connection.read_exactly(size)
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)

    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    head = b"PUT /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % size
    async with (
        FakeUpstream(echo) as upstream,
        one_region(upstream.endpoint) as rig,
        rig.client() as client,
    ):
        client.writer.write(head + body)
        response = await client.response()
        assert response.body == body
        assert (rig.lines[0]["bytes_in"], rig.lines[0]["bytes_out"]) == (size, size)


async def test_slow_reader_stops_the_upstream_from_being_read():
    sent = 0

    async def flood(connection):
        nonlocal sent
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        while sent < 200_000_000:
            await connection.send(b"x" * 65536)
            sent += 65536

    async with (
        FakeUpstream(flood) as upstream,
        one_region(upstream.endpoint) as rig,
        rig.client() as client,
    ):
        client.writer.transport.pause_reading()
        await client.send(GET)
        await asyncio.sleep(0.3)
        # Kernel buffers of four socket ends hold some MB; the proxy itself only a few hundred kB.
        assert sent < 30_000_000
