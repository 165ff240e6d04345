"""HTTPS for clients: which certificate they get, what the application is told, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.proxy.settings import ProxySettings
from support.certs import Authority
from support.fake_upstream import FakeUpstream, always
from support.proxy_rig import one_region
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
HOSTS = ("shop.test", "*.shop.test", "other.test")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def pairs(authority):
    return {
        "first": authority.issue("first", "shop.test", "127.0.0.1"),
        "star": authority.issue("star", "*.shop.test", "x.y.other.test"),
        "other": authority.issue("other", "other.test"),
        "renewed": authority.issue("renewed", "shop.test"),
    }


@pytest.fixture
def served(pairs):
    names = ("first", "star", "other")
    return CertificateSet([load_certificate(pairs[n].cert, pairs[n].key) for n in names])


@pytest.fixture
def context(authority):
    return authority.client_context()


def blind() -> ssl.SSLContext:
    """Return a client context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def serving(served, handler=None, **options):
    options.setdefault("hosts", HOSTS)
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(FakeUpstream(handler))
        rig = one_region(upstream.endpoint, certificates=served, **options)
        yield await stack.enter_async_context(rig), upstream


def shown(client) -> str:
    """Return the common name of the certificate a client was shown."""
    tls = client.writer.get_extra_info("ssl_object")
    return dict(pair[0] for pair in tls.getpeercert()["subject"])["commonName"]


class TestCertificates:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("shop.test", "first"),
            ("SHOP.test", "first"),
            ("a.shop.test", "star"),
            ("other.test", "other"),
        ],
    )
    async def test_server_name_picks_the_certificate(self, served, context, name, expected):
        async with serving(served) as (rig, _), rig.tls_client(context, name) as client:
            assert shown(client) == expected

    @pytest.mark.parametrize("name", [None, "a.b.shop.test", "nobody.test"])
    async def test_first_certificate_is_the_default(self, served, context, name):
        context.check_hostname = False
        async with serving(served) as (rig, _), rig.tls_client(context, name) as client:
            assert shown(client) == "first"

    async def test_swap_serves_new_handshakes_and_keeps_old_connections(
        self, served, context, pairs
    ):
        async with serving(served) as (rig, _), rig.tls_client(context) as old:
            await old.send(GET)
            assert (await old.response()).status == 200
            renewed = load_certificate(pairs["renewed"].cert, pairs["renewed"].key)
            rig.server.certificates = CertificateSet([renewed])
            async with rig.tls_client(context) as new:
                assert shown(new) == "renewed"
                await new.send(GET)
                assert (await new.response()).status == 200
            await old.send(GET)
            assert (await old.response()).status == 200

    # CPython prints the error of decoding the name, and ends the handshake.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    async def test_a_name_that_is_no_ascii_harms_nobody(self, served, context):
        async with serving(served) as (rig, _):
            hello = ssl.MemoryBIO()
            client = blind().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="aaaa.test")
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            broken = hello.read().replace(b"aaaa.test", b"\xff\xfe\x80a.test")
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.tls_port)
            writer.write(broken)
            async with asyncio.timeout(BOUND):
                await reader.read()
            writer.close()
            async with rig.tls_client(context) as other:
                await other.send(GET)
                assert (await other.response()).status == 200


class TestVersions:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_modern_versions_get_forward_secrecy_and_http11(self, served, context, version):
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with serving(served) as (rig, _), rig.tls_client(context) as client:
            tls = client.writer.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "http/1.1"
            cipher = tls.cipher()[0]
            assert "GCM" in cipher or "CHACHA20" in cipher
            assert cipher.startswith(("ECDHE", "TLS_"))

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    async def test_old_version_is_refused(self, served):
        context = blind()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        async with serving(served) as (rig, _):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with rig.tls_client(context):
                    pass
            await eventually(lambda: rig.refused("tls", "handshake") == 1)

    async def test_weak_suites_are_refused(self, served):
        context = blind()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA:ECDHE+AES128+SHA256:!AESGCM:@SECLEVEL=0")
        async with serving(served) as (rig, _):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with rig.tls_client(context):
                    pass

    @pytest.mark.parametrize("name", ["shop.test", "a.shop.test"])
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_sessions_are_resumed(self, served, context, name, version):
        context.minimum_version = context.maximum_version = version
        async with serving(served) as (rig, _):
            first = await asyncio.to_thread(visit, rig.tls_port, context, name, None)
            second = await asyncio.to_thread(visit, rig.tls_port, context, name, first[1])
            assert (first[0], second[0]) == (False, True)


def visit(port, context, name, session):
    """Make one request; return whether the session was resumed, and the session to keep."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=BOUND) as sock,
        context.wrap_socket(sock, server_hostname=name, session=session) as tls,
    ):
        tls.sendall(GET.replace(b"shop.test", name.encode()))
        assert tls.recv(1000).startswith(b"HTTP/1.1 200")
        return tls.session_reused, tls.session


class TestMessages:
    async def test_small_writes_do_not_wait_for_acknowledgements(self, served, context):
        async with serving(served) as (rig, _), rig.tls_client(context, "shop.test") as client:
            await client.send(b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            await client.response()
            (connection,) = rig.server._connections
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    async def test_application_is_told_https(self, served, context):
        async with serving(served) as (rig, upstream):
            async with rig.tls_client(context) as client:
                await client.send(GET)
                assert (await client.response()).status == 200
            seen = upstream.connections[0].received
            assert b"X-Forwarded-Proto: https\r\n" in seen
            assert b';host="shop.test";proto=https\r\n' in seen

    async def test_host_of_another_certificate_is_misdirected(self, served, context):
        async with serving(served) as (rig, upstream), rig.tls_client(context) as client:
            await client.send(GET.replace(b"shop.test", b"other.test"))
            response = await client.response()
            assert response.status == 421
            assert b'"kind":"misdirected"' in response.body
            assert not upstream.connections
            await client.send(GET)  # the connection itself is sound
            assert (await client.response()).status == 200

    @pytest.mark.parametrize("host", [b"SHOP.test", b"shop.test:443", b"shop.test.:8443"])
    async def test_covered_host_is_served_whatever_its_spelling(self, served, context, host):
        async with serving(served) as (rig, _), rig.tls_client(context) as client:
            await client.send(GET.replace(b"shop.test", host))
            assert (await client.response()).status == 200

    async def test_connection_may_be_shared_by_hosts_of_one_certificate(self, served, context):
        async with serving(served) as (rig, _), rig.tls_client(context, "a.shop.test") as client:
            for host, status in ((b"b.shop.test", 200), (b"shop.test", 421), (b"a.shop.test", 200)):
                await client.send(GET.replace(b"shop.test", host))
                assert (await client.response()).status == status

    async def test_large_bodies_pass_both_ways(self, served, context):
        body = bytes(range(256)) * 4096

        async def echo(connection):
            request = await connection.read_request()
            data = request.partition(b"\r\n\r\n")[2]
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
            await connection.send(data)

        head = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with serving(served, echo) as (rig, _), rig.tls_client(context) as client:
            await client.send(head + body)
            assert (await client.response()).body == body

    async def test_upgrade_works_over_tls(self, served, context):
        async def shout(connection):
            await connection.read_head()
            await connection.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n"
            )
            while data := await connection.read(100):
                await connection.send(data.upper())

        ask = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: shout\r\n\r\n"
        async with serving(served, shout) as (rig, _), rig.tls_client(context) as client:
            await client.send(ask)
            assert b" 101 " in await client.head()
            await client.send(b"hello")
            async with asyncio.timeout(BOUND):
                assert await client.reader.readexactly(5) == b"HELLO"

    async def test_truncated_response_is_no_clean_end(self, served, context):
        async def cut(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        async with serving(served, cut) as (rig, _), rig.tls_client(context) as client:
            await client.send(GET)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
                await client.response()

    async def test_idle_connection_ends_when_draining(self, served, context):
        async with serving(served) as (rig, _), rig.tls_client(context) as client:
            await client.send(GET)
            await client.response()
            await rig.server.drain(2)
            assert await client.is_closed()
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", rig.tls_port)


class TestRefusals:
    async def raw(self, rig, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.tls_port)
        try:
            writer.write(data)
            async with asyncio.timeout(BOUND):
                return await reader.read()
        finally:
            writer.close()

    async def test_plain_http_gets_a_readable_answer_and_a_close(self, served):
        async with serving(served) as (rig, upstream):
            answer = await self.raw(rig, GET + b"x" * 100_000)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"HTTPS" in answer
            assert rig.refused("tls", "plain") == 1
            assert not upstream.connections

    async def test_garbage_handshake_is_refused(self, served):
        async with serving(served) as (rig, _):
            await self.raw(rig, b"\x16\x03\x01\x00\x20" + b"\xff" * 100)
            await eventually(lambda: rig.refused("tls", "handshake") == 1)

    @pytest.mark.parametrize("start", [b"", b"\x16\x03\x01"], ids=["silent", "stalled"])
    async def test_slow_handshake_ends(self, served, start):
        settings = ProxySettings(handshake_timeout=0.1)
        async with serving(served, settings=settings) as (rig, _):
            with contextlib.suppress(ConnectionError):
                assert await self.raw(rig, start) == b""
            await eventually(
                lambda: rig.refused("tls", "timeout") + rig.refused("tls", "reset") == 1
            )

    async def test_pending_handshakes_are_bounded(self, served, context):
        settings = ProxySettings(handshake_timeout=30, max_handshakes=2)
        async with serving(served, settings=settings) as (rig, _):
            stalled = [await asyncio.open_connection("127.0.0.1", rig.tls_port) for _ in range(2)]
            for _, writer in stalled:
                writer.write(b"\x16")
            with pytest.raises((ConnectionError, ssl.SSLError)):
                async with rig.tls_client(context):
                    pass
            assert rig.refused("tls", "overload") == 1
            for _, writer in stalled:
                writer.close()

            async def comes_in() -> bool:
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    async with rig.tls_client(context):
                        return True
                return False

            async with asyncio.timeout(BOUND):
                while not await comes_in():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def test_stop_ends_handshakes_in_progress(self, served):
        async with serving(served) as (rig, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.tls_port)
            writer.write(b"\x16\x03\x01")
            await asyncio.sleep(0.05)
            await rig.server.stop()
            async with asyncio.timeout(BOUND):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()


class TestRedirect:
    @contextlib.asynccontextmanager
    async def redirecting(self, served, port=443, **options):
        async with serving(served, always(), **options) as (rig, upstream):
            rig.server.redirect_to(port)
            yield rig, upstream

    @pytest.mark.parametrize(
        ("port", "host", "location"),
        [
            (443, b"shop.test", "https://shop.test/a?b=c"),
            (443, b"Shop.test:8080", "https://shop.test/a?b=c"),
            (8443, b"shop.test", "https://shop.test:8443/a?b=c"),
        ],
    )
    async def test_plain_request_is_sent_to_tls(self, served, port, host, location):
        async with self.redirecting(served, port) as (rig, upstream):
            ask = GET.replace(b"shop.test", host).replace(b"/a", b"/a?b=c")
            response = await rig.ask(ask)
            assert response.status == 308
            assert response.header("Location") == [location]
            assert not upstream.connections
            assert rig.lines[-1]["status"] == 308

    async def test_request_over_tls_is_served(self, served, context):
        async with self.redirecting(served) as (rig, _), rig.tls_client(context) as client:
            await client.send(GET)
            assert (await client.response()).status == 200

    async def test_trusted_proxy_that_ended_tls_is_believed(self, served):
        from ipaddress import ip_network

        settings = ProxySettings(trusted_proxies=(ip_network("127.0.0.0/8"),))
        ask = GET[:-2] + b"X-Forwarded-Proto: https\r\n\r\n"
        async with self.redirecting(served, settings=settings) as (rig, _):
            assert (await rig.ask(ask)).status == 200
        async with self.redirecting(served) as (rig, _):
            assert (await rig.ask(ask)).status == 308

    async def test_unknown_host_is_not_sent_anywhere(self, served):
        async with self.redirecting(served) as (rig, _):
            assert (await rig.ask(GET.replace(b"shop", b"evil"))).status == 404

    async def test_redirect_does_not_keep_a_connection_with_an_unread_body(self, served):
        ask = GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 10\r\n\r\n"
        async with self.redirecting(served) as (rig, _), rig.client() as client:
            await client.send(ask)
            response = await client.response()
            assert response.status == 308
            assert response.header("Connection") == ["close"]
