"""Retries, failover and hops: two real proxies, two regions, and what may be sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from onetrip.model.catalog import Forwarding, Policy, RouteRule
from onetrip.model.measure import Arm, Target, TargetKind
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.topology import Endpoint
from onetrip.proxy import downstream, turns
from onetrip.proxy.hop import HopSigner
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import MonotonicClock
from support.fake_upstream import OK, FakeUpstream, always
from support.proxy_rig import (
    DEN,
    FRA,
    SECRET,
    SHOP,
    ProxyRig,
    make_catalog,
    make_topology,
    one_region,
)
from support.waits import eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello"
DEAD = Endpoint("127.0.0.1", 1)


def placed(region, default=DEN, **options) -> PlacementSnapshot:
    others = tuple(r for r in (DEN, FRA) if r != region)
    placement = Placement(Status.PLACED, (region, *others), default, **options)
    return PlacementSnapshot(DEN, 1, {}, {SHOP: placement})


@contextlib.asynccontextmanager
async def two_regions(den, fra, *, policy=None, rules=(), settings=None, secret=SECRET):
    """Yield (edge in den, node in fra); both know instances `den` and `fra`."""
    instances = {r: e for r, e in ((DEN, den), (FRA, fra)) if e}
    catalog = make_catalog(instances, policy=policy, rules=rules)
    nowhere = make_topology({DEN: None, FRA: None})
    node = ProxyRig(catalog, nowhere, region=FRA, settings=settings, secret=secret)
    async with node:
        topology = make_topology({DEN: None, FRA: node.endpoint})
        async with ProxyRig(catalog, topology, settings=settings, secret=secret) as edge:
            yield edge, node


async def die(connection):
    """Take a request and reset its connection instead of an answer."""
    await connection.read_request()
    connection.reset()


class TestRetries:
    @pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
    async def test_connect_failure_goes_to_another_instance(self, request_bytes):
        async with FakeUpstream() as upstream:
            catalog = make_catalog({DEN: [DEAD, upstream.endpoint]})
            async with ProxyRig(catalog, make_topology({DEN: None})) as rig:
                for _ in range(5):
                    response = await rig.ask(request_bytes)
                    assert response.status == 200
                assert max(line["attempts"] for line in rig.lines) == 2
                assert rig.metrics.retries._value.get() == 1

    async def stale_pool(self, handle_first):
        """Return an upstream whose first connection answers once and then `handle_first`."""
        state = {"connections": 0}

        async def handle(connection):
            state["connections"] += 1
            is_first = state["connections"] == 1
            while await connection.read_request():
                if is_first and len(connection.received.split(b"HTTP/1.1\r\n")) == 3:
                    await handle_first(connection)
                    return
                await connection.send(OK)

        return FakeUpstream(handle)

    async def test_kept_connection_that_died_is_replaced_for_an_idempotent_request(self):
        async def die(connection):
            connection.reset()

        upstream = await self.stale_pool(die)
        async with upstream, one_region(upstream.endpoint) as rig:
            assert (await rig.ask(GET)).status == 200
            assert (await rig.ask(GET)).status == 200
            assert [line["attempts"] for line in rig.lines] == [1, 2]
            assert upstream.count_requests() == 3

    async def test_put_with_a_small_body_is_sent_again_whole(self):
        async def die(connection):
            connection.reset()

        upstream = await self.stale_pool(die)
        async with upstream, one_region(upstream.endpoint) as rig:
            await rig.ask(GET)
            async with rig.client() as client:
                await client.send(POST.replace(b"POST", b"PUT") + GET)
                assert (await client.response()).status == 200
                assert (await client.response()).status == 200
            assert upstream.connections[1].received.count(b"\r\n\r\nhello") == 1

    async def test_post_is_never_sent_twice(self):
        async def die(connection):
            connection.reset()

        upstream = await self.stale_pool(die)
        async with upstream, one_region(upstream.endpoint) as rig:
            await rig.ask(GET)
            assert (await rig.ask(POST)).status == 502
            assert upstream.received.count(b"POST /a") == 1

    async def test_nothing_is_repeated_after_a_response_byte(self):
        async def die(connection):
            await connection.send(b"H")
            connection.reset()

        upstream = await self.stale_pool(die)
        async with upstream, one_region(upstream.endpoint) as rig:
            await rig.ask(GET)
            assert (await rig.ask(GET)).status == 502
            assert upstream.count_requests() == 2

    @pytest.mark.parametrize(
        ("request_bytes", "status"), [(GET, 200), (POST, 502)], ids=["GET", "POST"]
    )
    async def test_instance_that_dies_with_a_request_costs_only_what_may_not_be_repeated(
        self, request_bytes, status
    ):
        async with FakeUpstream(die) as dying, FakeUpstream() as living:
            catalog = make_catalog({DEN: [dying.endpoint, living.endpoint]})
            async with ProxyRig(catalog, make_topology({DEN: None})) as rig:
                statuses = [(await rig.ask(request_bytes)).status for _ in range(8)]
                failed = len(dying.connections) if status != 200 else 0
                assert statuses.count(status) == (failed or 8)
                assert len(dying.connections) > 0

    async def test_alone_an_instance_that_dies_with_a_request_is_not_asked_again(self):
        async with FakeUpstream(die) as upstream, one_region(upstream.endpoint) as rig:
            assert (await rig.ask(GET)).status == 502
            assert upstream.count_requests() == 1

    async def test_attempts_are_bounded(self):
        dead = [Endpoint("127.0.0.1", port) for port in range(1, 8)]
        async with ProxyRig(make_catalog({DEN: dead}), make_topology({DEN: None})) as rig:
            assert (await rig.ask(GET)).status == 502
            assert rig.lines[0]["attempts"] == 3

    async def test_budget_stops_retries_of_an_outage(self):
        settings = ProxySettings(retry_ratio=0.0, retry_reserve=2, fail_time=0)
        dead = [Endpoint("127.0.0.1", port) for port in (1, 2)]
        rig = ProxyRig(make_catalog({DEN: dead}), make_topology({DEN: None}), settings=settings)
        async with rig:
            for _ in range(5):
                assert (await rig.ask(GET)).status == 502
            assert sum(line["attempts"] for line in rig.lines) == 5 + 2


class TestPlacement:
    async def test_placed_request_runs_in_the_other_region_through_its_node(self):
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, node),
        ):
            edge.server.snapshot = placed(FRA)
            response = await edge.ask(GET)
            assert response.header("onetrip-placement") == ["remote-fra"]
            assert (den.count_requests(), fra.count_requests()) == (0, 1)
            assert b"onetrip-hop" not in fra.received
            assert b"X-Forwarded-For: 127.0.0.1\r\n" in fra.received
            assert fra.received.count(b"X-Forwarded-For") == 1
            (at_edge,), (at_node,) = edge.observations, node.observations
            assert (at_edge.edge, at_edge.region, at_edge.arm) == (DEN, FRA, Arm.PLACED)
            assert (at_node.edge, at_node.region, at_node.arm) == (DEN, FRA, Arm.PLACED)
            assert at_edge.latency > 0
            assert (at_edge.service, at_node.latency) == (None, None)
            assert 0 < at_node.service <= at_edge.latency
            assert edge.lines[0]["request_id"] == node.lines[0]["request_id"]

    async def test_direct_forwarding_skips_the_node(self):
        policy = Policy(forwarding=Forwarding.DIRECT)
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint], policy=policy) as (edge, node),
        ):
            edge.server.snapshot = placed(FRA)
            response = await edge.ask(GET)
            assert response.header("onetrip-placement") == ["remote-fra"]
            assert node.lines == []
            assert edge.observations[0].service is None

    async def test_without_a_secret_regions_are_reached_directly(self):
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint], secret=None) as (edge, node),
        ):
            edge.server.snapshot = placed(FRA)
            assert (await edge.ask(GET)).status == 200
            assert (fra.count_requests(), node.lines) == (1, [])

    async def test_control_group_stays_at_the_default(self):
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, _),
        ):
            edge.server.snapshot = placed(FRA, control_ratio=0.5)
            for _ in range(40):
                await edge.ask(GET)
            arms = [o.arm for o in edge.observations]
            assert {o.region for o in edge.observations if o.arm is Arm.CONTROL} == {DEN}
            assert 5 < arms.count(Arm.CONTROL) < 35
            assert arms.count(Arm.PLACED) == 40 - arms.count(Arm.CONTROL)

    async def test_local_rule_never_leaves_the_edge(self):
        rules = (RouteRule("/static/**", is_local=True),)
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint], rules=rules) as (edge, _),
        ):
            edge.server.snapshot = placed(FRA)
            await edge.ask(GET.replace(b"/a", b"/static/logo.png"))
            await edge.ask(GET.replace(b"/a", b"/static/..%2fapi"))
            assert (den.count_requests(), fra.count_requests()) == (1, 1)

    async def test_snapshot_and_catalog_are_swapped_live(self):
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, _),
            edge.client() as client,
        ):
            wheres = []
            for region in (DEN, FRA, DEN):
                edge.server.snapshot = placed(region)
                await client.send(GET)
                wheres += (await client.response()).header("onetrip-placement")
            assert wheres == ["local-den", "remote-fra", "local-den"]
            edge.server.update(make_catalog({}, hosts=("new.test",)), edge.server.topology)
            await client.send(GET)
            assert (await client.response()).status == 404


class TestFailover:
    @pytest.mark.parametrize(
        ("request_bytes", "status"), [(GET, 200), (POST, 502)], ids=["GET", "POST"]
    )
    async def test_node_that_dies_with_a_request_costs_only_what_may_not_be_repeated(
        self, request_bytes, status
    ):
        async with FakeUpstream() as den, FakeUpstream(die) as node:
            catalog = make_catalog({DEN: [den.endpoint], FRA: [den.endpoint]})
            async with ProxyRig(catalog, make_topology({DEN: None, FRA: node.endpoint})) as edge:
                edge.server.snapshot = placed(FRA)
                assert (await edge.ask(request_bytes)).status == status
                assert node.count_requests() == 1
                assert den.count_requests() == (status == 200)

    @pytest.mark.parametrize(
        ("request_bytes", "status"), [(GET, 200), (POST, 502)], ids=["GET", "POST"]
    )
    async def test_peers_instance_that_dies_with_a_request_moves_what_may_be_repeated(
        self, request_bytes, status
    ):
        async with (
            FakeUpstream() as den,
            FakeUpstream(die) as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, node),
        ):
            edge.server.snapshot = placed(FRA)
            assert (await edge.ask(request_bytes)).status == status
            assert node.lines[0]["error"] == "reset"
            assert fra.count_requests() == 1
            assert den.count_requests() == (status == 200)

    async def test_dead_peer_fails_over_to_the_next_region(self):
        async with FakeUpstream() as den, FakeUpstream() as fra:
            catalog = make_catalog({DEN: [den.endpoint], FRA: [fra.endpoint]})
            async with ProxyRig(catalog, make_topology({DEN: None, FRA: DEAD})) as edge:
                edge.server.snapshot = placed(FRA)
                for _ in range(3):
                    response = await edge.ask(POST)
                    assert response.header("onetrip-placement") == ["local-den"]
                assert {o.arm for o in edge.observations} == {Arm.FAILOVER}
                assert [line["attempts"] for line in edge.lines] == [2, 1, 1]

    async def test_peer_that_probes_call_down_is_not_tried(self):
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, node),
        ):
            edge.server.snapshot = placed(FRA)
            edge.down.add(Target(TargetKind.PEER, "fra"))
            assert (await edge.ask(GET)).header("onetrip-placement") == ["local-den"]
            assert (node.lines, edge.observations[0].arm) == ([], Arm.FAILOVER)

    @pytest.mark.parametrize("body", [b"", b"hello"], ids=["GET", "PUT"])
    async def test_node_that_hangs_is_given_up_once_probes_call_it_down(self, body, monkeypatch):
        monkeypatch.setattr(turns, "LOOK_AFTER", 0.05)
        monkeypatch.setattr(downstream, "LOOK_AFTER", 0.05)
        request = POST.replace(b"POST", b"PUT") if body else GET
        async with (
            FakeUpstream() as den,
            FakeUpstream(lambda connection: connection.read_to_end()) as node,
        ):
            catalog = make_catalog({DEN: [den.endpoint], FRA: [den.endpoint]})
            async with ProxyRig(catalog, make_topology({DEN: None, FRA: node.endpoint})) as edge:
                edge.server.snapshot = placed(FRA)
                asking = asyncio.create_task(edge.ask(request))
                await eventually(lambda: node.received.endswith(request[-4:]))
                await asyncio.sleep(0.5)
                assert not asking.done()  # slow is not down
                edge.down.add(Target(TargetKind.PEER, FRA))
                assert (await asking).header("onetrip-placement") == ["local-den"]
                assert edge.lines[0]["attempts"] == 2

    @pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
    async def test_refusal_of_a_peer_moves_any_request(self, request_bytes):
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, node),
        ):
            edge.server.snapshot = placed(FRA)
            node.down.add(Target(TargetKind.INSTANCE, str(fra.endpoint)))
            response = await edge.ask(request_bytes)
            assert response.status == 200
            assert response.header("onetrip-placement") == ["local-den"]
            assert den.received.endswith(request_bytes[-4:])
            assert (fra.connections, node.lines[0]["status"]) == ([], 503)
            await edge.ask(request_bytes)
            assert len(node.lines) == 1  # left alone for a moment

    async def test_peer_whose_instances_refuse_connections_counts_as_refused(self):
        async with (
            FakeUpstream() as den,
            two_regions([den.endpoint], [DEAD]) as (edge, node),
        ):
            edge.server.snapshot = placed(FRA)
            assert (await edge.ask(POST)).status == 200
            assert node.lines[0]["error"] == "connect"

    async def test_forbidden_region_is_never_used(self):
        policy = Policy(deny=frozenset((FRA,)))
        async with (
            FakeUpstream() as fra,
            two_regions([DEAD], [fra.endpoint], policy=policy) as (edge, _),
        ):
            edge.server.snapshot = placed(FRA)
            assert (await edge.ask(GET)).status == 502
            assert fra.connections == []

    async def test_cold_start_uses_any_permitted_region(self):
        async with (
            FakeUpstream() as fra,
            two_regions([], [fra.endpoint]) as (edge, _),
        ):
            response = await edge.ask(GET)
            assert response.header("onetrip-placement") == ["remote-fra"]
            assert edge.observations[0].arm is Arm.DEFAULT

    async def test_peer_that_fails_for_other_reasons_is_relayed(self):
        busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        async with (
            FakeUpstream() as den,
            FakeUpstream(always(busy)) as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, _),
        ):
            edge.server.snapshot = placed(FRA)
            assert (await edge.ask(GET)).status == 503
            assert den.connections == []


class TestHops:
    async def test_forged_hop_is_ignored_and_not_passed_on(self):
        forged = HopSigner(b"wrong", MonotonicClock()).make(FRA, Arm.PLACED)
        async with (
            FakeUpstream() as den,
            FakeUpstream() as fra,
            two_regions([den.endpoint], [fra.endpoint]) as (edge, _),
        ):
            edge.server.snapshot = placed(FRA)
            for value in (forged, b"v1;edge=fra", b""):
                mark = b"onetrip-hop: " + value + b"\r\nX-Forwarded-For: 6.6.6.6\r\n"
                await edge.ask(GET[:-2] + mark + b"\r\n")
            assert (den.count_requests(), fra.count_requests()) == (0, 3)
            assert b"onetrip-hop" not in fra.received
            assert b"6.6.6.6" not in fra.received
            assert {o.edge for o in edge.observations} == {DEN}

    async def test_hopped_request_is_never_forwarded_again(self):
        mark = b"onetrip-hop: " + HopSigner(SECRET, MonotonicClock()).make(FRA, Arm.PLACED)
        async with (
            FakeUpstream() as fra,
            two_regions([], [fra.endpoint]) as (edge, _),
        ):
            edge.server.snapshot = placed(FRA)
            response = await edge.ask(GET[:-2] + mark + b"\r\n\r\n")
            assert response.status == 503
            assert response.header("onetrip-refused") == ["not-ready"]
            assert json.loads(response.body)["error"]["kind"] == "unavailable"
            assert fra.connections == []

    async def test_refusal_is_told_to_peers_only(self):
        async with two_regions([DEAD], []) as (edge, _):
            response = await edge.ask(GET)
            assert (response.status, response.header("onetrip-refused")) == (502, [])

    async def test_refused_stream_that_was_read_too_far_is_not_moved(self):
        body = b"x" * 300_000
        data = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 300000\r\n\r\n" + body

        async def refuse(connection):
            await connection.read_request()
            await connection.send(
                b"HTTP/1.1 503 No\r\nonetrip-refused: not-ready\r\nContent-Length: 0\r\n\r\n"
            )

        async with FakeUpstream() as den, FakeUpstream(refuse) as peer:
            catalog = make_catalog({DEN: [den.endpoint], FRA: [DEAD]})
            topology = make_topology({DEN: None, FRA: peer.endpoint})
            async with ProxyRig(catalog, topology) as edge:
                edge.server.snapshot = placed(FRA)
                assert (await edge.ask(data)).status == 503
                assert den.connections == []


class TestDrain:
    async def test_drain_finishes_requests_and_closes_idle_connections(self):
        go = asyncio.Event()

        async def slow(connection):
            while await connection.read_request():
                await go.wait()
                await connection.send(OK)

        async with (
            FakeUpstream(slow) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as busy,
            rig.client() as idle,
        ):
            await busy.send(GET)
            await eventually(lambda: upstream.count_requests() == 1)
            drain = asyncio.ensure_future(rig.server.drain(3.0))
            assert await idle.is_closed()
            with pytest.raises(OSError, match=r"refused|failed"):
                await asyncio.open_connection("127.0.0.1", rig.port)
            assert not drain.done()
            go.set()
            response = await busy.response()
            assert (response.body, response.header("Connection")) == (b"ok", ["close"])
            busy.writer.close()
            await drain
            assert rig.server.connections == 0

    async def test_drain_gives_up_at_its_timeout_and_stop_ends_the_rest(self):
        async with (
            FakeUpstream(lambda connection: connection.read_to_end()) as upstream,
            one_region(upstream.endpoint) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            await eventually(lambda: upstream.count_requests() == 1)
            await rig.server.drain(0.1)
            assert rig.server.connections == 1
            await rig.server.stop()
            assert await client.is_closed()
            await eventually(lambda: rig.server.connections == 0)
