"""Limits of an endpoint and of a request's time: each with its own kind, status and count."""

from __future__ import annotations

import asyncio
import json

import pytest

from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import OK, FakeUpstream, always
from support.proxy_rig import DEN, FRA, ProxyRig, Response, make_catalog, make_topology, one_region
from support.waits import eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000\r\n\r\n"


async def hang(connection):
    await connection.read_to_end()


def kind_of(response: Response) -> str:
    return json.loads(response.body)["error"]["kind"]


def overflows(rig: ProxyRig, limit: str) -> float:
    return (
        rig.metrics.registry.get_sample_value("onetrip_proxy_overflows_total", {"limit": limit})
        or 0.0
    )


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (ProxySettings(pool_connections=1, pool_queue=0), "connection_limit"),
        (ProxySettings(pool_connections=1, connect_timeout=0.1), "connection_limit"),
        (ProxySettings(pool_requests=1), "request_limit"),
    ],
    ids=["no queue", "no connection became free", "requests"],
)
async def test_request_over_a_limit_is_503_with_its_own_kind(settings, kind):
    async with (
        FakeUpstream(hang) as upstream,
        one_region(upstream.endpoint, settings=settings) as rig,
        rig.client() as first,
    ):
        await first.send(GET)
        await eventually(lambda: upstream.count_requests() == 1)
        response = await rig.ask(GET)
        assert (response.status, kind_of(response)) == (503, kind)
        assert response.header("Retry-After") == ["1"]
        assert overflows(rig, kind) == 1
        errors = {"side": "upstream", "kind": kind}
        name = "onetrip_proxy_errors_total"
        assert rig.metrics.registry.get_sample_value(name, errors) == 1


async def test_full_queue_has_a_kind_of_its_own():
    settings = ProxySettings(pool_connections=1, pool_queue=1)
    async with (
        FakeUpstream(hang) as upstream,
        one_region(upstream.endpoint, settings=settings) as rig,
        rig.client() as first,
        rig.client() as second,
    ):
        await first.send(GET)
        await eventually(lambda: upstream.count_requests() == 1)
        await second.send(GET)
        pool = rig.server._pool.at(upstream.endpoint)
        await eventually(lambda: pool.outstanding == 2)
        response = await rig.ask(GET)
        assert (response.status, kind_of(response)) == (503, "queue_limit")
        assert overflows(rig, "queue_limit") == 1


async def test_request_over_the_limit_runs_in_the_next_region():
    async with FakeUpstream(hang) as den, FakeUpstream() as fra:
        catalog = make_catalog({DEN: [den.endpoint], FRA: [fra.endpoint]})
        topology = make_topology({DEN: None, FRA: None})
        settings = ProxySettings(pool_requests=1)
        async with (
            ProxyRig(catalog, topology, settings=settings) as rig,
            rig.client() as first,
        ):
            await first.send(GET)
            await eventually(lambda: den.count_requests() == 1)
            response = await rig.ask(GET)
            assert (response.status, rig.lines[-1]["region"]) == (200, "fra")
            assert overflows(rig, "request_limit") == 0


async def test_too_many_clients_are_asked_to_come_back():
    settings = ProxySettings(max_connections=1)
    async with (
        FakeUpstream() as upstream,
        one_region(upstream.endpoint, settings=settings) as rig,
        rig.client() as first,
    ):
        await first.send(GET)
        await first.response()
        async with rig.client() as second:
            assert (await second.response()).header("Retry-After") == ["1"]


class TestDeadline:
    async def test_silent_application_is_504_at_the_deadline(self):
        async with (
            FakeUpstream(hang) as upstream,
            one_region(upstream.endpoint, request_timeout=0.2) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            response = await client.response()
            assert (response.status, kind_of(response)) == (504, "deadline")
            errors = {"side": "upstream", "kind": "deadline"}
            name = "onetrip_proxy_errors_total"
            assert rig.metrics.registry.get_sample_value(name, errors) == 1

    async def test_response_that_drips_is_cut_off_at_the_deadline(self):
        async def drip(connection):
            await connection.read_request()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                await connection.send(b"x")
                await asyncio.sleep(0.01)

        async with (
            FakeUpstream(drip) as upstream,
            one_region(upstream.endpoint, request_timeout=0.2) as rig,
            rig.client() as client,
        ):
            await client.send(GET)
            await client.head()
            await eventually(lambda: bool(rig.lines))
            assert rig.lines[0]["error"] == "deadline"

    async def test_client_that_does_not_send_its_body_is_408(self):
        async with (
            FakeUpstream(hang) as upstream,
            one_region(upstream.endpoint, request_timeout=0.2) as rig,
            rig.client() as client,
        ):
            await client.send(POST + b"some")
            response = await client.response()
            assert (response.status, kind_of(response)) == (408, "deadline")
            assert await client.is_closed()

    async def test_wait_for_a_connection_ends_at_the_deadline(self):
        settings = ProxySettings(pool_connections=1, connect_timeout=60)
        async with (
            FakeUpstream(hang) as upstream,
            one_region(upstream.endpoint, settings=settings, request_timeout=0.2) as rig,
            rig.client() as first,
            rig.client() as second,
        ):
            await first.send(GET)
            await second.send(GET)
            answers = [await first.response(), await second.response()]
            assert [kind_of(a) for a in answers] == ["deadline"] * 2
            assert upstream.count_requests() == 1

    async def test_upgraded_connection_outlives_it(self):
        upgrade = b"GET /a HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

        async def switch(connection):
            await connection.read_head()
            await connection.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
            )
            while data := await connection.read(100):
                await connection.send(data)

        async with (
            FakeUpstream(switch) as upstream,
            one_region(upstream.endpoint, request_timeout=0.1) as rig,
            rig.client() as client,
        ):
            await client.send(upgrade)
            await client.head()
            await asyncio.sleep(0.3)
            await client.send(b"still here")
            assert await client.reader.readexactly(10) == b"still here"

    async def test_quick_answers_are_not_touched(self):
        async with (
            FakeUpstream(always(OK)) as upstream,
            one_region(upstream.endpoint, request_timeout=30) as rig,
            rig.client() as client,
        ):
            for _ in range(3):
                await client.send(GET)
                assert (await client.response()).status == 200


async def test_body_that_drips_is_408():
    settings = ProxySettings(body_timeout=0.2, body_rate=10_000)
    async with (
        FakeUpstream(hang) as upstream,
        one_region(upstream.endpoint, settings=settings) as rig,
        rig.client() as client,
    ):
        await client.send(POST)

        async def drip():
            while True:
                client.writer.write(b"x")
                await asyncio.sleep(0.02)

        task = asyncio.ensure_future(drip())
        response = await client.response()
        task.cancel()
        assert (response.status, kind_of(response)) == (408, "too_slow")
