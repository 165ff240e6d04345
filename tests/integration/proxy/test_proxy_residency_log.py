"""The residency log: a line for each attempt and refusal of requests that have rules."""

from __future__ import annotations

import contextlib

from onetrip.model.catalog import Policy, RouteRule
from onetrip.model.topology import Endpoint, RegionId
from support.fake_upstream import FakeUpstream
from support.proxy_rig import DEN, FRA, AccessLines, ProxyRig, make_catalog, make_topology

DEAD = Endpoint("127.0.0.1", 1)
RULES = (RouteRule("/kept", deny=frozenset({FRA})), RouteRule("/free"))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def logging(instances: dict[RegionId, list[Endpoint]], policy: Policy | None = None):  # type: ignore[no-untyped-def]
    """Yield a proxy in den, and the residency lines it writes."""
    nowhere = make_topology({DEN: None, FRA: None})
    rig = ProxyRig(make_catalog(instances, rules=RULES, policy=policy), nowhere)
    lines = AccessLines()
    rig.server.log_residency(lines)
    async with rig:
        yield rig, lines.records


class TestResidencyLog:
    async def test_each_attempt_says_where_it_went_and_where_it_may_not(self):
        async with FakeUpstream() as den, FakeUpstream() as fra:
            instances = {DEN: [DEAD, den.endpoint], FRA: [fra.endpoint]}
            async with logging(instances) as (rig, lines):
                for _ in range(3):
                    assert (await rig.ask(get("/kept"))).status == 200
                assert (await rig.ask(get("/free"))).status == 200
        attempts = [line["attempts"] for line in rig.lines if line["route"] == "/kept"]
        assert len(lines) == sum(attempts) > 3, "a failed attempt went somewhere, too"
        assert {line["region"] for line in lines} == {DEN}
        assert {key: value for key, value in lines[0].items() if key != "ts"} == {
            "event": "proxy.residency_kept",
            "request_id": lines[0]["request_id"],
            "project": "shop",
            "environment": "production",
            "deployment": None,
            "route": "/kept",
            "method": "GET",
            "edge": DEN,
            "node": DEN,
            "attempt": 1,
            "denied": [FRA],
            "region": DEN,
            "arm": "default",
        }
        known = {line["request_id"] for line in rig.lines if line["route"] == "/kept"}
        assert {line["request_id"] for line in lines} == known

    async def test_a_refusal_says_that_a_region_that_is_denied_could_have_served(self):
        async with FakeUpstream() as fra:
            async with logging({DEN: [DEAD], FRA: [fra.endpoint]}) as (rig, lines):
                assert (await rig.ask(get("/kept"))).status == 503
                assert (await rig.ask(get("/free"))).status == 200
            assert fra.received.count(b"/kept") == 0
        assert [line["event"] for line in lines] == [
            "proxy.residency_kept",
            "proxy.residency_refused",
        ]
        assert lines[1]["error"] == "residency"

    async def test_rules_of_the_project_count_for_every_route_also_after_a_reload(self):
        async with FakeUpstream() as den:
            instances = {DEN: [den.endpoint], FRA: [DEAD]}
            async with logging(instances, Policy(allow=frozenset({DEN}))) as (rig, lines):
                assert (await rig.ask(get("/free"))).status == 200
                assert (await rig.ask(get("/kept"))).status == 200
                assert [(line["route"], line["denied"]) for line in lines] == [
                    ("/free", [FRA]),
                    ("/kept", [FRA]),
                ]
                rig.server.update(make_catalog(instances, rules=RULES), rig.server.topology)
                assert (await rig.ask(get("/free"))).status == 200
                assert len(lines) == 2
