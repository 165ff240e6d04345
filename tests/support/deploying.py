"""A cluster and versions of its application, deployed through the admin API."""

from __future__ import annotations

import asyncio
import io
import tarfile
import time
from typing import Any

from aiohttp import web

from support.cluster import Cluster
from support.waits import BOUND

TERMS = {
    "deployments": {"domain": "apps.test", "allow": ["127.0.0.0/8"], "check_timeout": 3},
}
DATE = "2026-11-25"
DEPLOYMENTS = "/v1/projects/shop/deployments"
PRODUCTION = "/v1/projects/shop/environments/production"


class Rig:
    """A cluster, and versions of its application."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._runners: list[web.AppRunner] = []

    async def version(self, text: str, status: int = 200) -> dict[str, list[str]]:
        """Start instances in both regions that answer with `text`; return their addresses."""

        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=text, status=status)

        found: dict[str, list[str]] = {}
        for region in self.cluster.sites:
            app = web.Application()
            app.router.add_route("*", "/{rest:.*}", answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._runners.append(runner)
            found[region] = [f"127.0.0.1:{runner.addresses[0][1]}"]
        return found

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def api(
        self, region: str, method: str, path: str, body: Any = None, **more: Any
    ) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.cluster.sites[region].admin}{path}"
        options = more or ({} if body is None else {"json": body})
        async with self.cluster.session.request(method, url, **options) as reply:
            return reply.status, await reply.json() if reply.status != 204 else None

    async def deploy(self, region: str = "den", **order: Any) -> dict[str, Any]:
        """Make a deployment and wait until its regions agree about it."""
        status, body = await self.api(
            region, "POST", DEPLOYMENTS, {"compatibility_date": DATE, **order}
        )
        assert status in (200, 201), body
        deadline = time.monotonic() + BOUND
        while body["status"] == "checking":
            assert time.monotonic() < deadline, body
            await asyncio.sleep(0.05)
            _, body = await self.api(region, "GET", f"{DEPLOYMENTS}/{body['id']}")
        assert isinstance(body, dict)
        return body

    async def get(self, edge: str, host: str, path: str = "/page") -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.cluster.sites[edge].proxy}{path}"
        async with self.cluster.session.get(url, headers={"Host": host}) as reply:
            return reply.status, await reply.text()

    async def shows(self, edge: str, host: str, text: str, path: str = "/page") -> None:
        """Wait until a host answers with `text` at an edge."""
        deadline, found = time.monotonic() + BOUND, (0, "")
        while found[1] != text:
            assert time.monotonic() < deadline, (host, text, found)
            found = await self.get(edge, host, path)
            await asyncio.sleep(0.02)


def bundle(**files: str) -> bytes:
    """Return a gzipped tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()
