"""TLS of the real Envoy: towards its node, its clients and its instances; other protocols."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.proxy.settings import ProxySettings
from onetrip.xds.bootstrap import Identity
from onetrip.xds.resources import state_of
from onetrip.xds.terms import Address, Pair, Terms
from support import certs
from support.certs import Authority
from support.envoy import HERE, THERE, ask, echo, get, pinned, plan_for
from support.envoy_rig import Rig, rig
from support.fake_http2_upstream import FakeHttp2Upstream, Request
from support.fake_upstream import Connection, FakeUpstream
from support.ports import free_ports
from support.waits import BOUND, eventually


def secret(name: str, pair: certs.Pair, *hosts: str) -> Pair:
    return Pair(name, hosts, pair.cert.read_text(), pair.key.read_text())


async def serial(port: int, authority: Authority, name: str = "shop.test") -> int:
    """Return the serial number of the certificate that a new connection gets."""
    context = authority.client_context()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    with suppress(ssl.SSLError, OSError):
        await writer.wait_closed()
    del reader
    return int(found, 16)


def identity(folder: Path) -> Identity:
    """Return files by which an Envoy and its node know each other."""
    authority = Authority(folder)
    pair = authority.issue("node", "here.onetrip")
    return Identity(str(authority.file), str(pair.cert), str(pair.key), "here.onetrip")


async def test_envoy_and_node_know_each_other_by_certificates(tmp_path: Path) -> None:
    async with rig(tmp_path, identity(tmp_path)) as envoy:
        await envoy.apply(envoy.plan(pinned(THERE)))
        assert await envoy.where() == "there"
        assert len(envoy.control.statuses()) == 1


async def test_an_envoy_of_another_region_gets_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path, identity(tmp_path), expected="there.onetrip") as envoy:
        await eventually(lambda: bool(envoy.told), "it is told")
        assert envoy.told[0][0] == "xds.client_refused"
        assert envoy.control.statuses() == []
        assert not is_open(envoy.port)


async def test_certificates_are_rotated_while_connections_stay(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    old, new = authority.issue("old", "shop.test"), authority.issue("new", "shop.test")
    other = authority.issue("other", "other.test")
    async with rig(tmp_path) as envoy:
        (tls,) = free_ports(1)
        terms = Terms(
            Address("127.0.0.1", envoy.port),
            ProxySettings(),
            tls=Address("127.0.0.1", tls),
            pairs=(secret("a", old, "shop.test"), secret("b", other, "other.test")),
        )
        await envoy.apply(envoy.plan(terms=terms))
        await eventually(lambda: is_open(tls), "Envoy listens over TLS")
        first = await serial(tls, authority)
        assert await serial(tls, authority, "other.test") != first

        context = authority.client_context()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", tls, ssl=context, server_hostname="shop.test"
        )

        async def one() -> bytes:
            writer.write(get())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            return head

        async with asyncio.timeout(BOUND):
            assert (await one()).startswith(b"HTTP/1.1 200")
            rotated = (secret("a", new, "shop.test"), secret("b", other, "other.test"))
            await envoy.apply(envoy.plan(terms=replace(terms, pairs=rotated)))
            while await serial(tls, authority) == first:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            # The connection from before goes on.
            assert (await one()).startswith(b"HTTP/1.1 200")
        writer.close()


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(0.2)
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_an_instance_is_believed_by_the_name_on_its_certificate_only(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    right, wrong = authority.issue("right", "app.test"), authority.issue("wrong", "evil.test")
    async with rig(tmp_path) as envoy:
        for pair, status in ((right, 200), (wrong, 503)):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(pair.cert, pair.key)
            async with FakeUpstream(echo("tls"), tls=context) as upstream:
                place = Endpoint("127.0.0.1", upstream.port, tls_name="app.test")
                terms = Terms(
                    Address("127.0.0.1", envoy.port),
                    ProxySettings(),
                    trust_file=str(authority.file),
                )
                await envoy.apply(plan_for(envoy.port, {HERE: [place]}, terms=terms))
                found, _, body = await ask(envoy.port, get())
                assert found == status
                assert body.startswith(b"tls\n") is (status == 200)


async def test_instances_that_speak_http2_are_asked_in_it(tmp_path: Path) -> None:
    async def handle(request: Request) -> None:
        await request.answer(b"h2", more=[("content-length", "2")])

    async with rig(tmp_path) as envoy, FakeHttp2Upstream(handle) as upstream:
        place = Endpoint("127.0.0.1", upstream.port, protocol=HttpProtocol.H2)
        await envoy.apply(plan_for(envoy.port, {HERE: [place]}))
        status, _, body = await ask(envoy.port, get("/over"))
        assert (status, body) == (200, b"h2")


async def test_an_instance_may_be_a_name_and_a_connection_may_become_another_protocol(
    tmp_path: Path,
) -> None:
    async def shout(connection: Connection) -> None:
        while head := await connection.read_request():
            if b"upgrade: websocket" in head.lower():
                await connection.send(
                    b"HTTP/1.1 101 Switching Protocols\r\n"
                    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                )
                await connection.send((await connection.read(5)).upper())
                return
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nname")

    async with rig(tmp_path) as envoy, FakeUpstream(shout) as upstream:
        await envoy.apply(plan_for(envoy.port, {HERE: [Endpoint("localhost", upstream.port)]}))
        await eventually_answered(envoy)
        reader, writer = await asyncio.open_connection("127.0.0.1", envoy.port)
        writer.write(get(more="Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        async with asyncio.timeout(BOUND):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101")
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"
        writer.close()


async def eventually_answered(envoy: Rig) -> None:
    async with asyncio.timeout(BOUND):
        while (await ask(envoy.port, get()))[2] != b"name":  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_what_is_beyond_an_instances_capacity_is_refused_at_once(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def wait(connection: Connection) -> None:
        while await connection.read_request():
            await gate.wait()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with rig(tmp_path) as envoy, FakeUpstream(wait) as upstream:
        envoy.control.offer(
            state_of(plan_for(envoy.port, {HERE: [upstream.port]}, more={"capacity": 2}))
        )
        await envoy.current()
        held = [asyncio.create_task(ask(envoy.port, get())) for _ in range(2)]
        await eventually(lambda: len(upstream.connections) == 2, "two requests run")
        status, _, _ = await ask(envoy.port, get())
        assert status == 503
        gate.set()
        assert [reply[0] for reply in await asyncio.gather(*held)] == [200, 200]
