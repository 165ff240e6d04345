"""The admin API on a real port: what it tells, what it takes, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from onetrip.errors import ApiError
from onetrip.model.catalog import Mode
from onetrip.model.edge import Purge
from onetrip.model.measure import Target, TargetKind
from onetrip.model.status import PolicyChange, Suspicion
from onetrip.model.topology import RegionId
from support.admin_server import admin_server
from support.fake_view import FakeView

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def view() -> FakeView:
    return FakeView()


@pytest.fixture
async def api(view: FakeView) -> AsyncIterator[aiohttp.ClientSession]:
    async with admin_server(view) as url, aiohttp.ClientSession(url) as session:
        yield session


async def read(api: aiohttp.ClientSession, path: str, **params: str) -> Any:
    async with api.get(path, params=params) as reply:
        assert reply.status == 200, await reply.text()
        assert reply.content_type == "application/json"
        return await reply.json()


async def patch(
    api: aiohttp.ClientSession, body: bytes, name: str = "shop", **headers: str
) -> tuple[int, Any]:
    sent = {**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}}
    async with api.patch(f"/v1/projects/{name}", data=body, headers=sent) as reply:
        return reply.status, await reply.json()


async def test_status_sums_up_the_cluster(api: aiohttp.ClientSession) -> None:
    body = await read(api, "/v1/status")
    assert body["region"] == "den"
    assert body["state"] == "ok"
    assert (body["regions"], body["regions_alive"], body["uptime"]) == (3, 3, 8040.0)
    assert body["routes"]["placed"] == 4


async def test_silent_region_degrades_the_status() -> None:
    view = FakeView(dead=frozenset({"bom"}))
    async with admin_server(view) as url, aiohttp.ClientSession(url) as api:
        body = await read(api, "/v1/status")
        assert (body["state"], body["regions_alive"]) == ("degraded", 2)
        assert body["problems"] == ["region bom does not answer"]
        regions = (await read(api, "/v1/regions"))["regions"]
        assert {r["id"]: r["is_alive"] for r in regions} == {"den": True, "bom": False, "fra": True}


async def test_node_that_is_not_believed_degrades_the_status() -> None:
    target = Target(TargetKind.BACKEND, "orders-db")
    view = FakeView(suspected=[Suspicion(RegionId("fra"), 1, target, 0.001, 0.0708)])
    async with admin_server(view) as url, aiohttp.ClientSession(url) as api:
        body = await read(api, "/v1/status")
        assert body["state"] == "degraded"
        assert body["problems"] == [
            "region fra: its RTT of 1.0 ms to backend:orders-db cannot be true: under 70.8 ms by "
            "what other regions measured"
        ]


async def test_node_that_cannot_keep_anything_degrades_the_status() -> None:
    problem = "state file /var/lib/onetrip/onetrip.db cannot be written: disk is full"
    async with admin_server(FakeView(unwritten=problem)) as url, aiohttp.ClientSession(url) as api:
        body = await read(api, "/v1/status")
        assert (body["state"], body["problems"]) == ("degraded", [problem])


async def test_rtts_are_those_of_the_matrix(api: aiohttp.ClientSession) -> None:
    rows = (await read(api, "/v1/rtts"))["rtts"]
    found = {(r["source"], r["target"]): r["rtt_ms"] for r in rows}
    assert found["den", "bom"] == found["bom", "den"] == 229.0
    assert found["bom", "orders-db"] == 0.5


async def test_explain_filters_by_edge_and_route(api: aiohttp.ClientSession) -> None:
    path = "/v1/projects/shop/explain"
    body = await read(api, path, edge="den", route="/orders/{id}", environment="production")
    assert body["total"] == 1
    decision = body["decisions"][0]
    assert (decision["status"], decision["candidates"][0]["score_ms"]) == ("placed", 237.6)
    assert (await read(api, path, method="write"))["total"] == 3
    assert (await read(api, path, route="/nowhere"))["decisions"] == []


async def test_what_if_ranks_rows_and_adds_them_up(api: aiohttp.ClientSession) -> None:
    path = "/v1/projects/blog/whatif"
    body = await read(api, path)
    assert (body["project"], body["mode"], body["total"]) == ("blog", "off", 6)
    first = body["rows"][0]
    assert (first["edge"], first["route"], first["runs_in"]) == ("den", "/posts/{id}", "fra")
    assert first["saving_ms"] == pytest.approx(first["default_ms"] - first["predicted_ms"])
    worth = [row["saving_ms"] * row["requests"] for row in body["rows"]]
    assert worth == sorted(worth, reverse=True)
    assert body["totals"]["moved_requests"] == 2530
    assert body["totals"]["saving_ms"] == pytest.approx(313.4, abs=0.1)


async def test_what_if_of_one_edge_adds_up_that_edge(api: aiohttp.ClientSession) -> None:
    path = "/v1/projects/shop/whatif"
    body = await read(api, path, edge="den", limit="1")
    assert (len(body["rows"]), body["total"]) == (1, 5)
    assert body["totals"]["unknown_routes"] == 1
    assert body["totals"]["moved_ratio"] == round((1284 + 96) / 4236, 4)
    assert (await read(api, path, environment="production"))["total"] == 15


async def test_listing_beyond_its_limit_tells_the_total(api: aiohttp.ClientSession) -> None:
    body = await read(api, "/v1/projects/shop/explain", limit="2")
    assert (len(body["decisions"]), body["total"]) == (2, 15)
    body = await read(api, "/v1/latencies", limit="1", project="shop")
    assert len(body["latencies"]) == 1
    assert body["total"] > 1


async def test_distributions_are_of_the_requests_that_the_saving_is_of(
    api: aiohttp.ClientSession,
) -> None:
    path = "/v1/projects/shop/distributions"
    (row,) = (await read(api, path, route="/orders/{id}", edge="den"))["distributions"]
    assert row["edges"] == ["den"]
    arms = {arm["arm"]: arm["requests"] for arm in row["arms"]}
    saving = row["saving"]
    counted = saving["placed_requests"], saving["control_requests"]
    assert (arms["placed"], arms["control"]) == counted
    assert saving["low_ms"] < saving["mean_ms"] < saving["high_ms"]
    (row,) = (await read(api, path, route="/orders/{id}"))["distributions"]
    assert row["edges"] == ["den", "fra"]
    first = await read(api, path, limit="1")
    assert first["total"] == 5
    second = await read(api, path, limit="4", cursor=first["next"])
    routes = [r["route"] for r in (*first["distributions"], *second["distributions"])]
    assert len(set(routes)) == 5
    assert second["next"] is None


async def test_history_has_the_moment_of_the_toggle(api: aiohttp.ClientSession) -> None:
    series = (await read(api, "/v1/projects/shop/history"))["series"]
    points = next(s for s in series if (s["route"], s["edge"]) == ("/orders/{id}", "den"))["points"]
    assert points[0]["placed_p50_ms"] is None
    assert points[0]["default_p50_ms"] > 2000
    assert points[-1]["placed_p50_ms"] < 300


async def test_events_are_newest_first_and_bounded(api: aiohttp.ClientSession) -> None:
    events = (await read(api, "/v1/events", limit="3"))["events"]
    assert len(events) == 3
    assert events[0]["at"] >= events[1]["at"] >= events[2]["at"]


async def test_metrics_are_prometheus_text(api: aiohttp.ClientSession) -> None:
    async with api.get("/metrics") as reply:
        assert reply.content_type == "text/plain"
        assert 'onetrip_build_info{version="0.1.0"} 1.0' in await reply.text()


async def test_toggle_takes_effect_at_once(view: FakeView, api: aiohttp.ClientSession) -> None:
    status, body = await patch(api, b'{"placement": {"mode": "off"}}')
    assert (status, body["placement"]["mode"]) == (200, "off")
    assert view.changes == [("shop", PolicyChange(mode=Mode.OFF))]
    rows = (await read(api, "/v1/projects"))["projects"]
    assert next(r for r in rows if r["name"] == "shop")["routes"] == {"off": 15}


async def test_change_of_nothing_changes_nothing(
    view: FakeView, api: aiohttp.ClientSession
) -> None:
    assert (await patch(api, b"{}"))[0] == 200
    assert view.changes == []


async def test_change_with_the_etag_that_was_read_is_taken_once(
    view: FakeView, api: aiohttp.ClientSession
) -> None:
    async with api.get("/v1/projects/shop") as reply:
        etag = reply.headers["ETag"]
    rows = (await read(api, "/v1/projects"))["projects"]
    assert next(r for r in rows if r["name"] == "shop")["etag"] == etag
    bodies = (b'{"placement": {"mode": "off"}}', b'{"placement": {"hint": "bom"}}')
    found = await asyncio.gather(*(patch(api, body, If_Match=etag) for body in bodies))
    assert sorted(status for status, _ in found) == [200, 412]
    refusal = next(body for status, body in found if status == 412)
    assert refusal["field"] == "if-match"
    assert len(view.changes) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"placement": {"mode": "fast"}}', "placement.mode"),
        (b'{"placement": {"speed": 1}}', "placement.speed"),
        (b'{"placement": {"hint": "lon"}}', "placement.hint"),
        (b'{"placement": {"control": 2}}', "placement.control"),
        (b'{"name": "x"}', "name"),
        (b"{", ""),
        (b"", ""),
    ],
)
async def test_bad_body_is_refused_by_field_and_changes_nothing(
    view: FakeView, api: aiohttp.ClientSession, body: bytes, field: str
) -> None:
    status, problem = await patch(api, body)
    assert (status, problem["field"], problem["status"]) == (400, field, 400)
    assert problem["detail"]
    assert view.changes == []


async def test_oversized_body_is_refused_with_its_limit(api: aiohttp.ClientSession) -> None:
    status, problem = await patch(api, b" " * 70_000)
    assert status == 413
    assert "65536" in problem["detail"]


async def test_failed_change_says_so_and_tells_no_more(api: aiohttp.ClientSession) -> None:
    status, problem = await patch(api, b'{"placement": {"control": 0.5}}')
    assert (status, problem["kind"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("method", "path", "status", "field"),
    [
        ("GET", "/v1/projects/nope", 404, "name"),
        ("PATCH", "/v1/projects/nope", 404, "name"),
        ("GET", "/v1/projects/nope/explain", 404, "name"),
        ("GET", "/v1/projects/nope/history", 404, "name"),
        ("GET", "/v1/projects/nope/whatif", 404, "name"),
        ("GET", "/v1/projects/shop/whatif?edge=xxx", 400, "edge"),
        ("GET", "/v1/projects/shop/whatif?limit=x", 400, "limit"),
        ("GET", "/v1/latencies?project=nope", 404, "project"),
        ("GET", "/v1/projects/shop/explain?edge=xxx", 400, "edge"),
        ("GET", "/v1/projects/shop/explain?environment=xxx", 400, "environment"),
        ("GET", "/v1/projects/shop/explain?colour=red", 400, "colour"),
        ("GET", "/v1/events?limit=0", 400, "limit"),
        ("GET", "/v1/status?x=1", 400, "x"),
        ("GET", "/v1/nope", 404, ""),
        ("GET", "/assets/../api.py", 404, ""),
        ("GET", "/assets/nope.js", 404, ""),
        ("PUT", "/v1/projects/shop", 405, ""),
    ],
)
async def test_refusals_are_problem_documents(
    api: aiohttp.ClientSession, method: str, path: str, status: int, field: str
) -> None:
    headers = {} if method == "GET" else JSON
    async with api.request(method, path, headers=headers) as reply:
        assert reply.status == status
        assert reply.content_type == "application/problem+json"
        body = await reply.json()
    assert (body["status"], body["field"]) == (status, field)


async def test_refusal_names_field_value_and_limit(api: aiohttp.ClientSession) -> None:
    _, problem = await patch(api, b'{"placement": {"control": 2}}')
    assert problem == {
        "type": "/v1/problems/invalid",
        "title": "Bad Request",
        "status": 400,
        "detail": "placement.control is 2.0; it must be in 0..0.5",
        "kind": "invalid",
        "field": "placement.control",
        "value": "2.0",
        "limit": "in 0..0.5",
    }


async def test_type_of_every_problem_leads_to_its_meaning(api: aiohttp.ClientSession) -> None:
    for path in ("/v1/nope", "/v1/status?x=1", "/v1/projects/nope", "/v1/drain"):
        async with api.get(path) as reply:
            problem = await reply.json()
        found = await read(api, problem["type"])
        assert problem["status"] in found["statuses"], path
        assert found["meaning"]


async def test_expectation_that_cannot_be_met_is_a_problem_too(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/status", headers={"Expect": "tea"}) as reply:
        assert (reply.status, reply.content_type) == (417, "application/problem+json")
    async with api.patch("/v1/projects/shop", data=b"{}", headers=JSON, expect100=True) as reply:
        assert reply.status == 200


async def test_document_is_sent_once_to_a_client_that_keeps_it(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/openapi.json") as reply:
        etag, body = reply.headers["ETag"], await reply.json()
    assert body["openapi"].startswith("3.1")
    for known in (etag, f"W/{etag}", "*", f'"other", {etag}'):
        async with api.get("/v1/openapi.json", headers={"If-None-Match": known}) as reply:
            assert (reply.status, await reply.read()) == (304, b"")
    async with api.get("/v1/openapi.json", headers={"If-None-Match": '"other"'}) as reply:
        assert reply.status == 200


async def test_unexpected_failure_tells_nothing_of_itself(
    view: FakeView, api: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(limit: int) -> Any:
        raise RuntimeError("secret-detail")

    monkeypatch.setattr(view, "events", fail)
    async with api.get("/v1/events") as reply:
        assert reply.status == 500
        assert "secret-detail" not in await reply.text()


@pytest.mark.parametrize(
    ("body", "order"),
    [
        (b"", Purge("shop")),
        (b"{}", Purge("shop")),
        (
            b'{"url": "https://Shop.test/a?b"}',
            Purge("shop", b"https", b"shop.test", b"/a?b"),
        ),
        (
            b'{"prefix": "http://shop.test:81"}',
            Purge("shop", b"http", b"shop.test:81", b"/", is_prefix=True),
        ),
    ],
)
async def test_purge_names_what_is_forgotten(
    view: FakeView, api: aiohttp.ClientSession, body: bytes, order: Purge
) -> None:
    async with api.post("/v1/projects/shop/purge", data=body, headers=JSON) as reply:
        assert (reply.status, await reply.json()) == (200, {"region": "den", "purged": 3})
    assert view.purges == [order]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nope", b"{}", 404),
        ("shop", b'{"url": "shop.test/a"}', 400),
        ("shop", b'{"url": "https://shop.test/a b"}', 400),
        ("shop", b'{"url": "https://u@/"}{', 400),
        ("shop", b'{"url": "https://a.test/", "prefix": "https://a.test/"}', 400),
        ("shop", b'{"path": "/a"}', 400),
    ],
)
async def test_purge_of_what_is_no_url_is_refused(
    view: FakeView, api: aiohttp.ClientSession, path: str, body: bytes, status: int
) -> None:
    async with api.post(f"/v1/projects/{path}/purge", data=body, headers=JSON) as reply:
        assert reply.status == status
    assert not view.purges


async def test_drain_is_told_and_listed(api: aiohttp.ClientSession) -> None:
    for body, draining in ((b'{"draining": true}', ["den"]), (b'{"draining": false}', [])):
        async with api.post("/v1/drain", data=body, headers=JSON) as reply:
            assert reply.status == 200
            found = await reply.json()
        assert found == {"region": "den", "is_draining": bool(draining), "draining": draining}
        regions = (await read(api, "/v1/regions"))["regions"]
        assert [r["id"] for r in regions if r["is_draining"]] == draining


async def test_reload_tells_what_happened_or_why_not(
    view: FakeView, api: aiohttp.ClientSession
) -> None:
    async with api.post("/v1/reload", headers=JSON) as reply:
        assert (reply.status, (await reply.json())["detail"][:13]) == (200, "configuration")
    view.reload_error = "onetrip.yaml: projects.shop.hosts: shop.example is used twice"
    async with api.post("/v1/reload", headers=JSON) as reply:
        assert reply.status == 422
        assert (await reply.json())["detail"] == view.reload_error


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer right"}, 200),
        ({"Authorization": "Bearer right", "Host": "onetrip.example"}, 200),
    ],
)
async def test_token_is_required_when_set(headers: dict[str, str], status: int) -> None:
    async with admin_server(FakeView(), "right") as url, aiohttp.ClientSession(url) as api:
        for path in ("/v1/status", "/metrics", "/v1/projects"):
            async with api.get(path, headers=headers) as reply:
                assert reply.status == status, path
        for path in ("/healthz", "/", "/assets/app.js"):
            async with api.get(path) as reply:
                assert reply.status == 200, path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_web_pages_of_others_cannot_change_anything(
    view: FakeView, api: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    sent = {**JSON, **headers}
    body = b'{"placement": {"mode": "off"}}'
    async with api.patch("/v1/projects/shop", data=body, headers=sent) as reply:
        assert reply.status == status
    async with api.post("/v1/reload", data=b"{}", headers=sent) as reply:
        assert reply.status == status
    assert view.changes == []


async def test_rebound_name_cannot_read_anything(api: aiohttp.ClientSession) -> None:
    for path in ("/v1/status", "/metrics", "/healthz", "/"):
        async with api.get(path, headers={"Host": "evil.example"}) as reply:
            assert reply.status == 403, path


async def test_every_reply_carries_the_security_headers(api: aiohttp.ClientSession) -> None:
    for path, cache in (("/", "no-cache"), ("/v1/status", "no-store"), ("/nope", "no-store")):
        async with api.get(path) as reply:
            policy = reply.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == cache


async def test_page_refers_only_to_its_own_files(api: aiohttp.ClientSession) -> None:
    async with api.get("/") as reply:
        page = await reply.text()
    assert "<script>" not in page
    assert "http://" not in page
    assert "https://" not in page
    for line in page.split('"'):
        if line.startswith("/assets/"):
            async with api.get(line) as reply:
                assert reply.status == 200, line


async def test_view_refusal_keeps_its_field(
    view: FakeView, api: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(project: str, change: PolicyChange) -> Any:
        raise ApiError("hint is 'bom'; it is in deny", field="placement.hint")

    monkeypatch.setattr(view, "change_policy", refuse)
    status, problem = await patch(api, b'{"placement": {"hint": "bom"}}')
    assert (status, problem["field"]) == (400, "placement.hint")


async def test_listings_have_one_order_whatever_peers_reported_first(
    view: FakeView, api: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [await read(api, path) for path in ("/v1/projects/shop/explain", "/v1/latencies")]
    decisions, latencies = view.decisions("shop"), view.latencies(None)
    monkeypatch.setattr(view, "decisions", lambda project: decisions[::-1])
    monkeypatch.setattr(
        view, "latencies", lambda project: sorted(latencies, key=lambda r: (r.edge, str(r.key)))
    )
    after = [await read(api, path) for path in ("/v1/projects/shop/explain", "/v1/latencies")]
    assert after[0] == before[0]
    edges = [row["edge"] for row in after[1]["latencies"]]
    assert edges == [row["edge"] for row in before[1]["latencies"]]
