"""Files at the edge: what is sent, what never is, and that no instance hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import socket

import pytest

from onetrip.model.catalog import RouteRule
from onetrip.model.edge import Assets, CacheControlRule
from onetrip.model.measure import Arm
from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.proxy.hop import HopSigner
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import MonotonicClock
from support.certs import Authority
from support.fake_upstream import FakeUpstream
from support.http2_client import http2_client
from support.proxy_rig import FRA, SECRET, one_region
from support.waits import BOUND, eventually

BIG = os.urandom(3 << 20)
SCRIPT = b"let a = 1;\n" * 500
HASHED = CacheControlRule("/assets/**", b"public, max-age=31536000, immutable")

PRIVATE = [
    "/../secret.txt",
    "/docs/../../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/%252e%252e/secret.txt",
    "/docs/..;/../secret.txt",
    "/.env",
    "/%2eenv",
    "/docs/../.env",
    "//.env",
    "/./.env",
    "/.env%00.txt",
    "/digits.txt%00",
    "/digits.txt%0a",
    "/digits.txt%",
    "/up/secret.txt",
    "/outer.txt",
    "/hidden.txt",
    "/loop",
    "/pipe",
    "/docs//index.html",
    "/" + "a" * 300,
    "/" + "a/" * 40,
]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / "docs").mkdir()
    (root / ".well-known").mkdir()
    files = {
        "index.html": b"<h1>home</h1>",
        "404.html": b"<h1>nothing</h1>",
        "docs/index.html": b"<h1>docs</h1>",
        "digits.txt": b"0123456789",
        "empty.txt": b"",
        "big.bin": BIG,
        "assets/app.js": SCRIPT,
        "assets/app.js.gz": gzip.compress(SCRIPT),
        "assets/app.js.br": b"not really brotli",
        ".env": b"SECRET=1",
        ".well-known/security.txt": b"Contact: x",
        "h\u00e9 llo.txt": b"name",
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    (tmp_path / "secret.txt").write_bytes(b"outside")
    (root / "inner.txt").symlink_to("digits.txt")
    (root / "outer.txt").symlink_to("../secret.txt")
    (root / "hidden.txt").symlink_to(".env")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return root


@contextlib.asynccontextmanager
async def serving(folder, options=(), **rig_options):
    assets = Assets(str(folder), rules=(HASHED,), **dict(options))
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(FakeUpstream())
        rig = one_region(upstream.endpoint, assets=assets, **rig_options)
        rig.upstream = upstream
        yield await stack.enter_async_context(rig)


@pytest.fixture
async def rig(folder):
    async with serving(folder) as rig:
        yield rig


def request(path, *lines, method="GET"):
    fields = "".join(f"{line}\r\n" for line in ("Host: shop.test", *lines))
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode()


async def once_it_is(rig, path, body):
    """Return the response to `path` once it has this body."""
    async with asyncio.timeout(BOUND):
        while (response := await rig.ask(request(path))).body != body:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return response


def outcome(rig, name):
    value = rig.metrics.registry.get_sample_value("onetrip_proxy_assets_total", {"outcome": name})
    return value or 0.0


class TestFiles:
    async def test_file_is_sent_without_an_instance(self, rig):
        response = await rig.ask(request("/digits.txt"))
        assert (response.status, response.body) == (200, b"0123456789")
        assert response.header("Content-Type") == ["text/plain; charset=utf-8"]
        assert response.header("Content-Length") == ["10"]
        assert response.header("Cache-Control") == ["no-cache"]
        assert response.header("Accept-Ranges") == ["bytes"]
        assert response.header("onetrip-placement") == ["local-den"]
        assert response.header("X-Content-Type-Options") == ["nosniff"]
        assert re.fullmatch(r'"[0-9a-f]{24}"', response.header("ETag")[0])
        assert response.header("Date")
        assert response.header("Last-Modified")
        assert not rig.upstream.connections

    async def test_file_is_counted_and_logged_but_no_observation(self, rig):
        await rig.ask(request("/digits.txt"))
        await eventually(lambda: len(rig.lines) == 1)
        line = rig.lines[0]
        assert (line["status"], line["served_by"], line["bytes_out"]) == (200, "assets", 10)
        assert line["region"] is None
        assert line["route"] == "/digits.txt"
        assert not rig.observations
        assert outcome(rig, "sent") == 1

    async def test_several_requests_share_a_connection(self, rig):
        async with rig.client() as client:
            await client.send(request("/digits.txt") + request("/big.bin") + request("/docs/"))
            bodies = [(await client.response()).body for _ in range(3)]
            assert bodies == [b"0123456789", BIG, b"<h1>docs</h1>"]

    async def test_path_without_a_file_goes_to_the_instance(self, rig):
        assert (await rig.ask(request("/api/orders"))).body == b"ok"
        assert (await rig.ask(request("/assets/none.js"))).body == b"ok"
        assert rig.upstream.count_requests() == 2
        await eventually(lambda: len(rig.observations) == 2)
        assert rig.lines[0]["served_by"] == "instance"

    async def test_head_has_the_fields_and_no_body(self, rig):
        async with rig.client() as client:
            await client.send(request("/big.bin", method="HEAD") + request("/digits.txt"))
            head = await client.response(b"HEAD")
            assert head.header("Content-Length") == [str(len(BIG))]
            assert (await client.response()).body == b"0123456789"

    @pytest.mark.parametrize("size", [0, 1, 65536])
    async def test_sizes(self, rig, folder, size):
        (folder / "assets" / "sized").write_bytes(b"x" * size)
        response = await rig.ask(request("/assets/sized"))
        assert (response.status, response.body) == (200, b"x" * size)
        assert response.header("Content-Type") == ["application/octet-stream"]

    async def test_http10_client_gets_the_file(self, rig):
        response = await rig.ask(b"GET /big.bin HTTP/1.0\r\nHost: shop.test\r\n\r\n")
        assert response.body == BIG
        assert response.header("Connection") == ["close"]

    async def test_request_with_a_body_is_answered_and_closed(self, rig):
        data = request("/digits.txt", "Content-Length: 5") + b"hello"
        async with rig.client() as client:
            await client.send(data)
            assert (await client.response()).header("Connection") == ["close"]
            assert await client.is_closed()

    async def test_encoded_name_is_decoded_once(self, rig):
        assert (await rig.ask(request("/h%C3%A9%20llo.txt"))).body == b"name"
        assert (await rig.ask(request("/digits%2etxt"))).body == b"0123456789"
        assert (await rig.ask(request("/digits%252etxt"))).body == b"ok"

    async def test_rule_decides_about_cache_control(self, rig):
        response = await rig.ask(request("/assets/app.js"))
        assert response.header("Cache-Control") == ["public, max-age=31536000, immutable"]


class TestFolders:
    async def test_root_and_folder_have_an_index(self, rig):
        assert (await rig.ask(request("/"))).body == b"<h1>home</h1>"
        response = await rig.ask(request("/docs/?a=1"))
        assert response.body == b"<h1>docs</h1>"
        assert response.header("Content-Type") == ["text/html; charset=utf-8"]

    async def test_folder_without_its_slash_is_redirected(self, rig):
        response = await rig.ask(request("/docs?a=1"))
        assert (response.status, response.header("Location")) == (301, ["/docs/?a=1"])
        assert response.header("Cache-Control") == ["no-cache"]

    async def test_folder_without_an_index_goes_to_the_instance(self, rig):
        for path in ("/assets", "/assets/", "/digits.txt/"):
            assert (await rig.ask(request(path))).body == b"ok"

    async def test_no_redirect_leads_to_another_host(self, rig):
        for path in ("//docs", "/%2fdocs", "/\\docs", "/%5cdocs"):
            assert not (await rig.ask(request(path))).header("Location")

    async def test_prefix_is_cut_off(self, folder):
        async with serving(folder, {"prefix": "/static"}) as rig:
            assert (await rig.ask(request("/static/digits.txt"))).body == b"0123456789"
            assert (await rig.ask(request("/static/"))).body == b"<h1>home</h1>"
            for path in ("/digits.txt", "/static", "/staticdigits.txt"):
                assert (await rig.ask(request(path))).body == b"ok"


class TestMethods:
    async def test_file_has_no_other_method(self, rig):
        response = await rig.ask(request("/digits.txt", "Content-Length: 0", method="POST"))
        assert (response.status, response.header("Allow")) == (405, ["GET, HEAD"])
        assert not rig.upstream.connections

    async def test_form_may_be_sent_to_an_index(self, rig):
        for path in ("/", "/docs/", "/nothing"):
            data = request(path, "Content-Length: 0", method="POST")
            assert (await rig.ask(data)).body == b"ok"


class TestStandIns:
    async def test_not_found_page(self, folder):
        async with serving(folder, {"not_found": "404.html"}) as rig:
            response = await rig.ask(request("/nothing", "Range: bytes=0-1", "If-Match: *"))
            assert (response.status, response.body) == (404, b"<h1>nothing</h1>")
            assert not rig.upstream.connections

    async def test_single_page_application(self, folder):
        async with serving(folder, {"is_spa": True}) as rig:
            page = await rig.ask(request("/orders/17", "Accept: text/html,*/*;q=0.8"))
            assert (page.status, page.body) == (200, b"<h1>home</h1>")
            assert page.header("Vary") == ["Accept"]
            data = await rig.ask(request("/orders/17", "Accept: application/json"))
            assert data.body == b"ok"

    async def test_declared_route_is_the_applications(self, folder):
        options = {"is_spa": True, "not_found": "404.html"}
        rules = (RouteRule("/api/**"),)
        async with serving(folder, options, rules=rules) as rig:
            assert (await rig.ask(request("/api/a", "Accept: text/html"))).body == b"ok"
            assert (await rig.ask(request("/other"))).status == 404


class TestSecrets:
    async def test_path_names_no_file(self, rig):
        async with rig.client() as client:
            for path in PRIVATE:
                await client.send(request(path))
                response = await client.response()
                assert (path, response.status, response.body) == (path, 200, b"ok")
        assert rig.upstream.count_requests() == len(PRIVATE)

    async def test_link_within_the_folder_is_followed(self, rig):
        assert (await rig.ask(request("/inner.txt"))).body == b"0123456789"

    async def test_well_known_files_are_public(self, rig):
        response = await rig.ask(request("/.well-known/security.txt"))
        assert response.body == b"Contact: x"

    async def test_peer_is_not_answered_from_files(self, folder):
        async with serving(folder) as rig:
            mark = HopSigner(SECRET, MonotonicClock()).make(FRA, Arm.PLACED).decode()
            response = await rig.ask(request("/digits.txt", f"onetrip-hop: {mark}"))
            assert response.body == b"ok"


class TestConditions:
    async def test_known_version_is_not_sent_again(self, rig):
        first = await rig.ask(request("/digits.txt"))
        etag, modified = first.header("ETag")[0], first.header("Last-Modified")[0]
        for line in (f"If-None-Match: {etag}", f"If-Modified-Since: {modified}"):
            response = await rig.ask(request("/digits.txt", line))
            assert response.status == 304
            assert response.header("ETag") == [etag]
            assert response.header("Cache-Control") == ["no-cache"]
            assert not response.header("Content-Length")
        assert outcome(rig, "not_modified") == 2

    async def test_unexpected_version_is_refused(self, rig):
        response = await rig.ask(request("/digits.txt", 'If-Match: "other"'))
        assert (response.status, response.body) == (412, b"")

    async def test_changed_file_is_seen(self, rig, folder):
        first = await rig.ask(request("/digits.txt"))
        (folder / "digits.txt").write_bytes(b"9876543210")
        (folder / "new.txt").write_bytes(b"new")
        second = await once_it_is(rig, "/digits.txt", b"9876543210")
        assert second.header("ETag") != first.header("ETag")
        assert (await rig.ask(request("/new.txt"))).body == b"new"

    async def test_switched_directory_is_followed(self, tmp_path, folder):
        (tmp_path / "v2").mkdir()
        (tmp_path / "v2" / "digits.txt").write_bytes(b"second")
        current = tmp_path / "current"
        current.symlink_to("dist")
        async with serving(current) as rig:
            assert (await rig.ask(request("/digits.txt"))).body == b"0123456789"
            (tmp_path / "next").symlink_to("v2")
            (tmp_path / "next").rename(current)
            await once_it_is(rig, "/digits.txt", b"second")
            assert (await rig.ask(request("/docs/"))).body == b"ok"

    async def test_vanished_directory_leaves_the_instance(self, tmp_path):
        async with serving(tmp_path / "none") as rig:
            assert (await rig.ask(request("/digits.txt"))).body == b"ok"


class TestRanges:
    @pytest.mark.parametrize(
        ("asked", "shown", "body"),
        [
            ("bytes=0-3", "bytes 0-3/10", b"0123"),
            ("bytes=7-", "bytes 7-9/10", b"789"),
            ("bytes=-2", "bytes 8-9/10", b"89"),
            ("bytes=5-100", "bytes 5-9/10", b"56789"),
        ],
    )
    async def test_one_range(self, rig, asked, shown, body):
        response = await rig.ask(request("/digits.txt", f"Range: {asked}"))
        assert (response.status, response.body) == (206, body)
        assert response.header("Content-Range") == [shown]

    async def test_several_ranges(self, rig):
        response = await rig.ask(request("/digits.txt", "Range: bytes=0-1,-1"))
        kind = response.header("Content-Type")[0]
        boundary = kind.removeprefix("multipart/byteranges; boundary=")
        assert response.status == 206
        assert response.body.decode() == (
            f"\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Range: bytes 0-1/10\r\n\r\n01"
            f"\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Range: bytes 9-9/10\r\n\r\n9\r\n--{boundary}--\r\n"
        )

    async def test_ranges_of_a_large_file(self, rig):
        asked = f"Range: bytes=10-{1 << 20},-{1 << 19}"
        response = await rig.ask(request("/big.bin", asked))
        assert BIG[10 : (1 << 20) + 1] in response.body
        assert BIG[-(1 << 19) :] in response.body
        assert response.header("Content-Length") == [str(len(response.body))]

    async def test_no_range_is_within(self, rig):
        response = await rig.ask(request("/digits.txt", "Range: bytes=10-"))
        assert (response.status, response.body) == (416, b"")
        assert response.header("Content-Range") == ["bytes */10"]

    async def test_if_range_decides(self, rig):
        etag = (await rig.ask(request("/digits.txt"))).header("ETag")[0]
        for tag, status in ((etag, 206), ('"other"', 200)):
            lines = ("Range: bytes=0-1", f"If-Range: {tag}")
            assert (await rig.ask(request("/digits.txt", *lines))).status == status


class TestCodings:
    async def test_smallest_welcome_coding_is_sent(self, rig):
        plain = await rig.ask(request("/assets/app.js"))
        packed = await rig.ask(request("/assets/app.js", "Accept-Encoding: gzip"))
        best = await rig.ask(request("/assets/app.js", "Accept-Encoding: gzip, br"))
        assert plain.body == gzip.decompress(packed.body) == SCRIPT
        assert packed.header("Content-Encoding") == ["gzip"]
        assert best.header("Content-Encoding") == ["br"]
        assert not plain.header("Content-Encoding")
        assert len({r.header("ETag")[0] for r in (plain, packed, best)}) == 3
        for response in (plain, packed, best):
            assert response.header("Vary") == ["Accept-Encoding"]
            assert response.header("Content-Type") == ["text/javascript; charset=utf-8"]

    async def test_file_without_siblings_does_not_vary(self, rig):
        response = await rig.ask(request("/digits.txt", "Accept-Encoding: gzip, br"))
        assert not response.header("Vary")


class TestSending:
    async def test_client_that_does_not_read_is_cut_off(self, folder):
        (folder / "huge.bin").write_bytes(b"")
        os.truncate(folder / "huge.bin", 64 << 20)
        async with serving(folder, settings=ProxySettings(write_timeout=0.3)) as rig:
            with socket.create_connection(("127.0.0.1", rig.port)) as sock:
                sock.sendall(request("/huge.bin"))
                await eventually(lambda: bool(rig.lines))
                assert rig.lines[0]["error"] == "timeout"

    async def test_client_that_leaves_ends_it(self, folder):
        (folder / "huge.bin").write_bytes(b"")
        os.truncate(folder / "huge.bin", 256 << 20)
        async with serving(folder) as rig:
            async with rig.client() as client:
                await client.send(request("/huge.bin"))
                await client.head()
            await eventually(lambda: bool(rig.lines))
            assert rig.lines[0]["error"] == "reset"
            assert (await rig.ask(request("/digits.txt"))).status == 200

    async def test_file_that_shrinks_ends_with_a_reset(self, folder):
        name = folder / "huge.bin"
        name.write_bytes(b"")
        os.truncate(name, 64 << 20)
        async with serving(folder) as rig, rig.client() as client:
            await client.send(request("/huge.bin"))
            await client.head()
            os.truncate(name, 1 << 20)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.reader.readexactly(64 << 20)

    async def test_over_tls_and_http2(self, folder, tmp_path):
        authority = Authority(tmp_path)
        pair = authority.issue("web", "shop.test")
        loaded = load_certificate(pair.cert, pair.key, protocols=("h2", "http/1.1"))
        context = authority.client_context()
        async with serving(folder, certificates=CertificateSet([loaded])) as rig:
            async with rig.tls_client(context) as client:
                await client.send(request("/big.bin") + request("/digits.txt"))
                assert (await client.response()).body == BIG
                assert (await client.response()).body == b"0123456789"
            async with http2_client(rig, context) as client:
                streams = [await client.ask("/big.bin") for _ in range(3)]
                for stream in streams:
                    assert (await client.answer(stream)).body == BIG
                answer = await client.get("/digits.txt", more=[("range", "bytes=1-2")])
                assert (answer.status, answer.body) == (206, b"12")
                assert answer.headers["onetrip-placement"] == "local-den"
            assert not rig.upstream.connections
