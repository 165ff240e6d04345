"""Traces through real proxies: kept, begun, continued over two nodes, and in the access log."""

from __future__ import annotations

import re

import pytest

from onetrip.model.placement import Placement, PlacementSnapshot, Status
from support.fake_upstream import FakeUpstream
from support.proxy_rig import DEN, FRA, SHOP, ProxyRig, make_catalog, make_topology, one_region

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"00-" + TRACE + b"-b7ad6b7169203331-01"
SEEN = re.compile(rb"\r\ntraceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\r\n")


def ask(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET /a HTTP/1.1", b"Host: shop.test", *lines, b"", b""])


async def forwarded(*lines: bytes, count: int = 1):
    """Return what reaches the application of `count` equal requests, and the access lines."""
    async with FakeUpstream() as upstream, one_region(upstream.endpoint) as rig:
        async with rig.client() as client:
            for _ in range(count):
                await client.send(ask(*lines))
                assert (await client.response()).status == 200
        return upstream.connections[0].received, rig.lines


async def test_trace_is_kept_with_a_span_of_our_own():
    seen, lines = await forwarded(
        b"traceparent: " + PARENT, b"tracestate: rojo=1", b"TraceState: b=2"
    )
    [(trace, span, flags)] = SEEN.findall(seen)
    assert (trace, flags) == (TRACE, b"01")
    assert span not in (b"b7ad6b7169203331", b"0" * 16)
    assert re.findall(rb"(?i)\r\ntracestate: ([^\r]*)", seen) == [b"rojo=1,b=2"]
    assert lines[0]["trace_id"] == TRACE.decode()


async def test_equal_requests_get_spans_of_their_own():
    seen, _ = await forwarded(b"traceparent: " + PARENT, count=3)
    found = SEEN.findall(seen)
    assert {trace for trace, _, _ in found} == {TRACE}
    assert len({span for _, span, _ in found}) == 3


async def test_trace_begins_here_unsampled():
    seen, lines = await forwarded(count=2)
    found = SEEN.findall(seen)
    assert [flags for _, _, flags in found] == [b"00", b"00"]
    assert found[0][0] != found[1][0]
    assert [line["trace_id"].encode() for line in lines] == [trace for trace, _, _ in found]


@pytest.mark.parametrize(
    "lines",
    [
        [b"traceparent: 00-" + TRACE + b"-0000000000000000-01"],
        [b"traceparent: " + PARENT, b"TraceParent: " + PARENT],
        [],
    ],
    ids=["invalid", "twice", "missing"],
)
async def test_malformed_trace_is_replaced_and_its_state_dropped(lines):
    seen, _ = await forwarded(*lines, b"tracestate: rojo=1")
    [(trace, _, flags)] = SEEN.findall(seen)
    assert trace != TRACE
    assert flags == b"00"
    assert b"tracestate" not in seen.lower()


async def test_both_nodes_of_a_forwarded_request_are_in_its_trace():
    async with FakeUpstream() as upstream:
        catalog = make_catalog({FRA: [upstream.endpoint]})
        async with ProxyRig(catalog, make_topology({FRA: None}), region=FRA) as node:
            topology = make_topology({DEN: None, FRA: node.endpoint})
            async with ProxyRig(catalog, topology) as edge:
                placement = Placement(Status.PLACED, (FRA,), FRA)
                edge.server.snapshot = PlacementSnapshot(DEN, 1, {}, {SHOP: placement})
                assert (await edge.ask(ask())).status == 200
                [(trace, _, _)] = SEEN.findall(upstream.connections[0].received)
                assert edge.lines[0]["trace_id"] == node.lines[0]["trace_id"] == trace.decode()
