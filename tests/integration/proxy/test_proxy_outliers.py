"""Instances that fail are ejected, and requests go where they are served."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from onetrip.model.measure import Arm
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.topology import Endpoint
from onetrip.proxy.ejection import EjectionSettings, Reason
from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import FakeUpstream, always
from support.proxy_rig import DEN, FRA, SHOP, ProxyRig, make_catalog, make_topology, one_region
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"
LONG = ProxySettings(read_timeout=0.1, ejection=EjectionSettings(base_time=600, max_time=600))
BRIEF = ProxySettings(
    pool_idle_timeout=0.1,  # quick sweeps
    slow_start=0,
    ejection=EjectionSettings(base_time=0.1, max_time=0.1),
)


def two_here(one: FakeUpstream, two: FakeUpstream, settings: ProxySettings = LONG) -> ProxyRig:
    """Return a rig with two instances in one region."""
    catalog = make_catalog({DEN: [one.endpoint, two.endpoint]})
    return ProxyRig(catalog, make_topology({DEN: None}), settings=settings)


async def reset(connection):
    await connection.read_request()
    connection.reset()


async def stall(connection):
    await connection.read_to_end()


async def cut(connection):
    await connection.read_request()
    await connection.send(CUT)


async def try_ask(rig: ProxyRig) -> bytes:
    """Ask for what may come back cut off; the bytes that came."""
    async with rig.client() as client:
        await client.send(GET[:-2] + b"Connection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            return await client.rest()
    return b""


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (always(BROKEN), Reason.ERRORS),
        (reset, Reason.GATEWAY_ERRORS),
        (stall, Reason.GATEWAY_ERRORS),
        (cut, Reason.GATEWAY_ERRORS),
    ],
    ids=["500", "reset", "stall", "cut off"],
)
async def test_failing_instance_is_left_out(handler, reason):
    async with (
        FakeUpstream(handler) as bad,
        FakeUpstream() as good,
        two_here(bad, good) as rig,
    ):
        async with asyncio.timeout(BOUND):
            while not rig.verdicts:
                await asyncio.gather(*(try_ask(rig) for _ in range(4)))
        (verdict,) = rig.verdicts
        assert (verdict.instance, verdict.reason) == (str(bad.endpoint), reason)
        seen = bad.count_requests()
        for _ in range(12):
            assert (await rig.ask(GET)).status == 200
        assert bad.count_requests() == seen
        name = "onetrip_proxy_ejections_total"
        assert rig.metrics.registry.get_sample_value(name, {"reason": reason.value}) == 1
        assert rig.metrics.registry.get_sample_value("onetrip_proxy_ejected_instances") == 1


async def test_instance_that_refuses_connections_is_left_out():
    settings = ProxySettings(fail_time=0, ejection=LONG.ejection)
    async with FakeUpstream() as good:
        catalog = make_catalog({DEN: [Endpoint("127.0.0.1", 1), good.endpoint]})
        async with ProxyRig(catalog, make_topology({DEN: None}), settings=settings) as rig:
            while not rig.verdicts:
                assert (await rig.ask(GET)).status == 200
            assert [v.reason for v in rig.verdicts] == [Reason.CONNECT_ERRORS]
            assert rig.metrics.retries._value.get() == 3
            for _ in range(8):
                assert (await rig.ask(GET)).status == 200
            assert rig.metrics.retries._value.get() == 3


async def test_instance_returns_and_serves_again():
    state = {"is_broken": True}

    async def handle(connection):
        while await connection.read_request():
            await connection.send(BROKEN if state["is_broken"] else CUT.replace(b"100", b"5"))

    async with (
        FakeUpstream(handle) as bad,
        FakeUpstream() as good,
        two_here(bad, good, BRIEF) as rig,
    ):
        while not rig.verdicts:
            await rig.ask(GET)
        state["is_broken"] = False
        await eventually(lambda: len(rig.verdicts) >= 2)
        assert [v.is_ejected for v in rig.verdicts[:2]] == [True, False]
        seen = bad.count_requests()
        async with asyncio.timeout(BOUND):
            while bad.count_requests() == seen:
                assert (await rig.ask(GET)).status == 200


async def test_the_only_instance_of_everything_keeps_its_requests():
    async with FakeUpstream(always(BROKEN)) as bad, one_region(bad.endpoint, settings=LONG) as rig:
        for _ in range(12):
            assert (await rig.ask(GET)).status == 500
        assert rig.verdicts == []


async def test_answers_that_are_not_the_instance_s_fault_eject_nobody():
    settings = ProxySettings(pool_connections=1, pool_queue=0, ejection=LONG.ejection)
    gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    async with (
        FakeUpstream(always(gone)) as one,
        FakeUpstream(always(gone)) as two,
        two_here(one, two, settings) as rig,
    ):
        answers = await asyncio.gather(*(rig.ask(GET) for _ in range(40)))
        assert {a.status for a in answers} <= {404, 503}
        assert rig.verdicts == []


async def test_region_with_only_ejected_instances_fails_over_to_the_next_one():
    async with FakeUpstream(always(BROKEN)) as den, FakeUpstream() as fra:
        catalog = make_catalog({DEN: [den.endpoint], FRA: [fra.endpoint]})
        nowhere = make_topology({DEN: None, FRA: None})
        async with ProxyRig(catalog, nowhere, region=FRA, settings=LONG) as node:
            topology = make_topology({DEN: None, FRA: node.endpoint})
            async with ProxyRig(catalog, topology, settings=LONG) as edge:
                at_home = Placement(Status.AT_EDGE, (DEN, FRA), DEN)
                edge.server.snapshot = PlacementSnapshot(DEN, 1, {}, {SHOP: at_home})
                statuses = [(await edge.ask(GET)).status for _ in range(8)]
                assert statuses == [500] * 5 + [200] * 3
                assert edge.lines[-1]["arm"] == Arm.FAILOVER.value
                assert edge.lines[-1]["region"] == "fra"
                assert [v.instance for v in edge.verdicts] == [str(den.endpoint)]


async def test_edge_whose_peer_ejected_its_instances_goes_elsewhere():
    async with FakeUpstream() as den, FakeUpstream(always(BROKEN)) as fra:
        catalog = make_catalog({DEN: [den.endpoint], FRA: [fra.endpoint]})
        nowhere = make_topology({DEN: None, FRA: None})
        async with ProxyRig(catalog, nowhere, region=FRA, settings=LONG) as node:
            topology = make_topology({DEN: None, FRA: node.endpoint})
            async with ProxyRig(catalog, topology, settings=LONG) as edge:
                away = Placement(Status.PLACED, (FRA, DEN), DEN)
                edge.server.snapshot = PlacementSnapshot(DEN, 1, {}, {SHOP: away})
                statuses = [(await edge.ask(GET)).status for _ in range(8)]
                assert statuses == [500] * 5 + [200] * 3
                assert [v.instance for v in node.verdicts] == [str(fra.endpoint)]
                assert edge.verdicts == []
                assert edge.lines[-1]["region"] == "den"
