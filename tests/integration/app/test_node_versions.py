"""One node from the first token to a rollback, over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from support.node_process import NodeProcess, running_node_process

ROOT = "a token of the configuration"


class Api:
    """Calls a node as the bearer of one token."""

    def __init__(self, node: NodeProcess, token: str) -> None:
        self.url = f"http://127.0.0.1:{node.admin}"
        self.headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(self.url, headers=self.headers) as session,
            session.request(method, path, json=body) as reply,
        ):
            return reply.status, await reply.json()

    async def placement(self) -> tuple[str, str, float]:
        _, body = await self.call("GET", "/v1/projects/shop")
        found = body["placement"]
        return found["mode"], found["hint"], found["control"]


async def test_rollback_undoes_what_came_after_and_outlives_a_restart(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(ROOT)
    config = {
        "data_dir": str(tmp_path / "data"),
        "admin": {"token_file": str(tmp_path / "token")},
    }
    shop, rollback = "/v1/projects/shop", "/v1/projects/shop/rollback"
    async with running_node_process(tmp_path, 9, config=config) as node:
        order = {"name": "ci", "scope": "write", "project": "shop"}
        status, made = await Api(node, ROOT).call("POST", "/v1/tokens", order)
        assert status == 201
        api = Api(node, made["secret"])
        configured = await api.placement()
        await api.call("PATCH", shop, {"placement": {"mode": "smart"}})
        await api.call("PATCH", shop, {"placement": {"hint": "here", "control": 0.2}})
        assert await api.placement() == ("smart", "here", 0.2)

        _, told = await api.call("POST", f"{rollback}?dry_run=true", {"version": 1})
        assert (told["placement"]["mode"], told["placement"]["hint"]) == ("smart", "")
        assert await api.placement() == ("smart", "here", 0.2)
        assert (await api.call("POST", rollback, {"version": 1}))[0] == 200
        assert await api.placement() == ("smart", "", configured[2])
    assert made["secret"] not in node.log

    async with running_node_process(tmp_path, 9, config=config) as node:
        api = Api(node, made["secret"])
        assert await api.placement() == ("smart", "", configured[2])
        _, kept = await api.call("GET", f"{shop}/versions")
        found = [(row["version"], row["mode"], row["hint"]) for row in kept["versions"]]
        assert found == [(3, "smart", None), (2, "smart", "here"), (1, "smart", None)]
        assert (await api.call("POST", rollback, {"version": 0}))[0] == 200
        assert await api.placement() == configured
        _, audit = await Api(node, ROOT).call("GET", "/v1/audit")
        assert [(c["operation"], c["caller"]) for c in audit["changes"]] == [
            ("rollback", "ci"),
            ("rollback", "ci"),
            ("change_project", "ci"),
            ("change_project", "ci"),
            ("create_token", "config"),
        ]
