"""The shared cache: what instances are asked, and what clients are told. No test waits for time:
responses arrive with an Age instead."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace

import pytest

from onetrip.model.edge import Assets, CachePolicy, Purge
from onetrip.model.measure import Arm
from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.proxy.hop import HopSigner
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import MonotonicClock
from support.certs import Authority
from support.fake_upstream import FakeUpstream
from support.http2_client import http2_client
from support.proxy_rig import FRA, SECRET, one_region
from support.waits import eventually

FRESH = "Cache-Control: max-age=60"
OLD = ("Age: 100", 'ETag: "v1"')
LATE = ("Cache-Control: max-age=60, stale-while-revalidate=3600", *OLD)
ERROR = ("Cache-Control: max-age=60, stale-if-error=3600", *OLD)


def answer(body="body", *lines, status="200 OK", close=False):
    """Return one response as bytes."""
    framing = () if close else (f"Content-Length: {len(body)}",)
    fields = "".join(f"{line}\r\n" for line in (*lines, *framing))
    return f"HTTP/1.1 {status}\r\n{fields}\r\n{body}".encode()


NOT_MODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nCache-Control: max-age=90\r\n\r\n'


class App:
    """An application whose next responses a test writes down; the last one is repeated.

    Attributes:
        requests: heads it was sent.
        gate: set while it may answer.
    """

    def __init__(self):
        self.responses = [answer("body", FRESH)]
        self.requests = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_gated = lambda request: True

    def will(self, *responses):
        self.responses = list(responses)

    async def __call__(self, connection):
        while request := await connection.read_request():
            self.requests.append(request.decode("latin-1"))
            if self.is_gated(self.requests[-1]):
                await self.gate.wait()
            first = self.responses[0]
            if len(self.responses) > 1:
                self.responses.pop(0)
            if first is None:
                connection.reset()
                return
            head, _, body = first.partition(b"\r\n\r\n")
            is_head = request.startswith(b"HEAD")
            await connection.send(head + b"\r\n\r\n" + (b"" if is_head else body))
            if b"Content-Length" not in head and b"304" not in head and b"chunked" not in head:
                return

    @property
    def count(self):
        return len(self.requests)


@contextlib.asynccontextmanager
async def serving(policy=None, **options):
    async with contextlib.AsyncExitStack() as stack:
        app = App()
        upstream = await stack.enter_async_context(FakeUpstream(app))
        rig = one_region(upstream.endpoint, cache=policy or CachePolicy(), **options)
        rig.app = app
        yield await stack.enter_async_context(rig)


@pytest.fixture
async def rig():
    async with serving() as rig:
        yield rig


def request(path="/a", *lines, method="GET"):
    fields = "".join(f"{line}\r\n" for line in ("Host: shop.test", *lines))
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode()


def told(response):
    """Return what Cache-Status says, without the name and the time left."""
    status = response.header("Cache-Status")[-1]
    assert status.startswith("onetrip; ")
    return re.sub(r"; ttl=-?\d+", "", status.removeprefix("onetrip; "))


def waiting(rig):
    """Return how many requests wait for another's response."""
    return sum(len(fill._waiting) for fill in rig.server._services.edge.cache._fills.values())


def metric(rig, name, **labels):
    return rig.metrics.registry.get_sample_value(f"onetrip_proxy_cache_{name}", labels) or 0.0


class TestReuse:
    async def test_second_request_is_answered_from_the_store(self, rig):
        first, second = [await rig.ask(request()) for _ in range(2)]
        assert first.body == second.body == b"body"
        assert told(first) == "fwd=uri-miss; fwd-status=200; stored"
        assert told(second) == "hit"
        assert second.header("Age") == ["0"]
        assert second.header("Content-Length") == ["4"]
        assert second.header("onetrip-placement") == ["local-den"]
        assert rig.app.count == 1

    async def test_hit_is_counted_and_logged_but_no_observation(self, rig):
        for _ in range(3):
            await rig.ask(request())
        await eventually(lambda: len(rig.lines) == 3)
        assert [line["served_by"] for line in rig.lines] == ["instance", "cache", "cache"]
        assert len(rig.observations) == 1
        assert rig.lines[1]["bytes_out"] == 4
        assert rig.lines[1]["region"] is None
        assert metric(rig, "requests_total", outcome="hit") == 2
        assert metric(rig, "objects", project="shop") == 1
        assert metric(rig, "size_bytes", project="shop") > 1000

    @pytest.mark.parametrize(
        "other",
        [
            request("/a?"),
            request("/a?b=1"),
            request("/A"),
            request("/%61"),
            request("/a/"),
            request("/a", "X-Forwarded-Host: evil.test", "If-Match: *"),
            b"GET /a HTTP/1.1\r\nHost: shop.test:8080\r\n\r\n",
        ],
    )
    async def test_another_url_is_another_response(self, rig, other):
        await rig.ask(request())
        await rig.ask(other)
        assert rig.app.count == 2

    async def test_head_is_answered_from_a_stored_get(self, rig):
        await rig.ask(request())
        head = await rig.ask(request(method="HEAD"))
        assert (told(head), head.header("Content-Length")) == ("hit", ["4"])
        assert rig.app.count == 1

    async def test_head_is_not_stored(self, rig):
        for _ in range(2):
            await rig.ask(request(method="HEAD"))
        assert rig.app.count == 2

    async def test_uncacheable_response_is_passed_on(self, rig):
        rig.app.will(answer("a", "Cache-Control: private, max-age=60", "Set-Cookie: a=b"))
        for _ in range(2):
            response = await rig.ask(request())
            assert told(response) == "fwd=uri-miss; fwd-status=200"
            assert response.header("Set-Cookie") == ["a=b"]
        assert rig.app.count == 2
        assert metric(rig, "objects", project="shop") == 0

    async def test_chunked_response_is_stored_whole(self, rig):
        head = f"HTTP/1.1 200 OK\r\n{FRESH}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        rig.app.will(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        first, second = [await rig.ask(request()) for _ in range(2)]
        assert (first.body, second.body) == (b"abcde", b"abcde")
        assert second.header("Content-Length") == ["5"]
        assert rig.app.count == 1

    async def test_response_whose_end_nobody_told_is_not_stored(self, rig):
        rig.app.will(answer("abc", FRESH, close=True))
        for _ in range(2):
            assert (await rig.ask(request())).body == b"abc"
        assert rig.app.count == 2

    async def test_response_that_breaks_off_is_not_stored(self, rig):
        whole = answer("a" * 10, FRESH)
        rig.app.will(whole[:-5].replace(b"Content-Length", b"content-length"), whole)
        async with rig.client() as client:
            await client.send(request())
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.response()
        assert (await rig.ask(request())).body == b"a" * 10
        assert rig.app.count == 2

    async def test_large_response_streams_past(self):
        async with serving(CachePolicy(max_object=100)) as rig:
            head = f"HTTP/1.1 200 OK\r\n{FRESH}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            chunked = head + b"c8\r\n" + b"x" * 200 + b"\r\n0\r\n\r\n"
            for response in (answer("x" * 200, FRESH), chunked):
                rig.app.will(response)
                before = rig.app.count
                for _ in range(2):
                    assert (await rig.ask(request())).body == b"x" * 200
                assert rig.app.count == before + 2
            assert metric(rig, "objects", project="shop") == 0
            assert rig.server._services.edge.cache._caches["shop"].room.left == 64 << 20

    async def test_store_is_bounded(self):
        async with serving(CachePolicy(max_size=20_000)) as rig:
            rig.app.will(answer("x" * 3000, FRESH))
            for number in range(20):
                await rig.ask(request(f"/{number}"))
            assert metric(rig, "size_bytes", project="shop") <= 20_000
            assert metric(rig, "evictions_total") >= 14

    async def test_peer_and_other_methods_go_past(self, rig):
        mark = HopSigner(SECRET, MonotonicClock()).make(FRA, Arm.PLACED).decode()
        for data in (
            request("/a", f"onetrip-hop: {mark}"),
            request(method="OPTIONS"),
            request("/a", "Content-Length: 1") + b"x",
        ):
            for _ in range(2):
                await rig.ask(data)
        assert rig.app.count == 6


class TestVary:
    async def test_each_variant_is_stored(self, rig):
        rig.app.will(*[answer(name, FRESH, "Vary: Accept-Language") for name in ("de", "fr")])
        for _ in range(2):
            for name in ("de", "fr"):
                response = await rig.ask(request("/a", f"Accept-Language: {name}"))
                assert response.body == name.encode()
        assert rig.app.count == 2
        assert told(await rig.ask(request())) == "fwd=vary-miss; fwd-status=200; stored"


class TestConditions:
    @pytest.fixture(autouse=True)
    async def stored(self, rig):
        rig.app.will(answer("0123456789", FRESH, 'ETag: "v1"', "Content-Type: text/plain"))
        await rig.ask(request())
        yield
        assert rig.app.count == 1

    async def test_client_that_has_it_gets_304(self, rig):
        response = await rig.ask(request("/a", 'If-None-Match: "v0", "v1"'))
        assert (response.status, told(response)) == (304, "hit")
        assert response.header("ETag") == ['"v1"']
        assert not response.header("Content-Length") + response.header("Content-Type")

    async def test_range_of_a_stored_response(self, rig):
        response = await rig.ask(request("/a", "Range: bytes=2-4"))
        assert (response.status, response.body) == (206, b"234")
        assert response.header("Content-Range") == ["bytes 2-4/10"]
        assert response.header("Content-Type") == ["text/plain"]
        several = await rig.ask(request("/a", "Range: bytes=0-0,-1"))
        assert several.header("Content-Type")[0].startswith("multipart/byteranges; boundary=")
        assert b"bytes 9-9/10\r\n\r\n9\r\n" in several.body
        assert (await rig.ask(request("/a", "Range: bytes=10-"))).status == 416

    async def test_range_of_another_version_is_the_whole(self, rig):
        lines = ("Range: bytes=2-4", 'If-Range: "v0"')
        assert (await rig.ask(request("/a", *lines))).status == 200


class TestRequestDirectives:
    async def test_range_without_a_stored_response_is_passed_on(self, rig):
        for _ in range(2):
            await rig.ask(request("/a", "Range: bytes=0-1"))
        assert "Range: bytes=0-1" in rig.app.requests[1]

    async def test_only_if_cached(self, rig):
        data = request("/a", "Cache-Control: only-if-cached")
        assert (await rig.ask(data)).status == 504
        assert rig.app.count == 0
        await rig.ask(request())
        assert (await rig.ask(data)).status == 200

    async def test_no_cache_asks_again_and_stores(self, rig):
        rig.app.will(answer("one", FRESH), answer("two", FRESH))
        await rig.ask(request())
        again = await rig.ask(request("/a", "Cache-Control: no-cache"))
        assert (again.body, told(again)) == (b"two", "fwd=request; fwd-status=200; stored")
        assert (await rig.ask(request())).body == b"two"

    async def test_no_store_keeps_nothing(self, rig):
        for _ in range(2):
            await rig.ask(request("/a", "Cache-Control: no-store"))
        assert metric(rig, "objects", project="shop") == 0


class TestValidation:
    async def test_stale_response_is_validated(self, rig):
        rig.app.will(answer("body", FRESH, *OLD), NOT_MODIFIED)
        await rig.ask(request())
        second = await rig.ask(request("/a", "If-None-Match: W/x", "Range: bytes=1-2"))
        assert (second.status, second.body) == (206, b"od")
        assert told(second) == "fwd=stale; fwd-status=304; stored"
        assert 'If-None-Match: "v1"' in rig.app.requests[1]
        assert "Range" not in rig.app.requests[1]
        third = await rig.ask(request())
        assert told(third) == "hit"
        assert third.header("Cache-Control") == ["max-age=90"]
        assert metric(rig, "requests_total", outcome="validated") == 1
        await eventually(lambda: len(rig.observations) == 2)

    async def test_changed_response_replaces_it(self, rig):
        rig.app.will(answer("old", FRESH, *OLD), answer("new", FRESH, 'ETag: "v2"'))
        await rig.ask(request())
        assert (await rig.ask(request())).body == b"new"
        assert (await rig.ask(request())).body == b"new"
        assert rig.app.count == 2

    async def test_response_that_became_private_is_forgotten(self, rig):
        private = NOT_MODIFIED.replace(b"max-age=90", b"private")
        rig.app.will(answer("body", FRESH, *OLD), private, answer("next", FRESH))
        await rig.ask(request())
        assert (await rig.ask(request())).body == b"body"
        assert (await rig.ask(request())).body == b"next"

    async def test_304_about_another_version_asks_for_the_whole(self, rig):
        wrong = NOT_MODIFIED.replace(b'"v1"', b'"v9"')
        rig.app.will(answer("old", FRESH, *OLD), wrong, answer("new", FRESH))
        await rig.ask(request())
        assert (await rig.ask(request())).body == b"new"
        assert "If-None-Match" not in rig.app.requests[2]

    async def test_clients_own_304_is_passed_on(self, rig):
        rig.app.will(NOT_MODIFIED)
        response = await rig.ask(request("/a", 'If-None-Match: "v1"'))
        assert response.status == 304
        assert metric(rig, "objects", project="shop") == 0


class TestStale:
    async def test_stale_response_is_sent_and_refreshed_behind(self, rig):
        rig.app.will(answer("old", *LATE), answer("new", FRESH, 'ETag: "v2"'))
        await rig.ask(request())
        stale = await rig.ask(request())
        assert (stale.body, told(stale)) == (b"old", "hit")
        await eventually(lambda: metric(rig, "requests_total", outcome="stale") == 1)
        await eventually(lambda: len(rig.observations) == 2)
        assert (await rig.ask(request())).body == b"new"
        assert rig.app.count == 2
        assert 'If-None-Match: "v1"' in rig.app.requests[1]
        assert len(rig.lines) == 3

    async def test_one_refresh_at_a_time(self, rig):
        rig.app.will(answer("old", *LATE), NOT_MODIFIED)
        await rig.ask(request())
        rig.app.gate.clear()
        for _ in range(5):
            assert (await rig.ask(request())).body == b"old"
        await eventually(lambda: rig.app.count == 2)
        rig.app.gate.set()
        await eventually(lambda: len(rig.observations) == 2)
        assert "hit; ttl=8" in (await rig.ask(request())).header("Cache-Status")[0]
        assert rig.app.count == 2

    async def test_failed_refresh_leaves_it(self, rig):
        rig.app.will(answer("old", *LATE), answer("oops", status="500 Oops"))
        await rig.ask(request())
        await rig.ask(request())
        await eventually(lambda: len(rig.observations) == 2)
        assert rig.observations[1].is_error
        assert (await rig.ask(request())).body == b"old"

    @pytest.mark.parametrize("failure", [answer("oops", status="503 Busy"), None])
    async def test_error_is_hidden_where_the_response_allows(self, rig, failure):
        rig.app.will(answer("old", *ERROR), failure)
        await rig.ask(request())
        response = await rig.ask(request())
        assert (response.status, response.body) == (200, b"old")
        assert told(response).startswith("fwd=stale")
        assert metric(rig, "requests_total", outcome="hidden_error") == 1

    @pytest.mark.parametrize("failure", [answer("oops", status="503 Busy"), None])
    async def test_error_is_shown_otherwise(self, rig, failure):
        rig.app.will(answer("old", FRESH, *OLD), failure)
        await rig.ask(request())
        assert (await rig.ask(request())).status in (502, 503)


class TestInvalidation:
    async def test_write_forgets_what_it_changed(self, rig):
        changed = answer("", "Location: /b", "Content-Location: http://shop.test/c?d=e")
        for path in ("/a", "/b", "/c?d=e", "/other"):
            await rig.ask(request(path))
        rig.app.will(changed)
        posted = await rig.ask(request("/a", "Content-Length: 0", method="POST"))
        assert told(posted) == "fwd=method; fwd-status=200"
        rig.app.will(answer("body", FRESH))
        for path in ("/a", "/b", "/c?d=e"):
            assert told(await rig.ask(request(path))).startswith("fwd=uri-miss")
        assert told(await rig.ask(request("/other"))) == "hit"

    async def test_failed_write_and_foreign_location_forget_nothing(self, rig):
        for path in ("/a", "/b"):
            await rig.ask(request(path))
        rig.app.will(answer("", "Location: /a", status="404 No"))
        await rig.ask(request("/a", "Content-Length: 0", method="DELETE"))
        rig.app.will(answer("", "Location: http://other.test/b"))
        await rig.ask(request("/z", "Content-Length: 0", method="DELETE"))
        assert told(await rig.ask(request("/a"))) == "hit"
        assert told(await rig.ask(request("/b"))) == "hit"

    async def test_fetch_that_a_write_overtook_is_not_stored(self, rig):
        rig.app.gate.clear()
        async with rig.client() as client, rig.client() as writer:
            await client.send(request())
            await eventually(lambda: rig.app.count == 1)
            rig.app.is_gated = lambda request: request.startswith("GET")
            await writer.send(request("/a", "Content-Length: 0", method="PUT"))
            assert (await writer.response()).status == 200
            rig.app.gate.set()
            assert (await client.response()).status == 200
        assert told(await rig.ask(request())).startswith("fwd=uri-miss")

    async def test_purge(self, rig):
        for path in ("/a/1", "/a/2", "/b"):
            await rig.ask(request(path))
        shop = Purge("shop", b"http", b"shop.test")
        assert rig.server.purge(replace(shop, target=b"/a/1", scheme=b"https")) == 0
        assert rig.server.purge(replace(shop, target=b"/a")) == 0
        assert rig.server.purge(replace(shop, target=b"/a/", is_prefix=True)) == 2
        assert rig.server.purge(Purge("other")) == 0
        assert told(await rig.ask(request("/b"))) == "hit"
        assert told(await rig.ask(request("/a/1"))).startswith("fwd=uri-miss")
        assert rig.server.purge(Purge("shop")) == 2


class TestCollapsing:
    async def ask_together(self, rig, *requests):
        """Send requests while the application holds its answers, then return the responses."""
        rig.app.gate.clear()
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for data in requests:
                client = await stack.enter_async_context(rig.client())
                await client.send(data)
                clients.append(client)
                if len(clients) == 1:
                    await eventually(lambda: rig.app.count == 1)
            await eventually(lambda: waiting(rig) == len(requests) - 1)
            rig.app.gate.set()
            return [await client.response() for client in clients]

    async def test_one_request_answers_all(self, rig):
        responses = await self.ask_together(rig, *[request()] * 5)
        assert [r.body for r in responses] == [b"body"] * 5
        assert [told(r) for r in responses[1:]] == ["hit; collapsed"] * 4
        assert rig.app.count == 1

    async def test_private_response_is_nobody_elses(self, rig):
        rig.app.will(*[answer(f"for {n}", "Cache-Control: private") for n in range(5)])
        responses = await self.ask_together(rig, *[request()] * 5)
        assert len({r.body for r in responses}) == 5
        assert rig.app.count == 5

    async def test_known_private_response_makes_nobody_wait(self, rig):
        rig.app.will(answer("x", "Cache-Control: private"))
        await rig.ask(request())
        rig.app.gate.clear()
        async with rig.client() as one, rig.client() as other:
            await one.send(request())
            await other.send(request())
            await eventually(lambda: rig.app.count == 3)
            rig.app.gate.set()
            assert (await one.response()).body == (await other.response()).body == b"x"

    async def test_other_variant_is_fetched(self, rig):
        rig.app.will(*[answer(f"for {n}", FRESH, "Vary: Accept") for n in range(2)])
        responses = await self.ask_together(
            rig, request("/a", "Accept: a"), request("/a", "Accept: b")
        )
        assert [r.body for r in responses] == [b"for 0", b"for 1"]

    async def test_next_in_line_fetches_when_the_first_leaves(self):
        async with serving(settings=ProxySettings(half_close_timeout=0.05)) as rig:
            rig.app.gate.clear()
            async with rig.client() as first, rig.client() as second:
                await first.send(request())
                await eventually(lambda: rig.app.count == 1)
                await second.send(request())
                first.writer.close()
                await eventually(lambda: rig.app.count == 2)
                rig.app.gate.set()
                assert (await second.response()).body == b"body"
        assert [line["error"] for line in rig.lines] == ["reset", None]

    async def test_wait_is_bounded(self):
        async with serving(CachePolicy(wait=0.05)) as rig:
            rig.app.gate.clear()
            async with rig.client() as first, rig.client() as second:
                await first.send(request())
                await eventually(lambda: rig.app.count == 1)
                await second.send(request())
                await eventually(lambda: rig.app.count == 2)
                rig.app.gate.set()
                assert (await first.response()).body == (await second.response()).body


async def test_over_tls_and_http2(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("web", "shop.test")
    loaded = load_certificate(pair.cert, pair.key, protocols=("h2", "http/1.1"))
    context = authority.client_context()
    async with serving(certificates=CertificateSet([loaded])) as rig:
        rig.app.will(answer("x" * 300_000, FRESH))
        async with http2_client(rig, context) as client:
            for _ in range(3):
                assert len((await client.get("/a")).body) == 300_000
        assert rig.app.count == 1
        assert told(await rig.ask(request())).startswith("fwd=uri-miss")
        async with rig.tls_client(authority.client_context()) as client:
            await client.send(request())
            assert told(await client.response()) == "hit"


async def test_assets_come_before_the_cache(tmp_path):
    (tmp_path / "a").write_bytes(b"file")
    async with serving(assets=Assets(str(tmp_path))) as rig:
        assert (await rig.ask(request())).body == b"file"
        for _ in range(2):
            assert (await rig.ask(request("/b"))).body == b"body"
        assert rig.app.count == 1


async def test_project_that_turns_it_off_forgets_everything(rig):
    await rig.ask(request())
    catalog = rig.server.catalog
    project = catalog.projects["shop"]
    environment = project.environments["production"]
    for cache in (None, environment.cache):
        changed = replace(project, environments={"production": replace(environment, cache=cache)})
        rig.server.update(replace(catalog, projects={"shop": changed}), rig.server.topology)
    assert told(await rig.ask(request())).startswith("fwd=uri-miss")
