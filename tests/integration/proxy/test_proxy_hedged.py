"""A request that takes too long is sent a second time: who wins, who is given up, and how often."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from onetrip.model.catalog import Hedge
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.topology import Endpoint
from onetrip.net.dial import TcpDialer
from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import OK, FakeUpstream, always
from support.proxy_rig import DEN, FRA, SHOP, ProxyRig, make_catalog, make_topology
from support.waits import eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello"
SOON = Hedge(after=0.03, max_ratio=1.0)
LATE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"
AT_HOME = PlacementSnapshot(DEN, 1, {}, {SHOP: Placement(Status.AT_EDGE, (DEN, FRA), DEN)})
SETTINGS = ProxySettings(retry_reserve=1000, half_close_timeout=0.2, read_timeout=5)


class Slow:
    """An upstream that answers when the test says so.

    Attributes:
        ended: connections of it that the proxy has ended.
    """

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.ended = 0

    async def __call__(self, connection) -> None:
        try:
            while await connection.read_request():
                waiting = asyncio.ensure_future(self.may_answer.wait())
                leaving = asyncio.ensure_future(connection.read_to_end())
                try:
                    await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
                    if leaving.done():
                        return
                finally:
                    waiting.cancel()
                    leaving.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await leaving
                await connection.send(LATE)
        finally:
            self.ended += 1


@contextlib.asynccontextmanager
async def two_regions(first, second, *, hedge=SOON, settings=SETTINGS):
    """Yield (rig, upstream here, upstream of the next region); requests begin here."""
    async with FakeUpstream(first) as den, FakeUpstream(second) as fra:
        catalog = make_catalog({DEN: [den.endpoint], FRA: [fra.endpoint]}, hedge=hedge)
        topology = make_topology({DEN: None, FRA: None})
        async with ProxyRig(catalog, topology, settings=settings) as rig:
            rig.server.snapshot = AT_HOME
            yield rig, den, fra


def hedges(rig: ProxyRig, outcome: str) -> float:
    name = "onetrip_proxy_hedges_total"
    return rig.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


def idle(rig: ProxyRig) -> bool:
    """Tell whether no endpoint counts a request in progress."""
    return all(p.outstanding == 0 for p in rig.server._pool._pools.values())


async def test_second_attempt_wins_and_the_first_is_given_up():
    slow = Slow()
    async with two_regions(slow, always(OK)) as (rig, den, fra):
        for number in range(1, 4):
            response = await rig.ask(GET)
            assert (response.status, response.body) == (200, b"ok")
            await eventually(lambda: slow.ended == number)  # noqa: B023
        assert response.header("onetrip-placement") == ["remote-fra"]
        assert (den.count_requests(), fra.count_requests()) == (3, 3)
        assert hedges(rig, "won") == 3
        line = rig.lines[-1]
        assert (line["region"], line["attempts"], line["error"]) == ("fra", 2, None)
        assert idle(rig)
        assert len(fra.connections) == 1, "the winner's connection is kept"


async def test_client_connection_goes_on_after_a_hedge():
    slow = Slow()
    async with two_regions(slow, always(OK)) as (rig, _, fra), rig.client() as client:
        for _ in range(3):
            await client.send(GET)
            assert (await client.response()).body == b"ok"
        assert fra.count_requests() == 3
        assert rig.server.connections == 1


async def test_first_attempt_wins_and_the_second_is_given_up():
    first, second = Slow(), Slow()
    async with two_regions(first, second) as (rig, den, fra), rig.client() as client:
        await client.send(GET)
        await eventually(lambda: fra.count_requests() == 1)
        first.may_answer.set()
        assert (await client.response()).body == b"late"
        await eventually(lambda: second.ended == 1)
        assert hedges(rig, "lost") == 1
        assert rig.lines[-1]["region"] == "den"
        assert idle(rig)
        await client.send(GET)
        assert (await client.response()).body == b"late"
        assert len(den.connections) == 1, "the winner's connection is kept"


async def test_quick_answers_are_not_hedged():
    async with two_regions(always(OK), always(OK), hedge=Hedge(after=5.0)) as (rig, _, fra):
        for _ in range(5):
            assert (await rig.ask(GET)).status == 200
        assert fra.count_requests() == 0


@pytest.mark.parametrize(
    "request_bytes",
    [POST, POST.replace(b"POST", b"GET"), GET.replace(b"GET", b"DELETE")],
    ids=["POST", "GET with a body", "DELETE"],
)
async def test_only_safe_requests_without_a_body_are_hedged(request_bytes):
    slow = Slow()
    async with two_regions(slow, always(OK)) as (rig, den, fra), rig.client() as client:
        await client.send(request_bytes)
        await eventually(lambda: den.count_requests() == 1)
        await asyncio.sleep(0.1)
        slow.may_answer.set()
        assert (await client.response()).body == b"late"
        assert fra.count_requests() == 0


async def test_another_instance_of_the_region_comes_first():
    slow = Slow()
    async with FakeUpstream(slow) as one, FakeUpstream() as two, FakeUpstream() as far:
        catalog = make_catalog({DEN: [one.endpoint, two.endpoint], FRA: [far.endpoint]}, hedge=SOON)
        topology = make_topology({DEN: None, FRA: None})
        async with ProxyRig(catalog, topology, settings=SETTINGS) as rig:
            rig.server.snapshot = AT_HOME
            while one.count_requests() == 0:
                assert (await rig.ask(GET)).body == b"ok"
            assert far.count_requests() == 0
            assert hedges(rig, "won") == 1


async def test_a_failing_second_attempt_does_not_hurt():
    slow = Slow()
    broken = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    async with two_regions(slow, always(broken)) as (rig, _, fra), rig.client() as client:
        await client.send(GET)
        await eventually(lambda: fra.count_requests() == 1)
        await eventually(lambda: rig.server._pool.at(fra.endpoint).outstanding == 0)
        slow.may_answer.set()
        assert (await client.response()).body == b"late"
        assert hedges(rig, "failed") == 1
        assert idle(rig)


async def test_second_attempt_saves_a_first_one_that_fails():
    second = Slow()
    release = asyncio.Event()

    async def fail_later(connection):
        await connection.read_request()
        await release.wait()
        connection.reset()

    async with two_regions(fail_later, second) as (rig, _, fra), rig.client() as client:
        await client.send(GET)
        await eventually(lambda: fra.count_requests() == 1)
        release.set()
        await asyncio.sleep(0.05)
        second.may_answer.set()
        assert (await client.response()).body == b"late"
        assert hedges(rig, "won") == 1


async def test_both_fail_and_the_client_hears_of_the_first():
    release = asyncio.Event()

    async def fail_later(connection):
        await connection.read_request()
        await release.wait()
        connection.reset()

    async with two_regions(fail_later, fail_later) as (rig, _, fra), rig.client() as client:
        await client.send(GET)
        await eventually(lambda: fra.count_requests() == 1)
        release.set()
        assert (await client.response()).status == 502
        assert hedges(rig, "won") == 0
        assert idle(rig)


async def test_client_that_leaves_ends_both_attempts():
    first, second = Slow(), Slow()
    async with two_regions(first, second) as (rig, _, fra):
        async with rig.client() as client:
            await client.send(GET)
            await eventually(lambda: fra.count_requests() == 1)
        await eventually(lambda: first.ended == second.ended == 1)
        await eventually(lambda: idle(rig))


async def test_nowhere_else_to_go_is_no_hedge():
    slow = Slow()
    async with FakeUpstream(slow) as only:
        catalog = make_catalog({DEN: [only.endpoint]}, hedge=SOON)
        async with (
            ProxyRig(catalog, make_topology({DEN: None}), settings=SETTINGS) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            await eventually(lambda: only.count_requests() == 1)
            await asyncio.sleep(0.1)
            slow.may_answer.set()
            assert (await client.response()).body == b"late"
            assert only.count_requests() == 1
            assert [hedges(rig, o) for o in ("won", "lost", "failed", "denied")] == [0] * 4


@pytest.mark.parametrize("bound", ["ratio", "retry budget"])
async def test_budgets_bound_the_second_attempts(bound):
    slow = Slow()
    hedge = Hedge(after=0.03, max_ratio=0.0001 if bound == "ratio" else 0.5)
    reserve = 1000 if bound == "ratio" else 1
    settings = ProxySettings(retry_ratio=0.0, retry_reserve=reserve)
    async with two_regions(slow, always(OK), hedge=hedge, settings=settings) as (rig, _, fra):
        asking = [asyncio.ensure_future(rig.ask(GET)) for _ in range(4)]
        await eventually(lambda: (hedges(rig, "denied"), hedges(rig, "won")) == (3, 1))
        slow.may_answer.set()
        bodies = sorted([(await each).body for each in asking])
        assert bodies == [b"late"] * 3 + [b"ok"]
        assert fra.count_requests() == 1


async def test_quantile_is_learned_from_the_route_itself():
    slow = Slow()
    state = {"is_slow": False}

    async def handle(connection):
        if state["is_slow"]:
            await slow(connection)
        else:
            await connection.read_request()
            await connection.send(OK.replace(b"OK", b"OK\r\nConnection: close"))

    async with two_regions(handle, always(OK), hedge=Hedge(max_ratio=0.5)) as (rig, _, fra):
        for _ in range(40):
            assert (await rig.ask(GET)).status == 200
        state["is_slow"] = True
        before = hedges(rig, "won")
        assert (await rig.ask(GET)).body == b"ok"
        assert hedges(rig, "won") == before + 1
        assert fra.count_requests() >= 1


async def test_slow_connect_does_not_hold_back_an_answer():
    """An address that swallows SYNs: the first attempt never gets a connection."""
    gate, real = asyncio.Event(), TcpDialer()

    async def dial(factory, host, port, *, timeout, tls_name=None):
        if port == 1:
            await gate.wait()
        return await real(factory, host, port, timeout=timeout, tls_name=tls_name)

    async with FakeUpstream() as fra:
        catalog = make_catalog({DEN: [Endpoint("127.0.0.1", 1)], FRA: [fra.endpoint]}, hedge=SOON)
        topology = make_topology({DEN: None, FRA: None})
        async with ProxyRig(catalog, topology, settings=SETTINGS, dial=dial) as rig:
            rig.server.snapshot = AT_HOME
            assert (await rig.ask(GET)).body == b"ok"
            assert hedges(rig, "won") == 1
            await eventually(lambda: idle(rig))
            assert rig.server._pool.opened() == 1
