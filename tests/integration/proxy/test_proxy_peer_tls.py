"""TLS between nodes: a peer is who its certificate says, and nobody else is taken for one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest

from onetrip.model.measure import Arm, Target, TargetKind
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.net.tls import PeerContexts, load_peer_contexts
from onetrip.proxy.hop import HopSigner
from onetrip.timing import MonotonicClock
from support.certs import Authority
from support.fake_upstream import FakeUpstream
from support.http2_client import Http2Client
from support.proxy_rig import DEN, FRA, SECRET, SHOP, Client, ProxyRig, make_catalog, make_topology
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
PING = b"GET /.well-known/onetrip/ping HTTP/1.1\r\nHost: x\r\n\r\n"
TO_FRA = PlacementSnapshot(
    DEN, 1, {}, {SHOP: Placement(Status.PLACED, (FRA, DEN), DEN, control_ratio=0.0)}
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("nodes"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def contexts(authority, region, protocols=("http/1.1",)) -> PeerContexts:
    pair = authority.issue(f"node-{region}", f"{region}.onetrip")
    return load_peer_contexts(authority.file, pair.cert, pair.key, region, protocols)


@contextlib.asynccontextmanager
async def two_nodes(edge_contexts, node_contexts, protocol=HttpProtocol.HTTP1, handler=None):
    """Yield (edge in den, node in fra, upstream in fra, upstream in den)."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        far, near = await enter(FakeUpstream(handler)), await enter(FakeUpstream())
        catalog = make_catalog({DEN: [near.endpoint], FRA: [far.endpoint]})
        node = await enter(
            ProxyRig(
                catalog, make_topology({DEN: None, FRA: None}), region=FRA, contexts=node_contexts
            )
        )
        reached = Endpoint("127.0.0.1", node.forward_port, "fra.onetrip", protocol)
        topology = make_topology({DEN: None, FRA: reached})
        edge = await enter(ProxyRig(catalog, topology, contexts=edge_contexts))
        edge.server.snapshot = TO_FRA
        yield edge, node, far, near


def mark(region=DEN) -> bytes:
    value = HopSigner(SECRET, MonotonicClock()).make(region, Arm.PLACED)
    return GET[:-2] + b"onetrip-hop: " + value + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def node_client(rig, context):
    """Open a raw connection to the listener for nodes."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.forward_port, ssl=context, server_hostname="fra.onetrip"
    )
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


class TestForwarding:
    async def test_request_is_forwarded_over_tls_and_the_connection_kept(self, authority):
        parts = two_nodes(contexts(authority, "den"), contexts(authority, "fra"))
        async with parts as (edge, node, far, _):
            for _ in range(3):
                response = await edge.ask(GET)
                assert response.status == 200
                assert response.header("onetrip-placement") == ["remote-fra"]
            assert len(far.connections) == 1
            assert [line["region"] for line in node.lines] == [FRA] * 3
            assert node.server.connections == 1
            assert node.refusals == edge.refusals == []

    async def test_edge_does_not_take_another_nodes_certificate(self, authority):
        parts = two_nodes(contexts(authority, "den"), contexts(authority, "bom"))
        async with parts as (edge, node, far, near):
            response = await edge.ask(GET)
            assert (response.status, len(near.connections)) == (200, 1)
            assert not far.connections
            await eventually(lambda: bool(node.refusals))

    async def test_node_of_another_authority_is_refused(self, authority, stranger):
        wrong = contexts(stranger, "den")
        wrong.client.load_verify_locations(authority.file)  # it trusts us, we do not trust it
        async with two_nodes(wrong, contexts(authority, "fra")) as (edge, node, far, near):
            # In TLS 1.3 the edge learns of it after its side of the handshake (RFC 8446 section
            # 4.4.2.4), when it cannot tell a refusal from a crash: that is for the probes.
            assert (await edge.ask(GET.replace(b"GET", b"POST"))).status == 502
            edge.down.add(Target(TargetKind.PEER, FRA))
            assert (await edge.ask(GET)).status == 200
            assert (len(far.connections), len(near.connections)) == (0, 1)
            address, reason, detail = node.refusals[0]
            assert (address, reason) == ("127.0.0.1", "certificate")
            assert detail
            assert node.refused("forward", "certificate") == 1

    async def test_certificate_of_another_region_cannot_forward_for_den(self, authority):
        parts = two_nodes(contexts(authority, "bom"), contexts(authority, "fra"))
        async with parts as (edge, node, far, near):
            response = await edge.ask(GET)
            assert (response.status, len(near.connections)) == (200, 1)
            assert not far.connections
            detail = "certificate for bom forwards for den"
            assert node.refusals == [("127.0.0.1", "region", detail)]

    async def test_contexts_are_swapped_without_dropping_a_connection(self, authority, stranger):
        parts = two_nodes(contexts(authority, "den"), contexts(authority, "fra"))
        async with parts as (edge, node, far, _):
            await edge.ask(GET)
            node.server.peer_contexts = contexts(stranger, "fra")
            await edge.ask(GET)
            assert (len(far.connections), len(node.lines)) == (1, 2)
            with pytest.raises(ssl.SSLError):
                async with node_client(node, contexts(authority, "den").client):
                    pass


class TestRefusals:
    @pytest.fixture
    async def node(self, authority):
        parts = two_nodes(contexts(authority, "den"), contexts(authority, "fra"))
        async with parts as (_, node, _, _):
            yield node

    async def test_plain_peer_is_closed_without_an_answer(self, node):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.forward_port)
        writer.write(mark())
        async with asyncio.timeout(BOUND):
            assert await reader.read() == b""
        writer.close()
        assert [reason for _, reason, _ in node.refusals] == ["plain"]

    async def test_peer_without_a_certificate_is_refused(self, node, authority):
        async with node_client(node, authority.client_context()) as client:
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                assert await client.rest() == b""
        await eventually(lambda: node.refused("forward", "certificate") == 1)

    async def test_old_tls_is_refused(self, node, authority):
        context = authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with node_client(node, context):
                pass

    async def test_mark_counts_nowhere_but_on_the_listener_for_nodes(self, node):
        response = await node.ask(mark())
        assert response.status == 503
        assert response.header("onetrip-refused") == ["not-ready"]
        assert [reason for _, reason, _ in node.refusals] == ["plain"]
        assert (await node.ask(GET)).status == 200

    async def test_request_without_a_mark_is_denied_there(self, node, authority):
        async with node_client(node, contexts(authority, "den").client) as client:
            await client.send(GET)
            assert (await client.response()).status == 403
            await client.send(mark(FRA))
            assert (await client.response()).status == 503
        assert [reason for _, reason, _ in node.refusals] == ["unmarked", "region"]

    async def test_ping_is_answered_over_tls(self, node, authority):
        async with node_client(node, contexts(authority, "den").client) as client:
            await client.send(PING)
            assert (await client.response()).status == 204


class TestHttp2:
    """Nodes that both offer HTTP/2 share a connection; nothing else changes."""

    OFFERS = ("h2", "http/1.1")

    @pytest.fixture
    def ours(self, authority):
        return contexts(authority, DEN, self.OFFERS)

    @pytest.mark.parametrize("theirs", [OFFERS, ("http/1.1",)], ids=["h2", "http1"])
    async def test_requests_pass_over_what_both_speak(self, authority, ours, theirs):
        nodes = two_nodes(ours, contexts(authority, FRA, theirs), HttpProtocol.AUTO)
        async with nodes as (edge, node, far, near):
            answers = await asyncio.gather(*(edge.ask(GET) for _ in range(20)))
            assert {answer.status for answer in answers} == {200}
            assert answers[0].header("onetrip-placement") == ["remote-fra"]
            assert far.count_requests() == 20
            assert not near.received
            assert {o.edge for o in node.observations} == {DEN}
            assert (node.server.connections == 1) is (theirs == self.OFFERS)

    async def test_only_a_peer_with_a_mark_is_served(self, authority, ours):
        node_contexts = contexts(authority, FRA, self.OFFERS)
        async with two_nodes(ours, node_contexts, HttpProtocol.AUTO) as (_, node, far, _):
            client = ours.forward
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", node.forward_port, ssl=client, server_hostname="fra.onetrip"
            )
            peer = Http2Client(reader, writer)
            await peer.start()
            assert (await peer.get()).status == 403
            value = HopSigner(SECRET, MonotonicClock()).make(FRA, Arm.PLACED).decode()
            answer = await peer.get(more=[("onetrip-hop", value)])
            assert answer.headers["onetrip-refused"] == "not-ready"
            value = HopSigner(SECRET, MonotonicClock()).make(DEN, Arm.PLACED).decode()
            assert (await peer.get(more=[("onetrip-hop", value)])).status == 200
            assert far.count_requests() == 1
            writer.close()

    async def test_clients_that_leave_do_not_use_up_the_nodes_allowance(self, authority, ours):
        async def handle(connection):
            while head := await connection.read_request():
                if b"/slow" in head:
                    await asyncio.sleep(60)
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        nodes = two_nodes(ours, contexts(authority, FRA, self.OFFERS), HttpProtocol.AUTO, handle)
        async with nodes as (edge, node, _, _):
            slow = GET.replace(b"/a", b"/slow")
            for _ in range(5):
                left = []
                for _ in range(60):
                    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
                    writer.write(slow)
                    left.append(writer)
                before = len(edge.lines)
                await asyncio.sleep(0.05)
                for writer in left:
                    reset(writer)
                await eventually(lambda n=before: len(edge.lines) >= n + 60)
            assert (await edge.ask(GET)).status == 200
            name = "onetrip_proxy_http2_errors_total"
            labels = {"code": "enhance_your_calm"}
            assert node.metrics.registry.get_sample_value(name, labels) is None


def reset(writer) -> None:
    """Close a client's connection with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
