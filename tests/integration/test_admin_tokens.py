"""Tokens, the audit log and repeated requests, on a real port over a real state file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from onetrip.control import audit, replays, tokens
from onetrip.control.store import AsyncStore, Store
from support.admin_server import admin_server
from support.fake_view import FakeView

JSON = {"Content-Type": "application/json"}
ROOT = "the token of the configuration"


def bytes_of(folder: Path) -> bytes:
    return b"".join(each.read_bytes() for each in folder.iterdir())


class Api:
    """A client of one admin API, with the node's token unless told otherwise."""

    def __init__(self, session: aiohttp.ClientSession, view: FakeView) -> None:
        self.session = session
        self.view = view

    async def call(
        self, method: str, path: str, body: bytes | None = None, *, token: str = ROOT, **more: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        headers = {"Authorization": f"Bearer {token}", **(JSON if body is not None else {})}
        headers |= {name.replace("_", "-"): text for name, text in more.items()}
        async with self.session.request(method, path, data=body, headers=headers) as reply:
            found = await reply.json() if reply.content_length else None
            return reply.status, found, reply.headers

    async def make(self, order: bytes) -> str:
        status, body, _ = await self.call("POST", "/v1/tokens", order)
        assert status == 201, body
        return str(body["secret"])


@asynccontextmanager
async def serve(path: Path) -> AsyncIterator[Api]:
    view, store = FakeView(), await AsyncStore.open(path)
    async with (
        admin_server(view, ROOT, store=store) as url,
        aiohttp.ClientSession(url) as session,
    ):
        yield Api(session, view)
    await store.close()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with serve(tmp_path / "onetrip.db") as found:
        yield found


OFF = b'{"placement": {"mode": "off"}}'


async def test_token_permits_its_scope_and_no_more(api: Api) -> None:
    reader = await api.make(b'{"name": "wall", "scope": "read"}')
    assert (await api.call("GET", "/v1/status", token=reader))[0] == 200
    for method, path, body in (
        ("PATCH", "/v1/projects/shop", OFF),
        ("POST", "/v1/drain", b'{"draining": true}'),
        ("GET", "/v1/tokens", None),
        ("GET", "/v1/audit", None),
        ("POST", "/v1/tokens", b'{"name": "more", "scope": "admin"}'),
    ):
        status, problem, headers = await api.call(method, path, body, token=reader)
        assert (status, problem["kind"]) == (403, "denied"), path
        assert 'error="insufficient_scope"' in headers["WWW-Authenticate"]
    assert api.view.changes == []


async def test_token_of_a_project_changes_that_project_only(api: Api) -> None:
    order = b'{"name": "ci", "scope": "write", "project": "shop"}'
    ci = await api.make(order)
    assert (await api.call("PATCH", "/v1/projects/shop", OFF, token=ci))[0] == 200
    assert (await api.call("PATCH", "/v1/projects/blog", OFF, token=ci))[0] == 403
    assert (await api.call("GET", "/v1/projects", token=ci))[0] == 403
    assert (await api.call("GET", "/v1/openapi.json", token=ci))[0] == 200
    assert (await api.call("GET", "/v1/problems/denied", token=ci))[0] == 200
    assert [name for name, _ in api.view.changes] == ["shop"]


async def test_revoked_token_is_refused_at_once(api: Api) -> None:
    secret = await api.make(b'{"name": "ci", "scope": "read"}')
    assert (await api.call("GET", "/v1/status", token=secret))[0] == 200
    assert (await api.call("DELETE", "/v1/tokens/ci"))[0] == 204
    assert (await api.call("GET", "/v1/status", token=secret))[0] == 401
    assert (await api.call("DELETE", "/v1/tokens/ci"))[0] == 404


async def test_expired_token_is_refused(api: Api) -> None:
    secret = await api.make(b'{"name": "ci", "scope": "read", "expires_in": 60}')
    api.view.now += 59
    assert (await api.call("GET", "/v1/status", token=secret))[0] == 200
    api.view.now += 1
    assert (await api.call("GET", "/v1/status", token=secret))[0] == 401


async def test_last_use_is_told_to_a_minute(api: Api) -> None:
    secret = await api.make(b'{"name": "ci", "scope": "read"}')

    async def used_at() -> object:
        return (await api.call("GET", "/v1/tokens"))[1]["tokens"][0]["used_at"]

    assert await used_at() is None
    first = api.view.now
    await api.call("GET", "/v1/status", token=secret)
    api.view.now += tokens.USE_INTERVAL - 1
    await api.call("GET", "/v1/status", token=secret)
    assert await used_at() == first
    api.view.now += 1
    await api.call("GET", "/v1/status", token=secret)
    assert await used_at() == api.view.now


async def test_state_file_holds_no_secret_and_tokens_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "onetrip.db"
    async with serve(path) as api:
        secret = await api.make(b'{"name": "ci", "scope": "read"}')
        assert secret.startswith(tokens.PREFIX)
        assert len(secret) == len(tokens.PREFIX) + 43
    assert secret.removeprefix(tokens.PREFIX).encode() not in bytes_of(tmp_path)
    async with serve(path) as api:
        assert (await api.call("GET", "/v1/status", token=secret))[0] == 200


@pytest.mark.parametrize(
    ("order", "status", "field"),
    [
        (b'{"name": "ci", "scope": "read"}', 409, "name"),
        (b'{"name": "config", "scope": "read"}', 400, "name"),
        (b'{"name": "Not a name", "scope": "read"}', 400, "name"),
        (b'{"name": "x", "scope": "root"}', 400, "scope"),
        (b'{"name": "x", "scope": "read", "expires_in": 0}', 400, "expires_in"),
        (b'{"name": "x", "scope": "read", "project": "nope"}', 404, "project"),
        (b'{"name": "x"}', 400, "scope"),
    ],
)
async def test_token_that_cannot_be_is_refused_by_field(
    api: Api, order: bytes, status: int, field: str
) -> None:
    await api.make(b'{"name": "ci", "scope": "read"}')
    found, problem, _ = await api.call("POST", "/v1/tokens", order)
    assert found == status
    assert field in problem["field"] or field in problem["detail"]
    assert len((await api.call("GET", "/v1/tokens"))[1]["tokens"]) == 1


async def test_tokens_need_a_place_on_disk() -> None:
    async with admin_server(FakeView()) as url, aiohttp.ClientSession(url) as session:
        order = b'{"name": "ci", "scope": "read"}'
        async with session.post("/v1/tokens", data=order, headers=JSON) as reply:
            assert reply.status == 409
            assert "data_dir" in (await reply.json())["detail"]


async def test_change_is_audited_with_who_and_from_what_to_what(api: Api) -> None:
    ci = await api.make(b'{"name": "ci", "scope": "write"}')
    await api.call("PATCH", "/v1/projects/shop", OFF, token=ci, X_Request_Id="deploy-7")
    await api.call("PATCH", "/v1/projects/shop", b"{}", token=ci)
    await api.call("PATCH", "/v1/projects/nope", OFF, token=ci)
    changes = (await api.call("GET", "/v1/audit"))[1]["changes"]
    assert [(c["operation"], c["subject"], c["caller"]) for c in changes] == [
        ("change_project", "shop", "ci"),
        ("create_token", "ci", "config"),
    ]
    made = changes[0]
    assert (made["before"]["mode"], made["after"]["mode"]) == ("smart", "off")
    assert (made["request_id"], made["address"]) == ("deploy-7", "127.0.0.1")
    assert made["at"] == api.view.now


async def test_every_reply_has_a_request_id(api: Api) -> None:
    _, _, first = await api.call("GET", "/v1/status")
    _, _, other = await api.call("GET", "/v1/nope", X_Request_Id="no spaces, please")
    assert len({first["X-Request-Id"], other["X-Request-Id"]}) == 2
    assert " " not in other["X-Request-Id"]


async def test_audit_log_is_read_page_by_page(api: Api) -> None:
    for n in range(5):
        await api.make(b'{"name": "t%d", "scope": "read"}' % n)
    seen, cursor = list[str](), ""
    while True:
        _, page, _ = await api.call("GET", f"/v1/audit?limit=2{cursor}")
        seen += [change["subject"] for change in page["changes"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == ["t4", "t3", "t2", "t1", "t0"]
    assert (await api.call("GET", "/v1/audit?cursor=x"))[0] == 400


def test_audit_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_ROWS", 10)
    store = Store(tmp_path / "onetrip.db")
    for n in range(30):
        made = audit.Change(float(n), "ci", "", "", "drain", "den", None, "x" * 5000)
        audit.append(store, made)
    rows = audit.page(store, 100, None)
    assert [change.at for _, change in rows] == [float(n) for n in range(29, 19, -1)]
    assert rows[0][1].after == "5002 bytes, not kept"
    store.close()


async def test_repeated_request_is_answered_again_and_done_once(api: Api) -> None:
    key = {"Idempotency_Key": "deploy-7"}
    first = await api.call("PATCH", "/v1/projects/shop", OFF, **key)
    again = await api.call("PATCH", "/v1/projects/shop", OFF, **key)
    assert first[:2] == again[:2]
    assert first[2]["ETag"] == again[2]["ETag"]
    assert again[2]["Idempotency-Replayed"] == "true"
    assert len(api.view.changes) == 1
    other = await api.call("PATCH", "/v1/projects/shop", b'{"placement": {}}', **key)
    assert (other[0], other[1]["field"]) == (422, "idempotency-key")
    api.view.now += replays.MAX_AGE
    await api.call("PATCH", "/v1/projects/shop", OFF, **key)
    assert len(api.view.changes) == 2


async def test_key_belongs_to_its_caller(api: Api) -> None:
    ci = await api.make(b'{"name": "ci", "scope": "write"}')
    await api.call("PATCH", "/v1/projects/shop", OFF, Idempotency_Key="1")
    await api.call("PATCH", "/v1/projects/shop", OFF, token=ci, Idempotency_Key="1")
    assert len(api.view.changes) == 2


async def test_refused_request_can_be_tried_again_with_its_key(api: Api) -> None:
    full_disk = b'{"placement": {"control": 0.5}}'
    for _ in range(2):
        found = await api.call("PATCH", "/v1/projects/shop", full_disk, Idempotency_Key="1")
        assert found[0] == 503
    assert (await api.call("PATCH", "/v1/projects/shop", OFF, Idempotency_Key="1"))[0] == 200


async def test_two_at_once_are_done_once(api: Api) -> None:
    calls = (api.call("PATCH", "/v1/projects/shop", OFF, Idempotency_Key="1") for _ in range(8))
    found = await asyncio.gather(*calls)
    assert {status for status, *_ in found} <= {200, 409}
    assert len(api.view.changes) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_unusable_key_is_refused(api: Api, key: str) -> None:
    status, problem, _ = await api.call("PATCH", "/v1/projects/shop", OFF, Idempotency_Key=key)
    assert (status, problem["field"]) == (400, "idempotency-key")
    assert api.view.changes == []


async def test_file_of_an_older_onetrip_gets_the_new_tables(tmp_path: Path) -> None:
    path = tmp_path / "onetrip.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        for table in ("tokens", "audit", "replies"):
            db.execute(f"DROP TABLE {table}")
    db.close()
    async with serve(path) as api:
        assert await api.make(b'{"name": "ci", "scope": "read"}')
