"""Versions and rollback, dry runs, and pages of listings, on a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from onetrip.control import versions
from onetrip.control.store import AsyncStore, Store, StoredPolicy
from onetrip.model.catalog import Mode
from onetrip.model.status import PolicyChange
from onetrip.model.topology import RegionId
from support.admin_server import admin_server
from support.fake_view import FakeView

JSON = {"Content-Type": "application/json"}
DEN, FRA = RegionId("den"), RegionId("fra")


@pytest.fixture
def view() -> FakeView:
    return FakeView()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AsyncStore]:
    found = await AsyncStore.open(tmp_path / "onetrip.db")
    yield found
    await found.close()


@pytest.fixture
async def api(view: FakeView, store: AsyncStore) -> AsyncIterator[aiohttp.ClientSession]:
    async with admin_server(view, store=store) as url, aiohttp.ClientSession(url) as session:
        yield session


def policy(version: int, origin: RegionId = DEN, **change: Any) -> StoredPolicy:
    return StoredPolicy("shop", PolicyChange(**change), "digest", version, origin)


async def send(
    api: aiohttp.ClientSession, method: str, path: str, body: bytes = b"{}"
) -> tuple[int, Any]:
    async with api.request(method, path, data=body, headers=JSON) as reply:
        return reply.status, await reply.json()


async def read(api: aiohttp.ClientSession, path: str) -> Any:
    async with api.get(path) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.json()


ROLLBACK = "/v1/projects/shop/rollback"


async def test_rollback_puts_back_all_of_a_version(
    view: FakeView, store: AsyncStore, api: aiohttp.ClientSession
) -> None:
    await store.call(versions.put, policy(1, mode=Mode.OFF), 1.0)
    await store.call(versions.put, policy(2, mode=Mode.OFF, hint="bom"), 2.0)
    await view.change_policy("shop", PolicyChange(Mode.OFF, "bom", 0.25))
    status, body = await send(api, "POST", ROLLBACK, b'{"version": 1}')
    assert (status, body["placement"]["mode"], body["placement"]["hint"]) == (200, "off", "")
    assert body["placement"]["control"] == view._first.projects["shop"].policy.control_ratio
    status, body = await send(api, "POST", ROLLBACK, b'{"version": 0}')
    assert (status, body["placement"]["mode"]) == (200, "smart")
    made = (await read(api, "/v1/audit"))["changes"]
    assert [change["operation"] for change in made] == ["rollback", "rollback"]


@pytest.mark.parametrize(
    ("body", "status"), [(b'{"version": 9}', 404), (b'{"version": -1}', 400), (b"{}", 400)]
)
async def test_version_that_is_not_kept_changes_nothing(
    view: FakeView, api: aiohttp.ClientSession, body: bytes, status: int
) -> None:
    assert (await send(api, "POST", ROLLBACK, body))[0] == status
    assert view.changes == []


async def test_versions_are_told_newest_first_page_by_page(
    store: AsyncStore, api: aiohttp.ClientSession
) -> None:
    for n in range(1, 6):
        await store.call(versions.put, policy(n, control_ratio=n / 100), float(n))
    first = await read(api, "/v1/projects/shop/versions?limit=3")
    rest = await read(api, f"/v1/projects/shop/versions?limit=3&cursor={first['next']}")
    assert [row["version"] for row in first["versions"] + rest["versions"]] == [5, 4, 3, 2, 1]
    assert rest["next"] is None
    assert first["versions"][0] == {
        "version": 5,
        "origin": "den",
        "at": 5.0,
        "mode": None,
        "hint": None,
        "control": 0.05,
        "explore": None,
        "share": None,
    }


def test_version_is_kept_only_with_its_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MAX_VERSIONS", 3)
    store = Store(tmp_path / "onetrip.db")
    assert versions.put(store, policy(7, FRA, hint="fra"), 1.0)
    assert not versions.put(store, policy(7, DEN, hint="den"), 2.0)
    assert versions.put(store, policy(7, FRA, hint="fra"), 3.0)
    assert [each.origin for each in versions.page(store, "shop", 9, None)] == [FRA]
    for n in range(8, 12):
        versions.put(store, policy(n), 4.0)
    assert [each.version for each in versions.page(store, "shop", 9, None)] == [11, 10, 9]
    store.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v1/projects/shop", b'{"placement": {"mode": "off"}}'),
        ("POST", ROLLBACK, b'{"version": 0}'),
        ("POST", "/v1/drain", b'{"draining": true}'),
        ("POST", "/v1/reload", b"{}"),
    ],
)
async def test_dry_run_tells_the_result_and_changes_nothing(
    view: FakeView, api: aiohttp.ClientSession, method: str, path: str, body: bytes
) -> None:
    before = await read(api, "/v1/projects/shop")
    status, told = await send(api, method, f"{path}?dry_run=true", body)
    assert status == 200
    assert (view.changes, view.draining) == ([], frozenset())
    assert (await read(api, "/v1/projects/shop")) == before
    assert (await read(api, "/v1/audit"))["changes"] == []
    assert (await send(api, method, path, body))[0] == 200
    if method == "PATCH":
        assert told == await read(api, "/v1/projects/shop")


async def test_dry_run_is_refused_where_the_change_would_be(
    view: FakeView, api: aiohttp.ClientSession
) -> None:
    body = b'{"placement": {"hint": "lon"}}'
    status, problem = await send(api, "PATCH", "/v1/projects/shop?dry_run=true", body)
    assert (status, problem["field"]) == (400, "placement.hint")
    status, problem = await send(api, "PATCH", "/v1/projects/shop?dry_run=yes")
    assert (status, problem["field"], problem["limit"]) == (400, "dry_run", "true or false")
    view.reload_error = "onetrip.yaml: listen: not an address"
    assert (await send(api, "POST", "/v1/reload?dry_run=true"))[0] == 422


@pytest.mark.parametrize("limit", [1, 4, 7, 100])
@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/v1/projects/shop/explain", "decisions"),
        ("/v1/projects/shop/whatif", "rows"),
        ("/v1/latencies", "latencies"),
        ("/v1/events", "events"),
    ],
)
async def test_pages_add_up_to_the_whole(
    api: aiohttp.ClientSession, path: str, rows: str, limit: int
) -> None:
    whole, seen, cursor = (await read(api, path))[rows], list[Any](), ""
    while True:
        page = await read(api, f"{path}?limit={limit}{cursor}")
        assert page.get("total", len(whole)) == len(whole)
        seen += page[rows]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == whole


@pytest.mark.parametrize("cursor", ["", "x", "é", "A" * 8_001, "gaA", "-1", "1" * 30])
@pytest.mark.parametrize("path", ["/v1/projects/shop/explain", "/v1/projects/shop/whatif"])
async def test_cursor_of_nobody_is_refused(
    api: aiohttp.ClientSession, path: str, cursor: str
) -> None:
    async with api.get(path, params={"cursor": cursor}) as reply:
        assert (reply.status, (await reply.json())["field"]) == (400, "cursor")
