"""Ordinary traffic: reuse, pipelining, framing on both sides, and what happens to fields."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import FakeUpstream, always
from support.proxy_rig import one_region

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"


def get(*lines: bytes, path: bytes = b"/a", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/%b" % (path, version), b"Host: shop.test", *lines, b"", b""])


def post(body: bytes, *lines: bytes) -> bytes:
    head = [b"POST /a HTTP/1.1", b"Host: shop.test", *lines, b"", b""]
    return b"\r\n".join(head) + body


class TestConnections:
    async def test_both_sides_are_kept_alive(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            async with rig.client() as client:
                for _ in range(3):
                    await client.send(GET)
                    assert (await client.response()).body == b"ok"
            assert len(upstream.connections) == 1

    async def test_an_idle_upstream_connection_serves_the_next_client(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            for _ in range(3):
                assert (await rig.ask(GET)).status == 200
            assert len(upstream.connections) == 1

    async def test_pipelined_requests_are_answered_in_order(self):
        async def echo_path(connection):
            while head := await connection.read_request():
                path = head.split(b" ")[1]
                await connection.send(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path)
                )

        async with (
            FakeUpstream(echo_path) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(b"".join(get(path=b"/%d" % i) for i in range(50)))
            bodies = [(await client.response()).body for _ in range(50)]
        assert bodies == [b"/%d" % i for i in range(50)]

    async def test_client_that_asks_for_close_gets_it(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(get(b"Connection: close"))
            assert (await client.response()).header("Connection") == ["close"]
            assert await client.is_closed()

    async def test_connection_closes_after_its_last_request(self):
        settings = ProxySettings(max_requests=2)
        async with (
            FakeUpstream() as up,
            one_region(up.endpoint, settings=settings) as rig,
            rig.client() as client,
        ):
            await client.send(GET + GET)
            assert (await client.response()).header("Connection") == []
            assert (await client.response()).header("Connection") == ["close"]
            assert await client.is_closed()

    async def test_upstream_that_closes_gets_a_new_connection_next_time(self):
        answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
        async with FakeUpstream(always(answer)) as upstream, one_region(upstream.endpoint) as rig:
            async with rig.client() as client:
                for _ in range(2):
                    await client.send(GET)
                    response = await client.response()
                    assert response.header("Connection") == []
            assert len(upstream.connections) == 2

    async def test_half_closed_client_still_gets_its_answer(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            client.writer.write_eof()
            assert (await client.response()).body == b"ok"
            assert await client.is_closed()


class TestFraming:
    async def test_length_body_arrives_whole(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            await rig.ask(post(b"hello", b"Content-Length: 5"))
            assert upstream.received.endswith(b"\r\n\r\nhello")
            assert b"\r\nContent-Length: 5\r\n" in upstream.received

    async def test_chunked_request_is_framed_anew(self):
        body = b"3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"

        async def handle(connection):
            await connection.read_head()
            while b"0\r\n" not in connection.received.partition(b"\r\n\r\n")[2]:
                await connection.read(1000)
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await connection.read_head()

        async with FakeUpstream(handle) as upstream, one_region(upstream.endpoint) as rig:
            response = await rig.ask(post(body, b"Transfer-Encoding: chunked"))
            assert response.status == 200
            head, _, sent = upstream.received.partition(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked" in head
        assert sent == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"

    async def test_chunked_response_with_trailers(self):
        answer = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\na\r\n2\r\nbc\r\n0\r\nX-T: 1\r\nSet-Cookie: 9\r\n\r\n"
        )
        async with (
            FakeUpstream(always(answer)) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(get(b"Connection: close"))
            raw = await client.rest()
        head, _, body = raw.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert body == b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"

    async def test_response_until_close_becomes_chunked(self):
        async def handle(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\nuntil close")

        async with (
            FakeUpstream(handle) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            for _ in range(2):
                await client.send(GET)
                response = await client.response()
                assert response.header("Transfer-Encoding") == ["chunked"]
                assert response.body == b"until close"

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
        ],
    )
    async def test_http10_client_gets_no_chunks(self, answer):
        async def handle(connection):
            await connection.read_request()
            await connection.send(answer)

        async with (
            FakeUpstream(handle) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(get(b"Connection: keep-alive", version=b"1.0"))
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert b"Connection: close" in head
        assert body == b"ok"

    async def test_http10_client_may_keep_a_length_delimited_connection(self):
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            for _ in range(2):
                await client.send(get(b"Connection: keep-alive", version=b"1.0"))
                response = await client.response()
                assert response.header("Connection") == ["keep-alive"]

    @pytest.mark.parametrize(
        ("method", "answer", "length"),
        [
            (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", ["7"]),
            (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", ["7"]),
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
            (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", []),
            (b"GET", b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", []),
        ],
    )
    async def test_bodiless_response_leaves_the_connection_usable(self, method, answer, length):
        async with (
            FakeUpstream(always(answer)) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            for _ in range(2):
                await client.send(GET.replace(b"GET", method))
                response = await client.response(method)
                assert response.header("Content-Length") == length
                assert response.header("Transfer-Encoding") == []

    @pytest.mark.parametrize(
        ("method", "status"), [(b"HEAD", b"200 OK"), (b"GET", b"304 X"), (b"GET", b"204 X")]
    )
    async def test_body_that_must_not_be_there_is_not_passed_on(self, method, status):
        answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 7\r\n\r\nHTTP/1."
        async with (
            FakeUpstream(always(answer)) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            for _ in range(2):
                await client.send(GET.replace(b"GET", method))
                assert (await client.response(method)).status == int(status[:3])
            client.writer.write_eof()
            assert await client.rest() == b""
            assert len(upstream.connections) == 2

    async def test_bytes_after_a_response_never_reach_the_next_request(self):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX: evil\r\n\r\n"
        async with FakeUpstream(always(answer)) as upstream, one_region(upstream.endpoint) as rig:
            async with rig.client() as client:
                for _ in range(3):
                    await client.send(GET)
                    response = await client.response()
                    assert (response.body, response.header("X")) == (b"ok", [])
            assert len(upstream.connections) == 3


class TestFields:
    async def sent(self, *lines: bytes, settings: ProxySettings | None = None) -> list[str]:
        async with (
            FakeUpstream() as upstream,
            one_region(upstream.endpoint, settings=settings) as rig,
        ):
            response = await rig.ask(get(*lines))
            assert response.status == 200
            return upstream.received.decode("latin-1").split("\r\n")[1:-2]

    async def test_client_facts_are_set(self):
        lines = await self.sent()
        assert lines[:-2] == [
            "Host: shop.test",
            "Via: 1.1 onetrip",
            "X-Forwarded-For: 127.0.0.1",
            'Forwarded: for=127.0.0.1;host="shop.test";proto=http',
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: shop.test",
        ]
        assert lines[-2].startswith("X-Request-Id: ")
        assert lines[-1].startswith("traceparent: 00-")

    async def test_claims_of_an_untrusted_client_are_replaced(self):
        lines = await self.sent(
            b"X-Forwarded-For: 6.6.6.6",
            b"x-forwarded-proto: https",
            b"X-Forwarded-Host: evil",
            b"X-Real-IP: 6.6.6.6",
            b"Forwarded: for=6.6.6.6",
            b"X-Request-Id: chosen",
            b"X_Forwarded_For: 6.6.6.6",
        )
        text = "\n".join(lines)
        assert "6.6.6.6" not in text
        assert "evil" not in text
        assert "chosen" not in text
        assert "https" not in text

    async def test_claims_of_a_trusted_proxy_are_kept_and_extended(self):
        settings = ProxySettings(trusted_proxies=(ip_network("127.0.0.0/8"),))
        lines = await self.sent(
            b"X-Forwarded-For: 9.9.9.9",
            b"X-Forwarded-Proto: https",
            b"Forwarded: for=9.9.9.9",
            b"X-Request-Id: chosen-1",
            settings=settings,
        )
        assert "X-Forwarded-For: 9.9.9.9, 127.0.0.1" in lines
        assert "X-Forwarded-Proto: https" in lines
        assert 'Forwarded: for=9.9.9.9, for=127.0.0.1;host="shop.test";proto=http' in lines
        assert "X-Request-Id: chosen-1" in lines
        assert sum(line.lower().startswith("x-forwarded-proto") for line in lines) == 1

    async def test_hop_by_hop_fields_end_here(self):
        lines = await self.sent(
            b"Connection: keep-alive, X-Private, Host, Cookie",
            b"X-Private: 1",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"Proxy-Authorization: Basic eA==",
            b"TE: trailers",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQAAP__",
            b"Cookie: a=b",
            b"Trailer: X-T",
        )
        names = {line.partition(":")[0] for line in lines}
        assert names.isdisjoint(
            {"Connection", "X-Private", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade"}
        )
        assert names.isdisjoint({"Proxy-Authorization", "HTTP2-Settings"})
        assert {"Host", "Cookie", "Trailer"} <= names

    async def test_fields_of_ours_cannot_be_forged(self):
        lines = await self.sent(b"onetrip-hop: v1;x", b"Onetrip-Placement: a", b"onetrip_hop: b")
        assert not any(line.lower().startswith("onetrip") for line in lines)

    async def test_repeated_fields_of_one_connection_do_not_leak_into_each_other(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            async with rig.client() as client:
                for cookie in (b"Cookie: a", b"Cookie: a", b"Cookie: b", b"Accept: c"):
                    await client.send(get(cookie))
                    await client.response()
            heads = upstream.received.split(b"\r\n\r\n")[:-1]
        assert [b"Cookie: a" in h for h in heads] == [True, True, False, False]
        assert [b"Cookie: b" in h for h in heads] == [False, False, True, False]
        assert len({h.rpartition(b"X-Request-Id: ")[2] for h in heads}) == 4

    async def test_absolute_form_reaches_upstream_in_origin_form(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            await rig.ask(b"GET http://shop.test/a?b HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert upstream.received.startswith(b"GET /a?b HTTP/1.1\r\nHost: shop.test\r\n")

    async def test_response_fields(self):
        answer = (
            b"HTTP/1.1 200 Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: app\r\n"
            b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\n"
            b"Set-Cookie: b=2\r\nonetrip-placement: remote-xxx\r\nOnetrip-Refused: not-ready\r\n"
            b"Via: 1.0 app\r\nContent-Length: 0\r\n\r\n"
        )
        async with FakeUpstream(always(answer)) as upstream, one_region(upstream.endpoint) as rig:
            head = (await rig.ask(GET)).head
        assert head == (
            b"HTTP/1.1 200 Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: app\r\n"
            b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n"
            b"Via: 1.0 app, 1.1 onetrip\r\nonetrip-placement: local-den\r\n\r\n"
        )


class TestReports:
    async def test_ping_is_answered_without_routes(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            async with rig.client() as client:
                for _ in range(2):
                    await client.send(
                        b"GET /.well-known/onetrip/ping HTTP/1.1\r\nHost: anything\r\n\r\n"
                    )
                    assert (await client.response()).status == 204
            assert upstream.connections == []
            assert (rig.lines, rig.observations) == ([], [])

    async def test_exchange_is_reported_once(self):
        async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
            request = post(b"hello", b"Content-Length: 5").replace(b"/a", b"/users/42?secret=1")
            await rig.ask(request)
            await rig.server.stop()  # publishes what was counted
            (line,) = rig.lines
            (seen,) = rig.observations
            assert rig.metrics.requests.labels("shop/production", "2xx")._value.get() == 1
            assert rig.metrics.body.labels("upstream")._value.get() == 5
        assert line["path"] == "/users/42"
        assert "secret" not in json.dumps(line)
        assert (line["status"], line["bytes_in"], line["bytes_out"]) == (200, 5, 2)
        assert (line["route"], line["region"], line["arm"]) == ("/users/{id}", "den", "default")
        assert (line["client"], line["attempts"], line["error"]) == ("127.0.0.1", 1, None)
        assert (seen.key.route, seen.key.method.value) == ("/users/{id}", "write")
        assert (seen.edge, seen.region, seen.is_error, seen.is_cold) == ("den", "den", False, True)
        assert 0 < seen.service <= seen.latency < 1
