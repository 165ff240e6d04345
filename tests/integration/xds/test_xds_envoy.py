"""The control plane against the real Envoy: what it makes of the resources, and of bad ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from onetrip.errors import Kind
from onetrip.model.catalog import Policy
from onetrip.model.measure import Arm, MethodClass, RouteKey
from onetrip.model.placement import PlacementSnapshot
from onetrip.proxy.router import Routing
from onetrip.timing import MonotonicClock
from onetrip.xds.entries import EntryReader
from onetrip.xds.resources import state_of
from onetrip.xds.session import Resource, Type
from support.envoy import (
    HERE,
    SHOP,
    THERE,
    ask,
    get,
    pinned,
    placed,
)
from support.envoy_rig import rig
from support.served_node import Load
from support.waits import eventually

UPDATES = 1000
"""Updates during which no request may fail."""

REQUESTS = 400
"""Requests from which a share is counted: a tenth of them varies by 6 (one deviation)."""


async def test_requests_follow_placement_and_say_where_they_ran(tmp_path: Path) -> None:
    async with rig(tmp_path) as envoy:
        forged = "onetrip-hop: x\r\nX-Forwarded-For: 1.2.3.4\r\nX_Request_Id: 7\r\n"
        _, fields, body = await ask(envoy.port, get(more=forged))
        assert fields["onetrip-placement"] == "local-here"
        assert fields["server"] == "app"
        assert b"onetrip-hop" not in body.lower()
        assert b"1.2.3.4" not in body
        assert b"X_Request_Id" not in body
        assert b"\r\nx-request-id: " in body
        assert b"\r\nvia: 1.1 onetrip" in body
        assert "x-envoy-upstream-service-time" not in fields

        await envoy.apply(envoy.plan(pinned(THERE)))
        _, fields, body = await ask(envoy.port, get())
        assert body.startswith(b"there\n")
        assert fields["onetrip-placement"] == "remote-there"

        # A region that requests must not run in gets none, whatever an old placement says.
        await envoy.apply(envoy.plan(pinned(THERE), policy=Policy(deny=frozenset([THERE]))))
        assert await envoy.where() == "here"

        status, fields, body = await ask(envoy.port, get(host="other.test"))
        assert status == 404
        assert fields["content-type"] == "application/json"
        assert b'"kind":"no_route"' in body

        # Only reads may explore, and a hash of the request keeps its arm whatever is retried.
        await envoy.apply(envoy.plan(placed(THERE, control=0.1, explore=0.1)))
        counts = Counter([await envoy.where() for _ in range(REQUESTS)])
        assert 40 <= counts["here"] <= 130  # 80 are meant, 8 is one deviation
        assert counts["here"] + counts["there"] == REQUESTS


async def test_health_and_learned_routes_decide_where_requests_run(tmp_path: Path) -> None:
    async with rig(tmp_path) as envoy:
        routes = {RouteKey(SHOP, "/users/{id}", MethodClass.READ): pinned(THERE)}
        snapshot = PlacementSnapshot(HERE, 1, routes, {SHOP: pinned(HERE)})
        plan = envoy.plan(snapshot=snapshot)
        await envoy.apply(plan)
        assert await envoy.where(get("/users/42?x=1")) == "there"
        assert await envoy.where(get("/users/0b7bd7f0-52b4-4d8a-9b0e-2f6dd0a6b3c2/")) == "there"
        assert await envoy.where(get("/users/me")) == "here"
        write = get("/users/42").replace(b"GET", b"DELETE")
        assert await envoy.where(write) == "here"

        await envoy.apply(replace(plan, failing=frozenset([f"127.0.0.1:{envoy.there.port}"])))
        assert await envoy.where(get("/users/42")) == "here"
        failing = frozenset(f"127.0.0.1:{port[0]}" for port in envoy.instances.values())
        await envoy.apply(replace(plan, failing=failing))
        status, fields, body = await ask(envoy.port, get())
        assert status == 503
        assert b'"kind":"unavailable"' in body
        assert "onetrip-placement" not in fields

        # An instance that refuses connections is left for the next region within the request.
        await envoy.apply(plan)
        await envoy.there.close()
        assert await envoy.where(get("/users/42")) == "here"


async def test_no_request_fails_over_a_thousand_updates(tmp_path: Path) -> None:
    async with rig(tmp_path) as envoy:
        plans = [
            state_of(envoy.plan(placement))
            for placement in (pinned(HERE), placed(THERE, 0.1), pinned(THERE))
        ]
        async with Load(envoy.port, clients=2, request=get()) as load:
            await load.more(10)
            for number in range(UPDATES):
                envoy.control.offer(plans[number % len(plans)])
                await envoy.current()
            await load.more(10)
        assert load.failures == []
        accepted = envoy.metrics.xds.updates.labels("route", "accepted")._value.get()
        assert accepted >= UPDATES
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{envoy.admin}/stats?filter=update_success") as reply,
        ):
            told = await reply.text()
        assert f"update_success: {int(accepted)}" in told


async def test_a_bad_update_is_refused_and_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with rig(tmp_path) as envoy:
        bad = _with_cluster(state_of(envoy.plan(pinned(THERE))), "bad", {"connect_timeout": "-1s"})
        envoy.control.offer(bad)
        await eventually(lambda: any(t[0] == "xds.update_refused" for t in envoy.told))
        (event,) = [t for t in envoy.told if t[0] == "xds.update_refused"]
        assert event[1] == "cluster bad"
        (status,) = envoy.control.statuses()
        assert not status.is_current
        assert list(status.refused) == ["cluster bad"]
        refused = envoy.metrics.xds.updates.labels("cluster", "refused")._value.get()
        assert refused >= 1
        assert await envoy.where() == "here"  # its routes would have needed what is not there

        await envoy.apply(envoy.plan(pinned(THERE)))
        assert await envoy.where() == "there"
        assert envoy.control.statuses()[0].refused == {}


def _with_cluster(state: Any, name: str, body: Mapping[str, Any]) -> Any:
    resource = Resource(name, "1", {"name": name, **body})
    return {**state, Type.CLUSTER: {**state[Type.CLUSTER], name: resource}}


async def test_what_envoy_logs_is_read_as_records(tmp_path: Path) -> None:
    async with rig(tmp_path) as envoy:
        plan = envoy.plan(placed(THERE, control=0.0))
        await envoy.apply(plan)
        reader = EntryReader(HERE, MonotonicClock())
        reader.routing = Routing.build(plan.catalog)
        reader.regions = frozenset([HERE, THERE])
        await ask(envoy.port, get("/users/42"))
        await ask(envoy.port, get("/lost", host="other.test"))

        def logged(path: str) -> list[Any]:
            return [entry for entry in envoy.entries if entry.request.path == path]

        await eventually(lambda: bool(logged("/users/42") and logged("/lost")))
        found, lost = (reader.read(logged(path)[0]) for path in ("/users/42", "/lost"))
        assert found is not None
        assert found.match is not None
        assert found.match.key == RouteKey(SHOP, "/users/{id}", MethodClass.READ)
        assert (found.region, found.arm, found.is_own) == (THERE, Arm.PLACED, False)
        assert found.method == b"GET"
        assert found.started_at <= found.sent_at <= found.first_byte_at
        assert found.endpoint == f"127.0.0.1:{envoy.there.port}"
        assert found.bytes_out > 0
        assert lost is not None
        assert (lost.status, lost.region, lost.match) == (404, None, None)
        assert lost.error is not None
        assert lost.error.kind is Kind.NO_ROUTE
