"""Deployments over the admin API: pages, dry runs, preconditions, tokens, refusals."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from onetrip.control.store import AsyncStore
from support.admin_server import admin_server
from support.fake_view import FakeView

DEPLOYMENTS = "/v1/projects/shop/deployments"
PRODUCTION = "/v1/projects/shop/environments/production"
ORDER = {"compatibility_date": "2026-11-25", "instances": {"den": ["10.0.0.1:9000"]}}


@pytest.fixture
async def api():
    view = FakeView()
    async with admin_server(view) as url, aiohttp.ClientSession(url) as session:
        yield Api(session, view)


class Api:
    """Calls the API of a fake node."""

    def __init__(self, session: aiohttp.ClientSession, view: FakeView) -> None:
        self.session = session
        self.view = view

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, str]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        options: dict[str, Any] = {} if body is None else {"json": body}
        async with self.session.request(method, path, headers=sent, **options) as reply:
            found = await reply.json() if reply.status != 204 else None
            return reply.status, found, reply.headers.get("ETag", "")

    async def deploy(self, **more: Any) -> str:
        status, body, _ = await self.call("POST", DEPLOYMENTS, {**ORDER, **more})
        assert status in (200, 201), body
        return str(body["id"])


async def test_deployment_is_made_told_and_listed(api: Api) -> None:
    status, body, etag = await api.call(
        "POST", DEPLOYMENTS, {**ORDER, "branch": "fix/api", "commit": "4f2a"}
    )
    assert (status, body["environment"], body["status"]) == (201, "preview", "ready")
    assert body["hosts"] == [
        f"{body['id']}.shop.apps.example.com",
        "fix-api.shop.apps.example.com",
    ]
    assert (body["created_by"], body["is_current"], body["share"]) == ("local", True, 1.0)
    again = await api.call("GET", f"{DEPLOYMENTS}/{body['id']}")
    assert again == (200, body, etag)
    status, same, _ = await api.call(
        "POST", DEPLOYMENTS, {**ORDER, "branch": "fix/api", "commit": "4f2a"}
    )
    assert (status, same["id"]) == (200, body["id"])


async def test_listing_goes_on_page_by_page_and_by_environment(api: Api) -> None:
    ids = [await api.deploy(commit=f"c{n}") for n in range(3)]
    preview = await api.deploy(branch="fix")
    _, page, _ = await api.call("GET", f"{DEPLOYMENTS}?limit=2")
    assert [row["id"] for row in page["deployments"]] == [preview, ids[2]]
    _, rest, _ = await api.call("GET", f"{DEPLOYMENTS}?limit=2&cursor={page['next']}")
    assert [row["id"] for row in rest["deployments"]] == [ids[1], ids[0]]
    assert rest["next"] is None
    _, only, _ = await api.call("GET", f"{DEPLOYMENTS}?environment=preview")
    assert [row["id"] for row in only["deployments"]] == [preview]
    status, refusal, _ = await api.call("GET", f"{DEPLOYMENTS}?environment=none")
    assert (status, refusal["field"]) == (400, "environment")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/projects", {"name": "new"}),
        ("POST", DEPLOYMENTS, ORDER),
        ("POST", "/v1/projects/shop/domains", {"host": "new.example.net"}),
        ("PUT", f"{PRODUCTION}/bindings/extra", {"backend": "blog-db"}),
    ],
)
async def test_dry_run_tells_the_result_and_changes_nothing(
    api: Api, method: str, path: str, body: dict[str, Any]
) -> None:
    before, version = api.view.releases.registry.digest, api.view.catalog.version
    status, told, _ = await api.call(method, f"{path}?dry_run=true", body)
    assert status == 200, told
    assert (api.view.releases.registry.digest, api.view.catalog.version) == (before, version)
    status, made, _ = await api.call(method, path, body)
    assert status in (200, 201)
    for changing in ("status", "checks", "is_current", "share"):
        told.pop(changing, None)
        made.pop(changing, None)
    assert told == made


async def test_rollout_and_rollback_heed_the_entity_tag(api: Api) -> None:
    old, new = await api.deploy(commit="old"), await api.deploy(commit="new", promote=False)
    order = {"deployment": new, "share": 0.25}
    status, body, etag = await api.call("PUT", f"{PRODUCTION}/rollout", order)
    assert (status, body["deployment"], body["candidate"], body["share"]) == (200, old, new, 0.25)
    shares = {
        row["id"]: row["share"] for row in (await api.call("GET", DEPLOYMENTS))[1]["deployments"]
    }
    assert shares == {old: 0.75, new: 0.25}
    status, refusal, _ = await api.call(
        "PUT", f"{PRODUCTION}/rollout", {**order, "share": 1}, If_Match='"old"'
    )
    assert (status, refusal["field"]) == (412, "if-match")
    status, body, etag = await api.call(
        "PUT", f"{PRODUCTION}/rollout", {**order, "share": 1}, If_Match=etag
    )
    assert (status, body["deployment"], body["candidate"]) == (200, new, "")
    status, body, _ = await api.call("POST", f"{PRODUCTION}/rollback", {}, If_Match=etag)
    assert (status, body["deployment"]) == (200, old)


async def test_upload_needs_the_right_type_and_a_bundle(api: Api) -> None:
    path = "/v1/projects/shop/assets"
    good = gzip.compress(b"pretends")
    async with api.session.put(
        path, data=good, headers={"Content-Type": "application/gzip"}
    ) as reply:
        assert (reply.status, (await reply.json())["files"]) == (200, 3)
    status, refusal, _ = await api.call("PUT", path, {})
    assert (status, refusal["field"]) == (415, "content-type")
    headers = {"Content-Type": "application/gzip"}
    async with api.session.put(path, data=b"text", headers=headers) as reply:
        assert reply.status == 400
    async with api.session.put(path, data=b"\x1f\x8b" * 2**20, headers=headers) as reply:
        assert reply.status == 413


async def test_json_operations_take_no_bundle(api: Api) -> None:
    headers = {"Content-Type": "application/gzip"}
    async with api.session.post(DEPLOYMENTS, data=b"{}", headers=headers) as reply:
        assert reply.status == 415


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", DEPLOYMENTS, {**ORDER, "extra": 1}, 400, "extra"),
        ("POST", DEPLOYMENTS, {"instances": {}}, 400, "compatibility_date"),
        ("POST", DEPLOYMENTS, {**ORDER, "compatibility_date": "soon"}, 400, "compatibility_date"),
        ("POST", DEPLOYMENTS, {**ORDER, "capacity": 0}, 400, "capacity"),
        ("POST", "/v1/projects/none/deployments", ORDER, 404, "name"),
        ("GET", f"{DEPLOYMENTS}/0123456789", None, 404, "deployment"),
        ("DELETE", "/v1/projects/shop", None, 409, "name"),
        ("DELETE", f"{PRODUCTION}/bindings/none", None, 404, "binding"),
        ("DELETE", "/v1/projects/shop/domains/none.test", None, 404, "host"),
        ("PUT", "/v1/projects/shop/environments/none/rollout", {"deployment": "x"}, 404,
         "environment"),
        ("PUT", f"{PRODUCTION}/rollout", {"deployment": "x", "share": "all"}, 400, "share"),
        ("POST", "/v1/projects/shop/domains", {"host": "blog.example"}, 409, "host"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_with_its_field(
    api: Api, method: str, path: str, body: Any, status: int, field: str
) -> None:
    before = api.view.releases.registry.digest
    found, refusal, _ = await api.call(method, path, body)
    assert (found, refusal["field"]) == (status, field), refusal
    assert api.view.releases.registry.digest == before


async def test_project_is_made_and_deleted(api: Api) -> None:
    status, body, etag = await api.call("POST", "/v1/projects", {"name": "new"})
    assert (status, body["name"], body["placement"]["mode"]) == (201, "new", "off")
    assert etag
    _, listed, _ = await api.call("GET", "/v1/projects")
    assert listed["projects"][-1]["name"] == "new"
    assert (await api.call("DELETE", "/v1/projects/new"))[0] == 204
    assert (await api.call("GET", "/v1/projects/new"))[0] == 404


async def test_older_version_of_the_api_tells_all_projects_at_once(api: Api) -> None:
    _, page, _ = await api.call("GET", "/v1/projects?limit=1")
    assert (len(page["projects"]), page["total"], page["next"]) == (1, 3, "shop")
    _, rest, _ = await api.call("GET", "/v1/projects?limit=5&cursor=shop")
    assert (next(row["name"] for row in rest["projects"]), rest["next"]) == ("blog", None)
    _, old, _ = await api.call("GET", "/v1/projects?limit=1", Onetrip_Api_Version="2026-11-01")
    assert (len(old["projects"]), old["next"]) == (3, None)
    async with api.session.get(
        "/v1/status", headers={"Onetrip-Api-Version": "2026-11-01"}
    ) as reply:
        assert reply.headers["Onetrip-Api-Version"] == "2026-11-01"
    status, refusal, _ = await api.call("GET", "/v1/status", Onetrip_Api_Version="2020-01-01")
    assert (status, refusal["field"]) == (400, "onetrip-api-version")


async def test_token_of_a_project_deploys_that_one_alone(tmp_path: Path) -> None:
    store = await AsyncStore.open(tmp_path / "db")
    async with (
        admin_server(FakeView(), token="root", store=store) as url,
        aiohttp.ClientSession(url) as session,
    ):
        root = {"Authorization": "Bearer root"}
        order = {"name": "ci", "scope": "write", "project": "shop"}
        async with session.post("/v1/tokens", json=order, headers=root) as reply:
            ci = {"Authorization": f"Bearer {(await reply.json())['secret']}"}
        async with session.post(DEPLOYMENTS, json=ORDER, headers=ci) as reply:
            assert (reply.status, (await reply.json())["created_by"]) == (201, "ci")
        for path, body in (
            ("/v1/projects/blog/deployments", ORDER),
            ("/v1/projects", {"name": "new"}),
        ):
            async with session.post(path, json=body, headers=ci) as reply:
                assert reply.status == 403
        async with session.get("/v1/audit", headers=root) as reply:
            changes = (await reply.json())["changes"]
        assert (changes[0]["operation"], changes[0]["caller"]) == ("create_deployment", "ci")
    await store.close()
