"""The PROXY protocol on real connections: who must send it, what comes of it, before TLS too."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from ipaddress import ip_address, ip_network

import pytest

from onetrip.errors import ConfigError
from onetrip.net.tls import CertificateSet, load_certificate
from onetrip.proxy.settings import ProxySettings
from support.certs import Authority
from support.fake_upstream import FakeUpstream
from support.proxy_rig import Client, one_region
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n"
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
LB = (ip_network("127.0.0.0/8"),)
REQUIRED = ProxySettings(needs_proxy_header=True, trusted_proxies=LB, handshake_timeout=30)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certs"))


def block(source="2001:db8::7") -> bytes:
    pair = ip_address(source).packed + ip_address("::1").packed
    body = pair + struct.pack("!HH", 5000, 443) + b"\x04\x00\x10" + bytes(16)
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x21" + struct.pack("!H", len(body)) + body


@contextlib.asynccontextmanager
async def serving(settings=REQUIRED, **options):
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(FakeUpstream())
        rig = one_region(upstream.endpoint, settings=settings, **options)
        yield await stack.enter_async_context(rig), upstream


async def is_closed_without_a_word(rig, data) -> bool:
    async with rig.client() as client:
        await client.send(data)
        return await client.is_closed()


class TestHeaders:
    @pytest.mark.parametrize(
        ("header", "address"),
        [(LINE, "192.0.2.7"), (block(), "2001:db8::7"), (LOCAL, "127.0.0.1")],
        ids=["line", "block", "local"],
    )
    async def test_client_address_comes_from_the_header(self, header, address):
        async with serving() as (rig, upstream), rig.client() as client:
            await client.send(header + GET)
            assert (await client.response()).status == 200
            await client.send(GET)
            assert (await client.response()).status == 200
            assert [line["client"] for line in rig.lines] == [address] * 2
            seen = upstream.connections[0].received
            assert b"X-Forwarded-For: %b\r\n" % address.encode() in seen
            assert seen.count(b"GET /a ") == 2

    @pytest.mark.parametrize("header", [LINE, block()], ids=["line", "block"])
    async def test_header_may_come_in_any_pieces(self, header):
        async with serving() as (rig, _), rig.client() as client:
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in header:
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            await client.send(GET)
            assert (await client.response()).status == 200
            assert rig.lines[0]["client"] != "127.0.0.1"

    async def test_client_behind_the_proxy_is_not_believed(self):
        ask = LINE + GET[:-2] + b"X-Forwarded-For: 10.9.9.9\r\n\r\n"
        async with serving() as (rig, upstream), rig.client() as client:
            await client.send(ask)
            assert (await client.response()).status == 200
            assert b"10.9.9.9" not in upstream.connections[0].received

    async def test_a_second_header_is_no_request(self):
        async with serving() as (rig, upstream), rig.client() as client:
            await client.send(LINE + LINE + GET)
            assert (await client.response()).status == 400
            assert not upstream.connections


class TestRefusals:
    @pytest.mark.parametrize(
        "data",
        [GET, b"PROXY TCP4 localhost 10.0.0.1 1 2\r\n" + GET, b"\x16\x03\x01\x00\x05hello"],
        ids=["missing", "malformed", "tls"],
    )
    async def test_connection_without_a_valid_header_is_closed(self, data):
        async with serving() as (rig, upstream):
            assert await is_closed_without_a_word(rig, data)
            assert rig.refused("clients", "preamble") == 1
            assert not upstream.connections

    async def test_end_inside_the_header_is_noticed(self):
        async with serving() as (rig, _), rig.client() as client:
            await client.send(LINE[:20])
            client.writer.write_eof()
            assert await client.is_closed()
            await eventually(lambda: rig.refused("clients", "preamble") == 1)

    async def test_slow_header_ends(self):
        settings = ProxySettings(needs_proxy_header=True, trusted_proxies=LB, handshake_timeout=0.1)
        async with serving(settings) as (rig, _):
            assert await is_closed_without_a_word(rig, LINE[:20])
            assert rig.refused("clients", "timeout") == 1

    async def test_header_of_a_stranger_is_no_request(self):
        settings = ProxySettings(
            needs_proxy_header=True, trusted_proxies=(ip_network("10.0.0.0/8"),)
        )
        async with serving(settings) as (rig, upstream):
            assert (await rig.ask(GET)).status == 200
            assert (await rig.ask(LINE + GET)).status == 400
            assert [line["client"] for line in rig.lines] == ["127.0.0.1"] * 2
            assert len(upstream.connections) == 1

    async def test_header_is_no_request_where_it_is_off(self):
        async with serving(ProxySettings(trusted_proxies=LB)) as (rig, _):
            assert (await rig.ask(LINE + GET)).status == 400

    def test_header_needs_somebody_to_trust(self):
        with pytest.raises(ConfigError, match="trusted_proxies"):
            ProxySettings(needs_proxy_header=True)


class TestBeforeTls:
    @contextlib.asynccontextmanager
    async def over_tls(self, authority, header):
        pair = authority.issue("web", "shop.test")
        served = CertificateSet([load_certificate(pair.cert, pair.key)])
        async with serving(certificates=served) as (rig, upstream):
            sock = socket.create_connection(("127.0.0.1", rig.tls_port), timeout=BOUND)
            sock.setblocking(False)
            sock.send(header)
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=authority.client_context(), server_hostname="shop.test"
            )
            yield rig, upstream, Client(reader, writer)
            writer.close()

    @pytest.mark.parametrize("header", [LINE, block("::ffff:192.0.2.7")], ids=["line", "block"])
    async def test_header_comes_before_the_handshake(self, authority, header):
        async with self.over_tls(authority, header) as (rig, upstream, client):
            await client.send(GET)
            assert (await client.response()).status == 200
            assert rig.lines[0]["client"] == "192.0.2.7"
            assert b"for=192.0.2.7;" in upstream.connections[0].received
            assert b"X-Forwarded-Proto: https\r\n" in upstream.connections[0].received

    async def test_handshake_without_a_header_is_refused(self, authority):
        with pytest.raises(ConnectionError):
            async with self.over_tls(authority, b""):
                pass
