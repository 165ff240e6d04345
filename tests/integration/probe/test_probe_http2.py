"""Probes of targets that speak HTTP/2: the round trip is the request's own, whatever else comes."""

from __future__ import annotations

import asyncio

import pytest

from onetrip.errors import Kind, ProbeError
from onetrip.model.catalog import BackendKind
from onetrip.model.measure import Target, TargetKind
from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.net.dial import TcpDialer
from onetrip.net.resolve import CachingResolver
from onetrip.net.tls import load_certificate
from onetrip.probe.base import Network, ProbeSpec
from onetrip.probe.runner import make_probe
from onetrip.timing import MonotonicClock
from support.certs import Authority
from support.delayed_servers import DelayedKnock
from support.fake_http2_upstream import FakeHttp2Upstream
from support.fake_upstream import FakeUpstream
from support.http2_client import PING, frame
from support.waits import BOUND


def probe_of(endpoint: Endpoint, authority: Authority | None = None):
    clock = MonotonicClock()
    dial = TcpDialer(make_tls=authority.client_context) if authority else TcpDialer()
    network = Network(dial, DelayedKnock(0.001), CachingResolver(clock), clock)
    target = Target(TargetKind.INSTANCE, "shop")
    spec = ProbeSpec(target, BackendKind.HTTP, endpoint, "/health", "shop.test", True)
    return make_probe(spec, network)


async def test_one_connection_serves_many_probes():
    async with FakeHttp2Upstream() as server:
        probe = probe_of(server.endpoint)
        for _ in range(3):
            assert 0 < (await probe.run(BOUND)).rtt < BOUND
        probe.close()
        assert len(server.connections) == 1
        headers = server.requests[0].headers
        assert (headers[":path"], headers[":authority"]) == ("/health", "shop.test")
        assert headers["user-agent"] == "onetrip-probe"


async def test_frames_before_the_answer_are_not_the_answer():
    async def handle(request):
        await request.connection.raw(frame(PING, 0, 0, bytes(8)))
        await asyncio.sleep(0.05)
        await request.answer()

    async with FakeHttp2Upstream(handle) as server:
        probe = probe_of(server.endpoint)
        assert (await probe.run(BOUND)).rtt >= 0.048  # loops count in milliseconds
        assert (await probe.run(BOUND)).rtt >= 0.048  # loops count in milliseconds
        probe.close()


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (404, True), (503, False)])
async def test_server_error_is_no_health(status, is_well):
    async def handle(request):
        await request.answer(status=status)

    async with FakeHttp2Upstream(handle) as server:
        probe = probe_of(server.endpoint)
        if is_well:
            await probe.run(BOUND)
        else:
            with pytest.raises(ProbeError) as caught:
                await probe.run(BOUND)
            assert caught.value.kind is Kind.UNHEALTHY
        probe.close()


async def test_connection_closed_while_idle_is_no_failure():
    async def handle(request):
        await request.answer()
        request.connection.writer.close()

    async with FakeHttp2Upstream(handle) as server:
        probe = probe_of(server.endpoint)
        await probe.run(BOUND)
        await probe.run(BOUND)
        probe.close()
        assert len(server.connections) == 2


async def test_server_of_http1_is_a_failure():
    async def handle(connection):
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with FakeUpstream(handle) as server:
        probe = probe_of(Endpoint("127.0.0.1", server.port, None, HttpProtocol.H2))
        with pytest.raises(ProbeError):
            await probe.run(BOUND)


async def test_body_without_end_costs_the_connection_only():
    async def handle(request):
        await request.head(200)
        while True:
            await request.send(bytes(16384))

    async with FakeHttp2Upstream(handle) as server:
        probe = probe_of(server.endpoint)
        await probe.run(BOUND)
        await probe.run(BOUND)
        probe.close()
        assert len(server.connections) == 2


@pytest.mark.parametrize("offers", [("h2", "http/1.1"), ("http/1.1",)])
async def test_auto_asks_in_the_protocol_that_is_chosen(tmp_path, offers):
    authority = Authority(tmp_path)
    pair = authority.issue("web", "shop.test")
    tls = load_certificate(pair.cert, pair.key, protocols=offers)
    server = FakeHttp2Upstream(tls=tls) if "h2" in offers else FakeUpstream(tls=tls)
    async with server:
        endpoint = Endpoint("127.0.0.1", server.port, "shop.test", HttpProtocol.AUTO)
        probe = probe_of(endpoint, authority)
        for _ in range(2):
            assert (await probe.run(BOUND)).rtt > 0
        probe.close()
