"""WebSocket over HTTP/2: every pair of protocols makes the same tunnel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re

import pytest
from h2.settings import SettingCodes

from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.proxy.settings import ProxySettings
from onetrip.wire.http2 import Code
from support.certs import Authority
from support.fake_http2_upstream import FakeHttp2Upstream
from support.fake_upstream import FakeUpstream
from support.http2_client import http2_client
from support.proxy_rig import one_region
from support.waits import BOUND, eventually

ALLOWING = {SettingCodes.MAX_CONCURRENT_STREAMS: 100, SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the example of RFC 6455 section 1.3
HANDSHAKE = (
    f"GET /chat HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: chat\r\n\r\n"
).encode()
CONNECT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "shop.test"),
    (":path", "/chat"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "chat"),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def served(authority):
    pair = authority.issue("web", "shop.test")
    offers = ("h2", "http/1.1")
    return CertificateSet([load_certificate(pair.cert, pair.key, protocols=offers)])


def accept_of(key: str) -> str:
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


async def echo_http1(connection):
    """Accept a handshake and echo; `end` is answered with `bye` and the end."""
    head = (await connection.read_head()).decode()
    key = re.search(r"(?i)sec-websocket-key: *(\S+)", head)[1]
    await connection.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        % accept_of(key).encode()
    )
    while data := await connection.read(65536):
        if data == b"end":
            await connection.send(b"bye")
            return
        await connection.send(data)
    await connection.send(b"<eof>")


async def echo_http2(request):
    """Do the same over HTTP/2."""
    await request.head(200, [("sec-websocket-protocol", "chat")])
    while True:
        await request.connection.until(lambda: request.body or request.is_ended)
        data, request.body = request.body, b""
        if data == b"end":
            await request.send(b"bye", ends=True)
            return
        if not data:
            await request.send(b"<eof>", ends=True)
            return
        await request.send(data)


@contextlib.asynccontextmanager
async def wired(upstream, served, **options):
    """Run an upstream, 1 and 2 for an echo over that version, and a proxy in front of it."""
    if upstream == 1:
        upstream = FakeUpstream(echo_http1)
    elif upstream == 2:
        upstream = FakeHttp2Upstream(echo_http2, settings=ALLOWING)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(upstream)
        rig = one_region(upstream.endpoint, certificates=served, **options)
        yield await stack.enter_async_context(rig), upstream


class Talk:
    """A client's end of a tunnel."""

    def __init__(self, client, stream=None):
        self.client = client
        self.stream = stream
        self.read = 0

    async def send(self, data: bytes, *, ends: bool = False) -> None:
        if self.stream is None:
            await self.client.send(data)
            if ends:
                self.client.writer.write_eof()
        else:
            await self.client.send(self.stream, data, ends=ends)

    async def receive(self, size: int) -> bytes:
        if self.stream is None:
            async with asyncio.timeout(BOUND):
                return await self.client.reader.readexactly(size)
        seen = self.client.seen(self.stream)
        await self.client.until(lambda: len(seen.body) >= self.read + size)
        data = seen.body[self.read : self.read + size]
        self.read += size
        return data

    async def echoes(self, data: bytes) -> bool:
        # A raw client has to read while it sends; the other one does by itself.
        sending = asyncio.ensure_future(self.send(data))
        if self.stream is not None:
            await sending
        return await self.receive(len(data)) == data and await sending is None

    async def ended(self) -> bool:
        if self.stream is None:
            return await self.client.rest() == b""
        answer = await self.client.answer(self.stream)
        return len(answer.body) == self.read and answer.reset in (None, Code.NO_ERROR)


@contextlib.asynccontextmanager
async def tunnel(rig, version: int, authority):
    if version == 1:
        async with rig.client() as client:
            await client.send(HANDSHAKE)
            head = (await client.head()).decode()
            assert " 101 " in head
            assert f"accept: {ACCEPT}".lower() in head.lower()
            assert "protocol: chat" in head.lower()
            yield Talk(client)
    else:
        async with http2_client(rig, authority.client_context()) as client:
            assert client.h2.remote_settings.enable_connect_protocol
            stream = await client.ask(headers=CONNECT, ends=False)
            await client.until(lambda: client.seen(stream).status)
            seen = client.seen(stream)
            assert seen.status == 200
            assert seen.headers["sec-websocket-protocol"] == "chat"
            assert not seen.headers.keys() & {"sec-websocket-accept", "upgrade", "connection"}
            yield Talk(client, stream)


PAIRS = [(1, 2), (2, 1), (2, 2)]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"http{pair[0]}-to-http{pair[1]}")
async def talk(request, authority, served):
    down, up = request.param
    async with wired(up, served) as (rig, upstream), tunnel(rig, down, authority) as talk:
        talk.rig, talk.upstream = rig, upstream
        yield talk


class TestTunnel:
    async def test_bytes_pass_both_ways(self, talk):
        for data in (b"hello", bytes(range(256)) * 2000, b"x"):
            assert await talk.echoes(data)

    async def test_end_of_the_application_ends_the_client(self, talk):
        await talk.send(b"end")
        assert await talk.receive(3) == b"bye"
        assert await talk.ended()
        await talk.send(b"", ends=True)
        await eventually(lambda: talk.rig.lines)
        assert talk.rig.lines[0]["status"] == 101
        assert talk.rig.lines[0]["error"] is None

    async def test_half_close_of_the_client_reaches_the_application(self, talk):
        await talk.send(b"one", ends=True)
        assert await talk.receive(8) == b"one<eof>"
        assert await talk.ended()

    async def test_lost_client_ends_the_application(self, talk):
        await talk.send(b"one")
        await talk.receive(3)
        talk.client.writer.transport.abort()
        await eventually(lambda: talk.rig.lines)
        if isinstance(talk.upstream, FakeHttp2Upstream):
            request = talk.upstream.requests[0]
            await eventually(lambda: request.is_ended or request.reset is not None)
        else:
            await eventually(lambda: talk.upstream.connections[0].reader.at_eof())


class TestHandshake:
    async def test_http1_application_sees_a_whole_handshake(self, authority, served):
        async with wired(1, served) as (rig, upstream), tunnel(rig, 2, authority):
            seen = upstream.connections[0].received.decode().lower()
            assert seen.startswith("get /chat http/1.1\r\nhost: shop.test\r\n")
            assert "\r\nconnection: upgrade\r\nupgrade: websocket\r\n" in seen
            assert "\r\nsec-websocket-version: 13\r\n" in seen

    async def test_nonces_are_not_used_twice(self, authority, served):
        async with wired(1, served) as (rig, upstream):
            for _ in range(2):
                async with tunnel(rig, 2, authority):
                    pass
            keys = re.findall(rb"(?i)sec-websocket-key: *(\S+)", upstream.received)
            assert len(set(keys)) == 2
            assert {len(base64.b64decode(key)) for key in keys} == {16}

    async def test_http2_application_sees_an_extended_connect(self, authority, served):
        async with wired(2, served) as (rig, upstream), tunnel(rig, 1, authority):
            headers = upstream.requests[0].headers
            assert headers[":method"] == "CONNECT"
            assert headers[":protocol"] == "websocket"
            assert (headers[":path"], headers[":authority"]) == ("/chat", "shop.test")
            assert not headers.keys() & {"sec-websocket-key", "upgrade", "connection"}

    @pytest.mark.parametrize("down", [1, 2])
    async def test_http2_application_that_does_not_allow_it_is_a_502(self, authority, served, down):
        settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 100}
        async with wired(FakeHttp2Upstream(settings=settings), served) as (rig, upstream):
            assert await self.status(rig, down, authority) == 502
            assert not upstream.requests
            assert rig.lines[0]["error"] == "unsupported"

    @pytest.mark.parametrize(
        ("answer", "status"),
        [
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 502),
            (b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 502),
            (
                b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                502,
            ),
            (b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n", 502),
        ],
        ids=["refused", "no-switch", "no-accept", "wrong-accept", "other-protocol"],
    )
    async def test_only_a_true_handshake_is_a_tunnel(self, authority, served, answer, status):
        async def handle(connection):
            await connection.read_head()
            await connection.send(answer)
            await asyncio.sleep(0.2)

        async with wired(FakeUpstream(handle), served) as (rig, _):
            assert await self.status(rig, 2, authority) == status

    async def test_refusal_of_an_http2_application_passes(self, authority, served):
        async def handle(request):
            await request.answer(b"no", status=403)

        async with wired(FakeHttp2Upstream(handle, settings=ALLOWING), served) as (rig, upstream):
            assert await self.status(rig, 1, authority) == 403
            assert await self.status(rig, 2, authority) == 403
            await eventually(lambda: len([r for r in upstream.requests if r.reset]) == 2)

    async def test_other_offers_go_on_as_plain_requests(self, authority, served):
        async with wired(FakeHttp2Upstream(settings=ALLOWING), None) as (rig, upstream):
            offer = HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: x")
            assert (await rig.ask(offer)).status == 200
            assert upstream.requests[0].headers[":method"] == "GET"

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({":protocol": "connect-udp"}, 501),
            ({":method": "GET"}, 400),
            ({":path": None}, 400),
            ({"content-length": "5"}, 400),
        ],
    )
    async def test_odd_connects_are_refused(self, authority, served, change, status):
        headers = [(n, v) for n, v in {**dict(CONNECT), **change}.items() if v is not None]
        async with wired(1, served) as (rig, upstream):
            async with http2_client(rig, authority.client_context()) as client:
                stream = await client.ask(headers=headers, ends=False)
                answer = await client.answer(stream)
                if status == 400:
                    assert answer.reset == Code.PROTOCOL_ERROR
                else:
                    assert answer.status == status
            assert not upstream.connections

    @staticmethod
    async def status(rig, down, authority) -> int:
        if down == 1:
            return (await rig.ask(HANDSHAKE)).status
        async with http2_client(rig, authority.client_context()) as client:
            stream = await client.ask(headers=CONNECT, ends=False)
            return (await client.answer(stream)).status


class TestLimits:
    @pytest.mark.parametrize(("down", "up"), PAIRS)
    async def test_silent_tunnel_is_ended(self, authority, served, down, up):
        settings = ProxySettings(tunnel_timeout=0.2)
        async with (
            wired(up, served, settings=settings) as (rig, _),
            tunnel(rig, down, authority) as talk,
        ):
            await talk.send(b"x")
            await talk.receive(1)
            await eventually(lambda: rig.lines)
            if down == 2:
                answer = await talk.client.answer(talk.stream)
                assert answer.reset == Code.CANCEL

    @pytest.mark.parametrize(("down", "up"), PAIRS)
    async def test_application_is_held_back_by_a_client_that_reads_nothing(
        self, authority, served, down, up
    ):
        sent = 0

        async def flood1(connection):
            nonlocal sent
            head = (await connection.read_head()).decode()
            key = re.search(r"(?i)sec-websocket-key: *(\S+)", head)[1].encode()
            await connection.send(
                b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: %b\r\n\r\n"
                % accept_of(key.decode()).encode()
            )
            while True:
                await connection.send(bytes(65536))
                sent += 65536

        async def flood2(request):
            nonlocal sent
            await request.head(200, [("sec-websocket-protocol", "chat")])
            while True:
                await request.send(bytes(65536))
                sent += 65536

        fake = FakeUpstream(flood1) if up == 1 else FakeHttp2Upstream(flood2, settings=ALLOWING)
        async with wired(fake, served) as (rig, _), tunnel(rig, down, authority) as talk:
            talk.client.takes = False
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 20_000_000
