"""HTTP/2 to clients: the same service as over HTTP/1.1, flow control, and no way to hurt it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import struct

import h2.settings
import pytest
from hpack import Encoder

from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.proxy.allowance import CHEAP_BURST, RESET_BURST
from onetrip.proxy.settings import ProxySettings
from onetrip.wire.http2 import PREFACE, Code
from support.certs import Authority
from support.fake_upstream import FakeUpstream, always
from support.http2_client import (
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    http2_client,
)
from support.proxy_rig import one_region
from support.waits import BOUND, eventually


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("web", "shop.test", "other.test")


@pytest.fixture
def context(authority):
    return authority.client_context()


@pytest.fixture
def served(pair):
    offers = ("h2", "http/1.1")
    return CertificateSet([load_certificate(pair.cert, pair.key, protocols=offers)])


@contextlib.asynccontextmanager
async def serving(served, handler=None, **options):
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(FakeUpstream(handler))
        rig = one_region(upstream.endpoint, certificates=served, **options)
        yield await stack.enter_async_context(rig), upstream


@pytest.fixture
async def rig(served):
    async with serving(served) as (rig, upstream):
        rig.upstream = upstream
        yield rig


def errors(rig, code: Code) -> float:
    labels = {"code": code.name.lower()}
    return rig.metrics.registry.get_sample_value("onetrip_proxy_http2_errors_total", labels) or 0.0


async def echo(connection):
    """Answer with the request's own body, in the chunked coding, and a trailer."""
    while request := await connection.read_request():
        body = request.partition(b"\r\n\r\n")[2]
        if b"ransfer-" in request:
            body = re.sub(rb"(?s)([0-9a-f]+)\r\n(.*?)\r\n(?=[0-9a-f]+\r\n)", rb"\2", body)
            body = body.removesuffix(b"0\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Kind: echo\r\n\r\n"
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        await connection.send(head + chunk + b"0\r\nX-Sum: 1\r\n\r\n")


class TestService:
    async def test_request_takes_the_same_path_as_over_http1(self, rig, context):
        async with http2_client(rig, context) as client:
            answer = await client.get("/a?b=c", more=[("x-a", "1"), ("user-agent", "t")])
            assert (answer.status, answer.body) == (200, b"ok")
            assert answer.headers["onetrip-placement"] == "local-den"
            assert answer.headers["content-length"] == "2"
            seen = rig.upstream.connections[0].received
            assert seen.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: shop.test\r\n")
            for line in (
                b"x-a: 1",
                b"Via: 2.0 onetrip",
                b"X-Forwarded-Proto: https",
                b"X-Forwarded-For: 127.0.0.1",
            ):
                assert line + b"\r\n" in seen
            assert rig.lines[0]["status"] == 200
            assert rig.observations[0].key.route == "/a"

    async def test_many_streams_share_a_connection(self, rig, context):
        async with http2_client(rig, context) as client:
            streams = [await client.ask(f"/a/{n}") for n in range(100)]
            answers = [await client.answer(stream) for stream in streams]
            assert {answer.status for answer in answers} == {200}
            assert rig.server.connections == 1

    async def test_slow_stream_does_not_hold_up_the_others(self, served, context):
        release = asyncio.Event()

        async def handle(connection):
            while request := await connection.read_request():
                if b"/slow" in request:
                    await release.wait()
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with serving(served, handle) as (rig, _), http2_client(rig, context) as client:
            slow = await client.ask("/slow")
            assert (await client.get()).status == 200
            assert not client.seen(slow).is_done
            release.set()
            assert (await client.answer(slow)).status == 200

    @pytest.mark.parametrize("length", [True, False])
    async def test_bodies_and_trailers_pass(self, served, context, length):
        async with serving(served, echo) as (rig, upstream), http2_client(rig, context) as client:
            more = [("content-length", "11")] if length else []
            stream = await client.ask(method="POST", more=more, ends=False)
            await client.send(stream, b"hello ")
            await client.send(stream, b"world", ends=True)
            answer = await client.answer(stream)
            assert (answer.status, answer.body) == (200, b"hello world")
            assert answer.trailers == [("x-sum", "1")]
            assert "transfer-encoding" not in answer.headers
            seen = upstream.connections[0].received.lower()
            assert (b"transfer-encoding: chunked" in seen) is not length

    async def test_request_trailers_reach_the_application(self, served, context):
        async def handle(connection):
            await connection.read_head()
            while b"\r\n0\r\nx-sum: 7\r\n\r\n" not in connection.received:
                assert await connection.read(1000)
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with serving(served, handle) as (rig, upstream), http2_client(rig, context) as client:
            stream = await client.ask(method="POST", ends=False)
            await client.send(stream, b"x")
            client.h2.send_headers(stream, [("x-sum", "7")], end_stream=True)
            await client.flush()
            assert (await client.answer(stream)).status == 200
            assert b"x-sum: 7\r\n" in upstream.connections[0].received

    @pytest.mark.parametrize(
        ("method", "response", "status"),
        [
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
        ],
    )
    async def test_bodiless_responses_end_with_their_head(
        self, served, context, method, response, status
    ):
        parts = serving(served, always(response))
        async with parts as (rig, _), http2_client(rig, context) as client:
            answer = await client.get(method=method)
            assert (answer.status, answer.body, answer.reset) == (status, b"", None)
            assert (await client.get(method=method)).status == status

    async def test_continue_is_passed_on(self, served, context):
        async def handle(connection):
            await connection.read_head()
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await connection.read_exactly(2) == b"hi"
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with serving(served, handle) as (rig, _), http2_client(rig, context) as client:
            more = [("expect", "100-continue"), ("content-length", "2")]
            stream = await client.ask(method="POST", more=more, ends=False)
            await client.until(lambda: client.seen(stream).interims == [100])
            await client.send(stream, b"hi", ends=True)
            assert (await client.answer(stream)).status == 200

    async def test_cookies_are_joined(self, rig, context):
        async with http2_client(rig, context) as client:
            await client.get(more=[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")])
            assert b"cookie: a=1; b=2\r\n" in rig.upstream.connections[0].received

    async def test_misdirected_and_unknown_hosts_are_answered(self, rig, context):
        async with http2_client(rig, context) as client:
            assert (await client.get(host="stranger.test")).status == 421
            assert (await client.get(host="other.test")).status == 404
            assert (await client.get()).status == 200

    async def test_dead_application_is_a_502_and_nothing_more(self, served, context):
        async def close(connection):
            await connection.read_request()

        async with serving(served, close) as (rig, _), http2_client(rig, context) as client:
            assert (await client.get()).status == 502
            assert (await client.get()).status == 502
            assert client.goaway is None

    async def test_cut_off_response_is_reset(self, served, context):
        cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"

        async def handle(connection):
            await connection.read_request()
            await connection.send(cut)

        async with serving(served, handle) as (rig, _), http2_client(rig, context) as client:
            answer = await client.get()
            assert (answer.status, answer.reset) == (200, Code.INTERNAL_ERROR)

    async def test_early_answer_ends_the_request_without_an_error(self, rig, context):
        async with http2_client(rig, context) as client:
            stream = await client.ask(method="POST", host="other.test", ends=False)
            assert (await client.answer(stream)).status == 404
            await client.until(lambda: client.seen(stream).reset is not None)
            assert client.seen(stream).reset == Code.NO_ERROR

    async def test_client_without_alpn_gets_http1(self, rig, context):
        async with rig.tls_client(context) as client:
            await client.send(b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert (await client.response()).status == 200


class TestFlowControl:
    async def test_large_bodies_pass_both_ways(self, served, context):
        body = bytes(range(256)) * 4096

        async def handle(connection):
            request = await connection.read_request()
            data = request.partition(b"\r\n\r\n")[2]
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
            await connection.send(data)

        async with serving(served, handle) as (rig, _), http2_client(rig, context) as client:
            more = [("content-length", str(len(body)))]
            stream = await client.ask(method="POST", more=more, ends=False)
            await client.send(stream, body, ends=True)
            assert (await client.answer(stream)).body == body

    async def test_client_that_takes_nothing_stops_the_application(self, served, context):
        sent = 0

        async def handle(connection):
            nonlocal sent
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            while True:
                await connection.send(bytes(65536))
                sent += 65536

        async with serving(served, handle) as (rig, _), http2_client(rig, context) as client:
            client.takes = False
            stream = await client.ask()
            await client.until(lambda: len(client.seen(stream).body) == 65535)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 20_000_000  # socket buffers; nothing like the whole body

    async def test_application_that_takes_nothing_stops_the_client(self, served, context):
        async def handle(connection):
            await connection.read_head()
            await asyncio.sleep(60)

        settings = ProxySettings(buffer_size=16384)
        parts = serving(served, handle, settings=settings)
        async with parts as (rig, _), http2_client(rig, context) as client:
            stream = await client.ask(method="POST", ends=False)
            total = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while total < 100_000_000:
                        await client.send(stream, bytes(16384))
                        total += 16384
            assert total < 20_000_000

    async def test_client_that_stops_reading_is_reset_in_time(self, served, context):
        big = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(200000)
        settings = ProxySettings(write_timeout=0.3)
        parts = serving(served, always(big), settings=settings)
        async with parts as (rig, _), http2_client(rig, context) as client:
            client.takes = False
            stream = await client.ask()
            await client.until(lambda: client.seen(stream).reset is not None)
            assert rig.server.connections == 1
            await eventually(lambda: len(rig.lines) == 1)

    async def test_small_windows_and_late_updates_are_obeyed(self, served, context):
        body = b"0123456789" * 100
        big = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + body
        async with serving(served, always(big)) as (rig, _), http2_client(rig, context) as client:
            client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
            await client.flush()
            client.takes = False
            stream = await client.ask()
            await client.until(lambda: len(client.seen(stream).body) == 10)
            client.h2.increment_flow_control_window(500, stream)
            await client.flush()
            await client.until(lambda: len(client.seen(stream).body) == 510)
            for size in (5, 1000):  # the first makes the window negative
                client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})
                await client.flush()
                await asyncio.sleep(0.05)
            assert (await client.answer(stream)).body == body


MALFORMED = {
    "no method": [(":scheme", "https"), (":authority", "shop.test"), (":path", "/")],
    "no path": [(":method", "GET"), (":scheme", "https"), (":authority", "shop.test")],
    "no host": [(":method", "GET"), (":scheme", "https"), (":path", "/")],
}
GOOD = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), (":path", "/")]
EXTRA = {
    "upper-case name": ("X-A", "1"),
    "line end in a value": ("x-a", "1\r\nx-b: 2"),
    "lone line feed": ("x-a", "1\nx-b: 2"),
    "nul": ("x-a", "1\x00"),
    "colon in a name": ("x-a: 1\r\nx-b", "2"),
    "space in a name": ("x a", "1"),
    "outer space": ("x-a", " 1"),
    "empty name": ("", "1"),
    "connection": ("connection", "close"),
    "keep-alive": ("keep-alive", "1"),
    "proxy-connection": ("proxy-connection", "close"),
    "transfer-encoding": ("transfer-encoding", "chunked"),
    "upgrade": ("upgrade", "websocket"),
    "te": ("te", "gzip"),
    "late pseudo-header": (":path", "/b"),
    "unknown pseudo-header": (":protocol", "websocket"),
    "response pseudo-header": (":status", "200"),
    "other host": ("host", "evil.test"),
}


class TestMalformed:
    async def refused(self, rig, context, headers) -> int:
        """Return the status of a refused request; 400 stands for a stream error."""
        async with http2_client(rig, context) as client:
            answer = await client.get(headers=headers)
            assert not rig.upstream.connections
            assert (await client.get()).status == 200, "the connection must live on"
            assert rig.lines[0]["status"] == (answer.status or 400)
            if answer.status:
                return answer.status
            assert answer.reset == Code.PROTOCOL_ERROR
            return 400

    @pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED.keys())
    async def test_incomplete_request_is_a_stream_error(self, rig, context, headers):
        assert await self.refused(rig, context, headers) == 400

    @pytest.mark.parametrize("field", EXTRA.values(), ids=EXTRA.keys())
    async def test_field_that_http1_would_read_differently_is_a_stream_error(
        self, rig, context, field
    ):
        assert await self.refused(rig, context, [*GOOD, field]) == 400

    @pytest.mark.parametrize(
        ("name", "value", "status"),
        [
            (":path", "a", 400),
            (":path", "http://evil.test/", 400),
            (":path", "/ HTTP/1.1\r\nx: y", 400),
            (":path", "/a b", 400),
            (":path", "/a#b", 400),
            (":path", "", 400),
            (":path", "*", 400),
            (":path", "/" + "a" * 9000, 414),
            (":method", "GET /x", 400),
            (":method", "", 400),
            (":method", "CONNECT", 501),
            (":scheme", "ftp", 400),
            (":authority", "shop.test\r\nx: y", 400),
            (":authority", "user@shop.test", 400),
            (":authority", "", 400),
        ],
    )
    async def test_pseudo_header_is_checked(self, rig, context, name, value, status):
        headers = [(n, value if n == name else v) for n, v in GOOD]
        assert await self.refused(rig, context, headers) == status

    async def test_repeated_pseudo_header_is_a_stream_error(self, rig, context):
        assert await self.refused(rig, context, [GOOD[0], *GOOD]) == 400

    async def test_too_many_or_too_large_fields_are_a_431(self, rig, context):
        many = [(f"x-{number}", "1") for number in range(101)]
        assert await self.refused(rig, context, GOOD + many) == 431
        large = [(f"x-{number}", "v" * 2000) for number in range(20)]
        assert await self.refused_431(rig, context, GOOD + large)

    async def refused_431(self, rig, context, headers) -> bool:
        async with http2_client(rig, context) as client:
            return (await client.get(headers=headers)).status == 431

    @pytest.mark.parametrize("field", [(":path", "/"), ("x", "a\r\nb"), ("connection", "x")])
    async def test_malformed_trailers_reset_the_stream(self, served, context, field):
        async with serving(served, echo) as (rig, _), http2_client(rig, context) as client:
            stream = await client.ask(method="POST", ends=False)
            client.h2.send_headers(stream, [field], end_stream=True)
            await client.flush()
            assert (await client.answer(stream)).reset == Code.PROTOCOL_ERROR
            assert (await client.get()).status == 200

    @pytest.mark.parametrize("sent", [b"", b"more than five"], ids=["short", "long"])
    async def test_body_that_differs_from_its_length_ends_the_connection(
        self, served, context, sent
    ):
        async with serving(served, echo) as (rig, _), http2_client(rig, context) as client:
            stream = await client.ask(method="POST", more=[("content-length", "5")], ends=False)
            await client.raw(frame(DATA, 1, stream, sent))
            assert await client.ended() == Code.PROTOCOL_ERROR

    @pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", PREFACE[:-1] + b"X", b"\0" * 40])
    async def test_wrong_preface_ends_the_connection(self, rig, context, start):
        context.set_alpn_protocols(["h2"])
        async with rig.tls_client(context) as client:
            await client.send(start)
            await client.rest()
        assert errors(rig, Code.PROTOCOL_ERROR) == 1
        await eventually(lambda: rig.server.connections == 0)


class TestFloods:
    """Every flood ends with GOAWAY and a count, and costs the application nothing."""

    async def flooded(self, rig, context, data: bytes, rounds: int) -> int | None:
        async with http2_client(rig, context) as client:
            for _ in range(rounds):
                await client.raw(data)
            return await client.ended()

    @pytest.mark.parametrize(
        "cheap",
        [
            frame(PING, 0, 0, bytes(8)),
            frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 65535)),
            frame(PRIORITY, 0, 1, struct.pack("!IB", 0, 15)),
            frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", 1)),
            frame(0x42, 0, 0, b"unknown"),
        ],
        ids=["ping", "settings", "priority", "window", "unknown"],
    )
    async def test_frames_without_content(self, rig, context, cheap):
        rounds = int(CHEAP_BURST) // 50 + 2
        assert await self.flooded(rig, context, cheap * 50, rounds) == Code.ENHANCE_YOUR_CALM
        assert errors(rig, Code.ENHANCE_YOUR_CALM) == 1

    async def test_empty_data(self, served, context):
        async with serving(served, echo) as (rig, _), http2_client(rig, context) as client:
            stream = await client.ask(method="POST", ends=False)
            for _ in range(int(CHEAP_BURST) // 50 + 2):
                await client.raw(frame(DATA, 0, stream) * 50)
            assert await client.ended() == Code.ENHANCE_YOUR_CALM

    async def test_rapid_reset(self, served, context):
        async def never(connection):
            await connection.read_request()
            await asyncio.sleep(60)

        async with serving(served, never) as (rig, upstream), http2_client(rig, context) as client:
            with contextlib.suppress(ConnectionError):
                for _ in range(int(RESET_BURST) + 50):
                    stream = await client.ask()
                    client.h2.reset_stream(stream, Code.CANCEL)
                    await client.flush()
            assert await client.ended() == Code.ENHANCE_YOUR_CALM
            assert len(upstream.connections) <= RESET_BURST + 50
        assert errors(rig, Code.ENHANCE_YOUR_CALM) == 1

    async def test_streams_that_make_the_server_reset(self, served, context):
        async with serving(served, echo) as (rig, _), http2_client(rig, context) as client:
            with contextlib.suppress(ConnectionError):
                for _ in range(int(RESET_BURST) + 50):
                    stream = await client.ask(method="POST", ends=False)
                    client.h2.send_headers(stream, [("connection", "x")], end_stream=True)
                    await client.flush()
                    assert (await client.answer(stream)).reset == Code.PROTOCOL_ERROR
            assert await client.ended() == Code.ENHANCE_YOUR_CALM

    async def test_cancelling_now_and_then_is_fine(self, rig, context):
        async with http2_client(rig, context) as client:
            for number in range(3 * int(RESET_BURST)):
                stream = await client.ask()
                if number % 3 == 0:
                    client.h2.reset_stream(stream, Code.CANCEL)
                    await client.flush()
                else:
                    assert (await client.answer(stream)).status == 200

    async def test_endless_continuations(self, rig, context):
        start = frame(HEADERS, 1, 1, b"\x82")
        assert (
            await self.flooded(rig, context, start + frame(CONTINUATION, 0, 1, b"") * 20, 1)
            == Code.ENHANCE_YOUR_CALM
        )

    async def test_oversized_header_block(self, rig, context):
        data = frame(HEADERS, 1, 1, bytes(16384)) + frame(CONTINUATION, 0, 1, bytes(16384)) * 4
        assert await self.flooded(rig, context, data, 1) == Code.ENHANCE_YOUR_CALM

    async def test_header_bomb(self, rig, context):
        # One entry of 4000 bytes in the compression table, named 100 times by a byte each.
        block = Encoder().encode([(b"x", b"v" * 4000)]) + b"\xbe" * 100
        bomb = frame(HEADERS, 5, 1, block)
        assert await self.flooded(rig, context, bomb, 1) == Code.ENHANCE_YOUR_CALM
        assert not rig.upstream.connections

    async def test_announced_size_is_refused_before_it_arrives(self, rig, context):
        huge = (1 << 24) - 1
        head = huge.to_bytes(3, "big") + b"\0\0\0\0\0\1"
        assert await self.flooded(rig, context, head, 1) == Code.FRAME_SIZE_ERROR

    async def test_more_streams_than_allowed_end_the_connection(self, served, context):
        async def never(connection):
            await connection.read_request()
            await asyncio.sleep(60)

        async with serving(served, never) as (rig, _), http2_client(rig, context) as client:
            client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
            client.h2.remote_settings.acknowledge()
            with contextlib.suppress(ConnectionError):
                for _ in range(140):
                    await client.ask()
            assert await client.ended() is not None

    async def test_half_a_header_block_ends_in_time(self, served, context):
        settings = ProxySettings(header_timeout=0.2)
        parts = serving(served, settings=settings)
        async with parts as (rig, _), http2_client(rig, context) as client:
            await client.raw(frame(HEADERS, 1, 1, b"\x82"))
            assert await client.ended() == Code.NO_ERROR


class TestLife:
    async def test_idle_connection_ends_politely(self, served, context):
        settings = ProxySettings(idle_timeout=0.2)
        async with serving(served, settings=settings) as (rig, _):
            async with http2_client(rig, context) as client:
                assert (await client.get()).status == 200
                assert await client.ended() == Code.NO_ERROR
            await eventually(lambda: rig.server.connections == 0)

    async def test_drain_answers_what_is_in_progress(self, served, context):
        release = asyncio.Event()

        async def handle(connection):
            await connection.read_request()
            await release.wait()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with serving(served, handle) as (rig, upstream), http2_client(rig, context) as client:
            stream = await client.ask()
            await eventually(lambda: bool(upstream.connections))
            drain = asyncio.create_task(rig.server.drain(3))
            await asyncio.sleep(0.05)
            late = await client.ask()
            release.set()
            await client.until(lambda: client.seen(stream).is_done)
            assert client.seen(stream).body == b"ok"
            assert client.seen(late).status == 0
            assert await client.ended() == Code.NO_ERROR
            await drain

    async def test_connection_ends_after_its_share_of_requests(self, served, context):
        settings = ProxySettings(max_requests=2)
        parts = serving(served, settings=settings)
        async with parts as (rig, _), http2_client(rig, context) as client:
            assert (await client.get()).status == 200
            assert (await client.get()).status == 200
            assert await client.ended() == Code.NO_ERROR

    async def test_client_that_goes_away_ends_its_requests(self, served, context):
        async def never(connection):
            await connection.read_request()
            await connection.read_to_end()

        async with serving(served, never) as (rig, upstream):
            async with http2_client(rig, context) as client:
                for _ in range(5):
                    await client.ask()
                await eventually(lambda: len(upstream.connections) == 5)
            await eventually(lambda: len(rig.lines) == 5 and rig.server.connections == 0)
            assert {line["error"] for line in rig.lines} == {"reset"}


class TestOtherClients:
    async def run(self, *command: str) -> str:
        program = shutil.which(command[0])
        if program is None:
            pytest.skip(f"{command[0]} is not installed")
        process = await asyncio.create_subprocess_exec(
            program, *command[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(BOUND):
            output, _ = await process.communicate()
        return output.decode()

    async def test_curl(self, rig, authority):
        url = f"https://shop.test:{rig.tls_port}/a"
        output = await self.run(
            *("curl", "-s", "--http2", "--cacert", str(authority.file), "-d", "x=1"),
            *("--resolve", f"shop.test:{rig.tls_port}:127.0.0.1", "-w", " %{http_version}", url),
        )
        assert output == "ok 2"

    async def test_nghttp(self, rig):
        url = f"https://127.0.0.1:{rig.tls_port}/a"
        output = await self.run("nghttp", "-nv", "-H", ":authority: shop.test", url)
        assert ":status: 200" in output

    async def test_h2load(self, rig):
        url = f"https://127.0.0.1:{rig.tls_port}/a"
        authority = ":authority: shop.test"
        output = await self.run("h2load", "-n1000", "-c2", "-m50", "-H", authority, url)
        assert "1000 succeeded, 0 failed" in output
