"""Everything that goes wrong: each failure has its own status, ends in bounded time, and leaks
nothing. Slow cases run with timeouts of a fraction of a second."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest

from onetrip.model.measure import Target, TargetKind
from onetrip.model.topology import Endpoint
from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import OK, FakeUpstream, always
from support.proxy_rig import one_region
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL = ProxySettings(head_limit=1000, target_limit=500, fields_limit=20, body_limit=1000)
QUICK = ProxySettings(
    header_timeout=0.1,
    idle_timeout=0.1,
    body_timeout=0.1,
    write_timeout=0.15,
    read_timeout=0.15,
    linger_timeout=0.1,
)

REFUSED = {
    "400": (400, "malformed", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "400 bare LF": (400, "malformed", b"GET / HTTP/1.1\nHost: shop.test\n\n"),
    "400 TLS": (400, "malformed", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"),
    "400 chunk": (400, "malformed", CHUNKED + b"zz\r\n"),
    "411": (411, "length_required", b"POST / HTTP/1.0\r\nHost: shop.test\r\n\r\n"),
    "413": (413, "body_too_large", POST.replace(b"10", b"1001")),
    "413 chunked": (413, "body_too_large", CHUNKED + b"3e9\r\n" + b"a" * 1001 + b"\r\n"),
    "414": (414, "uri_too_long", b"GET /" + b"a" * 500 + b" HTTP/1.1\r\nHost: shop.test\r\n\r\n"),
    "414 endless": (414, "uri_too_long", b"GET /" + b"a" * 2000),
    "431": (431, "head_too_large", b"GET / HTTP/1.1\r\nA: " + b"a" * 1000 + b"\r\n\r\n"),
    "431 endless": (431, "head_too_large", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 400),
    "431 fields": (431, "head_too_large", GET[:-2] + b"A: b\r\n" * 20 + b"\r\n"),
    "501": (501, "unsupported", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
    "505": (505, "version", b"GET / HTTP/2.0\r\nHost: shop.test\r\n\r\n"),
    "508": (508, "loop", GET[:-2] + b"Via: 1.1 onetrip, 1.1 a\r\n" * 8 + b"\r\n"),
}


@pytest.mark.parametrize(("status", "kind", "data"), REFUSED.values(), ids=REFUSED.keys())
async def test_refused_request_gets_its_status_and_the_connection_ends(status, kind, data):
    async with (
        FakeUpstream(lambda connection: connection.read_to_end()) as upstream,
        one_region(upstream.endpoint, settings=SMALL) as rig,
        rig.client() as client,
    ):
        await client.send(data)
        response = await client.response()
        error = json.loads(response.body)["error"]
        assert (response.status, error["status"], error["kind"]) == (status, status, kind)
        assert response.header("Content-Type") == ["application/json"]
        if status != 508:
            assert response.header("Connection") == ["close"]
            assert await client.is_closed()
        assert rig.lines[-1]["status"] == status


@pytest.mark.parametrize("host", [b"other.test", b"shop.test.evil", b"test"])
async def test_unknown_host_is_404_and_keeps_the_connection(host):
    async with (
        FakeUpstream() as upstream,
        one_region(upstream.endpoint) as rig,
        rig.client() as client,
    ):
        for _ in range(2):
            await client.send(GET.replace(b"shop.test", host))
            response = await client.response()
            assert response.status == 404
            assert json.loads(response.body)["error"]["request_id"]
        assert upstream.connections == []


async def test_error_reply_to_head_has_no_body():
    async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig, rig.client() as c:
        await c.send(GET.replace(b"GET", b"HEAD").replace(b"shop.test", b"nobody"))
        assert (await c.response(b"HEAD")).status == 404
        await c.send(GET)
        assert (await c.response()).status == 200


class TestSlowClients:
    async def test_head_that_does_not_end_is_408(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\n")
            assert (await client.response()).status == 408
            assert await client.is_closed()

    async def test_dripping_bytes_do_not_extend_the_head_deadline(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):

            async def drip():
                for byte in GET[:-4] + b"A" * 1000:
                    client.writer.write(bytes([byte]))
                    await asyncio.sleep(0.01)

            task = asyncio.ensure_future(drip())
            assert (await client.response()).status == 408
            task.cancel()

    async def test_silent_connection_is_closed_without_a_reply(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):
            assert await client.is_closed()

    async def test_idle_kept_connection_is_closed_without_a_reply(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            await client.response()
            assert await client.is_closed()

    async def test_body_that_stops_is_408_and_never_completes_upstream(self):
        async with (
            FakeUpstream(lambda connection: connection.read_to_end()) as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):
            await client.send(POST + b"half")
            assert (await client.response()).status == 408
            assert await client.is_closed()
            assert upstream.received.endswith(b"\r\n\r\nhalf")
            assert rig.observations == []

    async def test_client_that_does_not_read_is_dropped(self):
        async def flood(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await connection.send(b"x" * 65536)

        async with (
            FakeUpstream(flood) as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):
            client.writer.transport.pause_reading()
            await client.send(GET)
            await eventually(lambda: rig.server.connections == 0)
            assert rig.lines[-1]["error"] == "timeout"

    async def test_pipelining_client_that_does_not_read_is_dropped(self):
        settings = ProxySettings(write_timeout=0.15, linger_timeout=0.1, buffer_size=4096)
        big = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        async with (
            FakeUpstream(always(big)) as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
            rig.client() as client,
        ):
            client.writer.transport.pause_reading()
            client.writer.write(GET * 500)
            await eventually(lambda: rig.server.connections == 0)
            assert upstream.count_requests() < 200

    async def test_disconnect_while_waiting_ends_the_upstream_request(self):
        ended = asyncio.Event()

        async def hang(connection):
            await connection.read_request()
            await connection.read_to_end()
            ended.set()

        settings = ProxySettings(half_close_timeout=0.1)
        async with (
            FakeUpstream(hang) as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
        ):
            async with rig.client() as client:
                await client.send(GET)
                await eventually(lambda: upstream.count_requests() == 1)
            async with asyncio.timeout(BOUND):
                await ended.wait()
            await eventually(lambda: rig.server.connections == 0)
            assert (rig.lines[0]["error"], rig.observations) == ("reset", [])

    async def test_client_that_ends_mid_body_is_not_completed_upstream(self):
        async with (
            FakeUpstream(lambda connection: connection.read_to_end()) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(CHUNKED + b"5\r\nhello\r\n")
            client.writer.write_eof()
            assert (await client.response()).status == 400
            await eventually(lambda: rig.server.connections == 0)
            assert b"0\r\n\r\n" not in upstream.received


class TestBrokenUpstreams:
    @pytest.mark.parametrize(
        "answer",
        [
            b"garbage\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20,
            b"\x00\x01\x02\r\n\r\n",
        ],
    )
    async def test_garbage_is_502_and_is_not_passed_on(self, answer):
        async with (
            FakeUpstream(always(answer)) as upstream,
            one_region(upstream.endpoint, settings=SMALL) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            while (response := await client.response()).status < 200:
                pass
            assert response.status == 502
            assert json.loads(response.body)["error"]["kind"] == "malformed"
            await client.send(GET)  # the client's own connection is still good
            while (response := await client.response()).status < 200:
                pass
            assert response.status == 502
            assert len(upstream.connections) == 2

    async def test_head_over_the_limit_is_502_of_its_own_kind(self):
        answer = b"HTTP/1.1 200 OK\r\nA: " + b"b" * 2000 + b"\r\n\r\n"
        async with (
            FakeUpstream(always(answer)) as upstream,
            one_region(upstream.endpoint, settings=SMALL) as rig,
        ):
            response = await rig.ask(GET)
            error = json.loads(response.body)["error"]
            assert (response.status, error["kind"]) == (502, "head_too_large")
            assert "head is too large" in error["message"]

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
    async def test_close_before_a_response_is_502(self, sent):
        async def handle(connection):
            await connection.read_request()
            await connection.send(sent)

        async with FakeUpstream(handle) as upstream, one_region(upstream.endpoint) as rig:
            response = await rig.ask(GET)
            assert response.status == 502
            assert json.loads(response.body)["error"]["kind"] == "reset"
            assert len(upstream.connections) == 1
            assert [o.is_error for o in rig.observations] == [True]

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n",
        ],
    )
    @pytest.mark.parametrize("version", [b"1.1", b"1.0"])
    async def test_truncated_body_never_looks_complete(self, answer, version):
        async def handle(connection):
            await connection.read_request()
            await connection.send(answer)

        async with (
            FakeUpstream(handle) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(GET.replace(b"1.1", version))
            raw, was_reset = b"", False
            try:
                while data := await client.reader.read(1000):
                    raw += data
            except ConnectionResetError:
                was_reset = True
            assert b"0\r\n\r\n" not in raw
            is_delimited = b"Content-Length" in raw or b"chunked" in raw
            assert was_reset or is_delimited
            await eventually(lambda: len(rig.lines) == 1)
            assert rig.lines[0]["error"] in ("reset", "malformed")
            assert [o.is_error for o in rig.observations] == [True]

    async def test_reset_ends_a_close_delimited_body_with_a_reset(self):
        async def handle(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\npart")
            await asyncio.sleep(0.05)
            sock = connection.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.reset()

        async with (
            FakeUpstream(handle) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(GET.replace(b"1.1", b"1.0"))
            with pytest.raises(ConnectionResetError):
                await client.rest()

    async def test_silent_upstream_is_504(self):
        async def hang(connection):
            await connection.read_to_end()

        async with (
            FakeUpstream(hang) as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
        ):
            response = await rig.ask(GET)
            assert response.status == 504
            assert json.loads(response.body)["error"]["kind"] == "timeout"

    async def test_chatty_client_cannot_extend_the_wait_for_upstream(self):
        async def hang(connection):
            await connection.read_to_end()

        async with (
            FakeUpstream(hang) as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):

            async def drip():
                await client.send(GET)
                while True:
                    client.writer.write(b"G")
                    await asyncio.sleep(0.02)

            task = asyncio.ensure_future(drip())
            assert (await client.response()).status == 504
            task.cancel()

    async def test_body_that_stalls_is_cut_off(self):
        async def stall(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
            await connection.read_to_end()

        async with (
            FakeUpstream(stall) as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            await client.head()
            await eventually(lambda: bool(rig.lines))
            assert rig.lines[0]["error"] == "timeout"

    async def test_upstream_that_does_not_read_is_504(self):
        async def deaf(connection):
            connection.writer.transport.pause_reading()
            await asyncio.sleep(10)

        async with (
            FakeUpstream(deaf) as upstream,
            one_region(upstream.endpoint, settings=QUICK) as rig,
            rig.client() as client,
        ):
            client.writer.write(POST.replace(b"10", b"50000000") + b"x" * 20_000_000)
            assert (await client.response()).status == 504

    async def test_nothing_listening_is_502(self):
        async with one_region(Endpoint("127.0.0.1", 1)) as rig:
            response = await rig.ask(GET)
            assert response.status == 502
            assert "127.0.0.1" not in response.body.decode()

    async def test_endpoint_that_failed_is_left_alone_for_a_moment(self):
        async with one_region(Endpoint("127.0.0.1", 1)) as rig:
            assert (await rig.ask(GET)).status == 502
            assert (await rig.ask(GET)).status == 503
            assert [line["attempts"] for line in rig.lines] == [1, 0]

    async def test_no_ready_instance_is_503(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            rig.down.add(Target(TargetKind.INSTANCE, str(upstream.endpoint)))
            assert (await rig.ask(GET)).status == 503
            assert upstream.connections == []

    async def test_our_own_bug_is_500_and_costs_one_request(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            rig.server.snapshot = None
            assert (await rig.ask(GET)).status == 500


class TestLimits:
    async def test_connection_over_the_limit_is_503(self):
        settings = ProxySettings(max_connections=1)
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
            rig.client() as first,
        ):
            await first.send(GET)
            await first.response()
            async with rig.client() as second:
                assert (await second.response()).status == 503
                assert await second.is_closed()
            await first.send(GET)
            assert (await first.response()).status == 200

    async def test_full_upstream_queue_is_503_and_the_rest_is_served(self):
        async def slow(connection):
            while await connection.read_request():
                await asyncio.sleep(0.05)
                await connection.send(OK)

        settings = ProxySettings(pool_connections=2, pool_queue=3)
        async with (
            FakeUpstream(slow) as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
        ):
            answers = await asyncio.gather(*(rig.ask(GET) for _ in range(9)))
            statuses = sorted(a.status for a in answers)
            assert statuses == [200] * 5 + [503] * 4
            assert len(upstream.connections) == 2

    async def test_wait_for_a_connection_is_bounded(self):
        settings = ProxySettings(pool_connections=1, connect_timeout=0.1)
        async with (
            FakeUpstream(lambda connection: connection.read_to_end()) as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
            rig.client() as first,
        ):
            await first.send(GET)
            await eventually(lambda: upstream.count_requests() == 1)
            assert (await rig.ask(GET)).status == 503

    async def test_idle_upstream_connections_age_out(self):
        settings = ProxySettings(pool_idle_timeout=0.1)
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
        ):
            await rig.ask(GET)
            await eventually(lambda: upstream.connections[0].reader.at_eof())
            assert (await rig.ask(GET)).status == 200
            assert len(upstream.connections) == 2
