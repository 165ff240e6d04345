"""HTTP/2 to instances: the service is that of HTTP/1.1, and one failure costs one request."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from h2.settings import SettingCodes

from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.net.dial import TcpDialer
from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.proxy.allowance import CHEAP_BURST
from onetrip.proxy.settings import ProxySettings
from onetrip.wire.http2 import Code
from support.certs import Authority
from support.fake_http2_upstream import FakeHttp2Upstream, ok
from support.fake_upstream import FakeUpstream
from support.http2_client import CONTINUATION, DATA, HEADERS, PING, SETTINGS, frame, http2_client
from support.proxy_rig import DEN, ProxyRig, make_catalog, make_topology, one_region
from support.waits import eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("web", "shop.test", "127.0.0.1")


@contextlib.asynccontextmanager
async def serving(handler=None, *, tls=None, announced=None, **options):
    async with contextlib.AsyncExitStack() as stack:
        fake = FakeHttp2Upstream(handler, tls=tls, settings=announced)
        upstream = await stack.enter_async_context(fake)
        yield await stack.enter_async_context(one_region(upstream.endpoint, **options)), upstream


@contextlib.asynccontextmanager
async def client_of(rig, authority):
    async with http2_client(rig, authority.client_context()) as client:
        yield client


@pytest.fixture
def served(pair):
    offers = ("h2", "http/1.1")
    return CertificateSet([load_certificate(pair.cert, pair.key, protocols=offers)])


def count(rig, what: str, **labels: str) -> float:
    name = f"onetrip_proxy_upstream_http2_{what}_total"
    return rig.metrics.registry.get_sample_value(name, labels) or 0.0


class TestService:
    async def test_request_and_response_keep_their_meaning(self):
        async with serving() as (rig, upstream):
            answer = await rig.ask(
                b"GET /a?b=c HTTP/1.1\r\nHost: shop.test\r\nX-A: 1 \r\nCookie: a=1; b=2\r\n"
                b"Connection: X-Gone\r\nX-Gone: 1\r\nTE: trailers\r\n\r\n"
            )
            assert (answer.status, answer.body) == (200, b"ok")
            assert answer.header("Via") == ["2.0 onetrip"]
            assert answer.header("Content-Length") == ["2"]
            headers = upstream.requests[0].headers
            assert headers[":method"] == "GET"
            assert headers[":path"] == "/a?b=c"
            assert headers[":authority"] == "shop.test"
            assert headers[":scheme"] == "http"
            assert headers["x-a"] == "1"
            assert headers["cookie"] == "a=1; b=2"
            assert headers["te"] == "trailers"
            assert headers["x-forwarded-for"] == "127.0.0.1"
            assert not headers.keys() & {"connection", "x-gone", "host", "transfer-encoding"}

    async def test_te_is_not_made_up(self):
        async with serving() as (rig, upstream):
            await rig.ask(GET)
            assert "te" not in upstream.requests[0].headers

    async def test_bodies_and_trailers_pass_both_ways(self):
        async def echo(request):
            body = await request.whole()
            await request.answer(body, trailers=[("x-sum", "7"), ("content-type", "no")])

        async with serving(echo) as (rig, upstream):
            async with rig.client() as client:
                await client.send(
                    b"POST /a HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"5\r\nhello\r\n6\r\n world\r\n0\r\nX-Mine: 1\r\n\r\n"
                )
                head = await client.head()
                assert b"Transfer-Encoding: chunked" in head
                rest = await client.reader.readuntil(b"0\r\nx-sum: 7\r\n\r\n")
                assert b"hello world" in rest.replace(b"\r\n", b"")[1:]
            assert upstream.requests[0].body == b"hello world"
            assert upstream.requests[0].trailers == [("x-mine", "1")]

    @pytest.mark.parametrize(
        ("method", "status", "more"),
        [
            (b"HEAD", 200, [("content-length", "5")]),
            (b"GET", 204, []),
            (b"GET", 304, [("content-length", "5"), ("etag", '"a"')]),
        ],
    )
    async def test_bodiless_responses_end_with_their_head(self, method, status, more):
        async def handle(request):
            await request.head(status, more, ends=True)

        async with serving(handle) as (rig, upstream), rig.client() as client:
            for _ in range(2):
                await client.send(GET.replace(b"GET", method))
                answer = await client.response(method)
                assert answer.status == status
                assert answer.header("Content-Length") == [v for n, v in more if "len" in n]
            assert len(upstream.connections) == 1

    async def test_empty_body_needs_no_chunks(self):
        async def handle(request):
            await request.head(200, ends=True)

        async with serving(handle) as (rig, _):
            answer = await rig.ask(GET)
            assert answer.header("Content-Length") == ["0"]
            assert not answer.header("Transfer-Encoding")

    async def test_interim_responses_pass(self):
        async def handle(request):
            await request.head(103, [("link", "</a>")])
            await request.answer()

        async with serving(handle) as (rig, _), rig.client() as client:
            await client.send(GET)
            assert (await client.response()).status == 103
            assert (await client.response()).body == b"ok"

    async def test_continue_is_asked_for_end_to_end(self):
        async def handle(request):
            assert request.headers["expect"] == "100-continue"
            await request.head(100)
            assert await request.whole() == b"hello"
            await request.answer()

        async with serving(handle) as (rig, _), rig.client() as client:
            head, body = POST.split(b"\r\n\r\n")
            await client.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert (await client.response()).status == 100
            await client.send(body)
            assert (await client.response()).status == 200

    async def test_many_requests_share_a_connection(self):
        release = asyncio.Event()

        async def handle(request):
            await release.wait()
            await request.answer()

        async with serving(handle) as (rig, upstream):
            asks = [asyncio.ensure_future(rig.ask(GET)) for _ in range(50)]
            await eventually(lambda: len(upstream.requests) == 50)
            release.set()
            assert {(await ask).status for ask in asks} == {200}
            assert len(upstream.connections) == 1
            assert count(rig, "connections") == 1
            assert count(rig, "streams") == 50

    async def test_connections_open_as_servers_limit_their_streams(self):
        release = asyncio.Event()

        async def handle(request):
            if request.path == "/hold":
                await release.wait()
            await request.answer()

        announced = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
        async with serving(handle, announced=announced) as (rig, upstream):
            assert (await rig.ask(GET)).status == 200  # its settings are known now
            hold = GET.replace(b"/a", b"/hold")
            asks = [asyncio.ensure_future(rig.ask(hold)) for _ in range(5)]
            await eventually(lambda: len(upstream.requests) == 6)
            assert len(upstream.connections) == 3
            release.set()
            assert {(await ask).status for ask in asks} == {200}

    async def test_requests_wait_their_turn_when_there_is_no_room(self):
        release = asyncio.Event()

        async def handle(request):
            await release.wait()
            await request.answer()

        settings = ProxySettings(upstream_streams=1, pool_connections=1)
        async with serving(handle, settings=settings) as (rig, upstream):
            asks = [asyncio.ensure_future(rig.ask(GET)) for _ in range(3)]
            await eventually(lambda: len(upstream.requests) == 1)
            release.set()
            assert {(await ask).status for ask in asks} == {200}
            assert len(upstream.connections) == 1

    async def test_idle_connection_is_closed_politely(self):
        settings = ProxySettings(pool_idle_timeout=0.1)
        async with serving(settings=settings) as (rig, upstream):
            assert (await rig.ask(GET)).status == 200
            await eventually(lambda: upstream.connections[0].is_closed)
            assert (await rig.ask(GET)).status == 200
            assert len(upstream.connections) == 2


class TestGrpc:
    async def test_call_passes_from_client_to_instance(self, served, authority):
        async def handle(request):
            assert request.headers["te"] == "trailers"
            body = await request.whole()
            await request.head(200, [("content-type", "application/grpc")])
            await request.send(body + body)
            request.connection.h2.send_headers(request.stream, [("grpc-status", "0")], True)
            await request.connection.flush()

        async with serving(handle, certificates=served) as (rig, _), client_of(rig, authority) as c:
            more = [("te", "trailers"), ("content-type", "application/grpc")]
            stream = await c.ask("/pkg.Service/Call", method="POST", more=more, ends=False)
            await c.send(stream, b"\0\0\0\0\2hi", ends=True)
            answer = await c.answer(stream)
            assert (answer.status, answer.body) == (200, b"\0\0\0\0\2hi" * 2)
            assert answer.trailers == [("grpc-status", "0")]

    async def test_error_without_a_body_ends_with_its_head(self, served, authority):
        async def handle(request):
            await request.whole()
            await request.head(200, [("grpc-status", "12")], ends=True)

        async with serving(handle, certificates=served) as (rig, _), client_of(rig, authority) as c:
            answer = await c.get(method="POST", more=[("te", "trailers")])
            assert answer.headers["grpc-status"] == "12"
            assert (answer.body, answer.trailers) == (b"", [])

    async def test_streams_talk_both_ways_at_once(self, served, authority):
        async def handle(request):
            await request.head(200)
            for size in (1, 2, 3):
                await request.connection.until(lambda n=size: len(request.body) >= n)
                await request.send(b"%d" % size)
            await request.whole()
            await request.send(b"", ends=True)

        async with serving(handle, certificates=served) as (rig, _), client_of(rig, authority) as c:
            stream = await c.ask(method="POST", ends=False)
            for size in (1, 2, 3):
                await c.send(stream, b"x")
                await c.until(lambda n=size: len(c.seen(stream).body) == n)
            await c.send(stream, b"", ends=True)
            assert (await c.answer(stream)).body == b"123"


class TestFailures:
    async def test_reset_costs_one_request(self):
        async def handle(request):
            if request.path == "/bad":
                await request.refuse(Code.INTERNAL_ERROR)
            else:
                await request.answer()

        async with serving(handle) as (rig, upstream):
            assert (await rig.ask(GET.replace(b"/a", b"/bad"))).status == 502
            assert rig.lines[0]["error"] == "reset"
            assert (await rig.ask(GET)).status == 200
            assert len(upstream.connections) == 1
            assert count(rig, "resets", code="internal_error") == 1

    async def test_reset_inside_a_body_cuts_the_response_off(self):
        async def handle(request):
            await request.head(200)
            await request.send(b"half")
            await request.refuse(Code.INTERNAL_ERROR)

        async with serving(handle) as (rig, _), rig.client() as client:
            await client.send(GET)
            with contextlib.suppress(ConnectionError):
                assert not (await client.rest()).endswith(b"0\r\n\r\n")
            await eventually(lambda: rig.lines and rig.lines[0]["error"] == "reset")

    async def test_refused_stream_goes_elsewhere_whatever_the_method(self):
        async def refuse(request):
            await request.refuse(Code.REFUSED_STREAM)

        async with FakeHttp2Upstream(refuse) as busy, FakeHttp2Upstream() as free:
            catalog = make_catalog({DEN: [busy.endpoint, free.endpoint]})
            async with ProxyRig(catalog, make_topology({DEN: None})) as rig:
                answers = [await rig.ask(POST) for _ in range(10)]
                assert {answer.status for answer in answers} == {200}
                assert busy.requests
                assert len(free.requests) == 10
                assert free.requests[0].body == b"hello"

    async def test_refusal_everywhere_is_a_503(self):
        async def refuse(request):
            await request.refuse(Code.REFUSED_STREAM)

        async with serving(refuse) as (rig, _):
            assert (await rig.ask(POST)).status == 503
            assert rig.lines[0]["error"] == "refused"

    async def test_goaway_repeats_what_was_not_begun_and_finishes_the_rest(self):
        release = asyncio.Event()

        async def handle(request):
            if request.path == "/slow":
                await release.wait()
            elif len(upstream.connections) == 1:
                await request.connection.goaway(request.connection.requests[0].stream)
                return
            await request.whole()
            await request.answer()

        async with serving(handle) as (rig, upstream):
            slow = asyncio.ensure_future(rig.ask(GET.replace(b"/a", b"/slow")))
            await eventually(lambda: len(upstream.requests) == 1)
            assert (await rig.ask(POST)).status == 200
            assert len(upstream.connections) == 2
            assert upstream.connections[1].requests[0].body == b"hello"
            release.set()
            assert (await slow).status == 200
            await eventually(lambda: upstream.connections[0].is_closed)
            assert count(rig, "goaways", code="no_error") == 1

    async def test_lost_connection_is_not_repeated_for_a_write(self):
        async def handle(request):
            if request.path == "/lose":
                request.connection.writer.transport.abort()
            else:
                await request.answer()

        async with serving(handle) as (rig, upstream):
            assert (await rig.ask(GET)).status == 200
            assert (await rig.ask(POST.replace(b"/a", b"/lose"))).status == 502
            assert len(upstream.requests) == 2
            assert (await rig.ask(GET)).status == 200

    async def test_kept_connection_that_died_does_not_fail_a_read(self):
        async def handle(request):
            if len(upstream.requests) == 2:
                request.connection.writer.transport.abort()
            else:
                await request.answer()

        async with serving(handle) as (rig, upstream):
            assert (await rig.ask(GET)).status == 200
            assert (await rig.ask(GET)).status == 200
            assert len(upstream.requests) == 3

    async def test_nobody_there_is_a_502_for_all_who_wait(self):
        async with FakeHttp2Upstream() as upstream:
            endpoint = upstream.endpoint
        async with one_region(endpoint) as rig:
            answers = await asyncio.gather(*(rig.ask(GET) for _ in range(5)))
            assert {answer.status for answer in answers} <= {502, 503}
            assert rig.lines[0]["error"] == "connect"

    async def test_client_that_leaves_frees_the_stream(self):
        async def handle(request):
            await asyncio.sleep(60)

        async with serving(handle, settings=ProxySettings(half_close_timeout=0.1)) as (rig, up):
            async with rig.client() as client:
                await client.send(GET)
                await eventually(lambda: len(up.requests) == 1)
            await eventually(lambda: up.requests[0].reset == Code.CANCEL)

    async def test_silent_server_is_a_504_and_its_connection_stays(self):
        async def handle(request):
            if request.path == "/mute":
                await asyncio.sleep(60)
            await request.answer()

        async with serving(handle, settings=ProxySettings(read_timeout=0.3)) as (rig, up):
            assert (await rig.ask(GET.replace(b"/a", b"/mute"))).status == 504
            assert (await rig.ask(GET)).status == 200
            await eventually(lambda: up.requests[0].reset == Code.CANCEL)
            assert len(up.connections) == 1

    async def test_dead_connection_is_found_by_ping(self):
        async def handle(request):
            if len(upstream.connections) == 1:
                request.connection.h2.receive_data = lambda data: []  # hears nothing any more
                await asyncio.sleep(60)
            await request.answer()

        settings = ProxySettings(ping_interval=0.1, ping_timeout=0.2, read_timeout=30)
        async with serving(handle, settings=settings) as (rig, upstream):
            assert (await rig.ask(GET)).status == 502
            assert count(rig, "errors", code="no_ping") == 1
            assert (await rig.ask(GET)).status == 200

    async def test_ping_that_is_answered_keeps_a_slow_request(self):
        async def handle(request):
            await request.connection.until(lambda: request.connection.pings >= 2)
            await request.answer()

        settings = ProxySettings(ping_interval=0.05, ping_timeout=5)
        async with serving(handle, settings=settings) as (rig, _):
            assert (await rig.ask(GET)).status == 200


MALFORMED = {
    "no status": [("x", "1")],
    "status of HTTP/1.1 only": [(":status", "101")],
    "status that is no number": [(":status", "2OO")],
    "unknown pseudo-header": [(":status", "200"), (":x", "1")],
    "upper-case name": [(":status", "200"), ("X-A", "1")],
    "line end in a value": [(":status", "200"), ("x-a", "1\r\nset-cookie: b=1")],
    "connection": [(":status", "200"), ("connection", "close")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
    "two lengths": [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
    "length that is no number": [(":status", "200"), ("content-length", "x")],
    "too many fields": [(":status", "200"), *[(f"x-{n}", "1") for n in range(200)]],
    "head over its limit": [(":status", "200"), ("x-a", "v" * 40_000)],
}


class TestHostileServers:
    @pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
    async def test_malformed_head_is_a_502_of_its_stream(self, fields):
        async def handle(request):
            if request.path == "/bad":
                h2 = request.connection.h2
                h2.send_headers(request.stream, fields, end_stream=False)
                await request.connection.flush()
            else:
                await request.answer()

        async with serving(handle) as (rig, upstream):
            assert (await rig.ask(GET.replace(b"/a", b"/bad"))).status == 502
            is_large = len(fields) > 100 or any(len(value) > 30_000 for _, value in fields)
            assert rig.lines[0]["error"] == ("head_too_large" if is_large else "malformed")
            assert (await rig.ask(GET)).status == 200
            assert len(upstream.connections) == 1

    async def test_body_shorter_than_its_length_is_cut_off(self):
        async def handle(request):
            await request.head(200, [("content-length", "10")])
            await request.send(b"12345", ends=True)

        async with serving(handle) as (rig, upstream), rig.client() as client:
            await client.send(GET)
            with contextlib.suppress(ConnectionError):
                assert len((await client.rest()).partition(b"\r\n\r\n")[2]) <= 5
            await eventually(lambda: rig.lines and rig.lines[0]["error"] == "reset")
            assert not upstream.connections[0].is_closed

    async def test_body_longer_than_its_length_ends_at_it(self):
        async def handle(request):
            await request.head(200, [("content-length", "5")])
            await request.send(b"1234567890", ends=True)

        async with serving(handle) as (rig, _), rig.client() as client:
            for _ in range(2):
                await client.send(GET)
                assert (await client.response()).body == b"12345"

    @pytest.mark.parametrize(
        "garbage",
        {
            "no HTTP/2": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            "frame too large": frame(DATA, 0, 1, bytes(20_000)),
            "body before its head": frame(DATA, 0, 1, b"x"),
            "push": frame(5, 4, 1, b"\0\0\0\2\x88"),
            "headers nobody asked for": frame(HEADERS, 4, 7, b"\x88"),
            "compressed nonsense": frame(HEADERS, 4, 1, b"\xff\xff\xff\xff"),
            "endless header block": frame(HEADERS, 0, 1, b"")
            + frame(CONTINUATION, 0, 1, b"") * 100,
            "ping flood": frame(PING, 0, 0, bytes(8)) * (int(CHEAP_BURST) + 100),
            "settings flood": frame(SETTINGS, 0, 0) * (int(CHEAP_BURST) + 100),
            "empty frames": frame(HEADERS, 4, 1, b"\x88")
            + frame(DATA, 0, 1, b"") * (int(CHEAP_BURST) + 100),
        }.items(),
        ids=lambda pair: pair[0],
    )
    async def test_garbage_costs_its_connection_and_no_more(self, garbage):
        async def handle(request):
            if request.path == "/bad":
                await request.connection.raw(garbage[1])
                await asyncio.sleep(60)
            else:
                await request.answer()

        async with serving(handle) as (rig, _):
            async with rig.client() as client:
                await client.send(GET.replace(b"/a", b"/bad"))
                head = await client.head()
                # What came in front of the garbage may have been relayed before it was seen.
                assert b" 502 " in head or (garbage[0] == "empty frames" and b" 200 " in head)
            await eventually(lambda: rig.lines and rig.lines[0]["error"] == "malformed")
            assert (await rig.ask(GET)).status == 200

    async def test_endless_interim_responses_are_refused(self):
        async def handle(request):
            while not request.connection.is_closed:
                await request.head(103)
                await asyncio.sleep(0)

        async with serving(handle) as (rig, _), rig.client() as client:
            await client.send(GET)
            status = 103
            while status == 103:
                status = (await client.response()).status
            assert status == 502
            assert rig.lines[0]["error"] == "malformed"


class TestBackpressure:
    async def test_server_that_takes_nothing_stops_the_client(self):
        async def handle(request):
            await asyncio.sleep(60)

        async with serving(handle) as (rig, upstream), rig.client() as client:
            await client.send(
                b"PUT /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 99999999\r\n\r\n"
            )
            await eventually(lambda: len(upstream.connections) == 1)
            upstream.connections[0].takes = False
            sent = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.4):
                    while True:
                        await client.send(bytes(65536))
                        sent += 65536
            assert sent < 20_000_000

    async def test_client_that_takes_nothing_stops_its_stream_only(self):
        sent = 0

        async def handle(request):
            nonlocal sent
            if request.path != "/big":
                await request.answer()
                return
            await request.head(200)
            while True:
                await request.send(bytes(65536))
                sent += 65536

        async with serving(handle) as (rig, _), rig.client() as client:
            await client.send(GET.replace(b"/a", b"/big"))
            await client.head()
            before = -1
            while before != sent:
                before = sent
                assert (await rig.ask(GET)).status == 200
                await asyncio.sleep(0.1)
            assert sent < 20_000_000

    async def test_large_bodies_pass_both_ways(self):
        body = bytes(range(256)) * 8192

        async def echo(request):
            await request.answer(await request.whole())

        async with serving(echo) as (rig, _), rig.client() as client:
            head = b"PUT /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % len(body)
            await client.send(head + body)
            assert (await client.response()).body == body


class TestTls:
    @contextlib.asynccontextmanager
    async def rig(self, authority, upstream, protocol):
        endpoint = Endpoint("127.0.0.1", upstream.port, "shop.test", protocol)
        catalog = make_catalog({DEN: [endpoint]})
        dial = TcpDialer(make_tls=authority.client_context)
        async with ProxyRig(catalog, make_topology({DEN: None}), dial=dial) as rig:
            yield rig

    @pytest.mark.parametrize("protocol", [HttpProtocol.H2, HttpProtocol.AUTO])
    async def test_h2_is_chosen_where_it_is_offered(self, authority, pair, protocol):
        tls = load_certificate(pair.cert, pair.key, protocols=("h2", "http/1.1"))
        upstream = FakeHttp2Upstream(tls=tls)
        async with upstream, self.rig(authority, upstream, protocol) as rig:
            answers = await asyncio.gather(*(rig.ask(GET) for _ in range(5)))
            assert {answer.status for answer in answers} == {200}
            assert upstream.requests[0].headers[":scheme"] == "https"
            assert len(upstream.connections) == 1

    async def test_auto_speaks_http1_where_that_is_all_there_is(self, authority, pair):
        tls = load_certificate(pair.cert, pair.key, protocols=("http/1.1",))
        upstream = FakeUpstream(tls=tls)
        async with upstream, self.rig(authority, upstream, HttpProtocol.AUTO) as rig:
            for _ in range(3):
                assert (await rig.ask(GET)).body == b"ok"
            assert len(upstream.connections) == 1
            answers = await asyncio.gather(*(rig.ask(GET) for _ in range(5)))
            assert {answer.status for answer in answers} == {200}

    async def test_h2_is_not_replaced_by_less(self, authority, pair):
        tls = load_certificate(pair.cert, pair.key, protocols=("http/1.1",))
        upstream = FakeUpstream(tls=tls)
        async with upstream, self.rig(authority, upstream, HttpProtocol.H2) as rig:
            assert (await rig.ask(GET)).status == 502
            assert rig.lines[0]["error"] == "connect"
            assert not upstream.received


async def test_fake_answers_as_told():
    async with FakeHttp2Upstream(ok) as upstream, one_region(upstream.endpoint) as rig:
        assert (await rig.ask(POST)).body == b"ok"
        assert upstream.requests[0].body == b"hello"
