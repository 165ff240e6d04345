"""A Kubernetes API on loopback: lists and watches EndpointSlices, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiohttp import web

TOKEN = "token-of-a-service-account"

PATH = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


class KubernetesServer:
    """The slices of one cluster, by namespace and name; every change has a version.

    Attributes:
        token: that a caller must show.
        status: of every reply, when it is not 200.
        page: slices a page of the list.
        oldest: versions before this one are forgotten: who watches from one is told 410.
        expires_in_stream: say so in the watch's stream instead of by a status.
        lists, watches: requests so far.
    """

    def __init__(self) -> None:
        self.token = TOKEN
        self.status = 200
        self.page = 500
        self.oldest = 0
        self.expires_in_stream = False
        self.lists = self.watches = 0
        self.url = ""
        self._version = 10
        self._slices: dict[tuple[str, str], dict[str, Any]] = {}
        self._history: list[tuple[int, str, dict[str, Any]]] = []
        self._changed = asyncio.Event()
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def version(self) -> int:
        """Of the newest change."""
        return self._version

    @property
    def watching(self) -> int:
        """Watches that are open."""
        return len(self._open)

    def put(self, name: str, *addresses: str, port: int, service: str = "web") -> None:
        """Make or replace a slice of the namespace "shop"."""
        key = ("shop", name)
        kind = "MODIFIED" if key in self._slices else "ADDED"
        self._slices[key] = {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": True, "serving": True}}
                for address in addresses
            ],
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        }
        self._note(kind, self._slices[key])

    def delete(self, name: str) -> None:
        """Delete a slice."""
        self._note("DELETED", self._slices.pop(("shop", name)))

    def bookmark(self) -> None:
        """Tell watches the newest version, though nothing changed for them."""
        self._note("BOOKMARK", {"metadata": {}})

    def forget(self) -> None:
        """Forget every version up to now, as a server does after some minutes."""
        self.oldest = self._version
        self._history.clear()

    def disconnect(self) -> None:
        """Break every watch."""
        for task in self._open:
            task.cancel()

    def _note(self, kind: str, item: dict[str, Any]) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, kind, json.loads(json.dumps(item))))
        self._changed.set()
        self._changed = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a list or a watch."""
        if request.headers.get("Authorization", "") != f"Bearer {self.token}":
            return web.json_response({"kind": "Status", "code": 401}, status=401)
        if self.status != 200:
            return web.json_response({"kind": "Status"}, status=self.status)
        if request.query.get("watch") == "1":
            return await self._watch(request)
        return self._list(request)

    def _list(self, request: web.Request) -> web.Response:
        self.lists += 1
        start = int(request.query.get("continue", "0"))
        found = list(self._matching(request))
        end = start + min(self.page, int(request.query["limit"]))
        metadata = {"resourceVersion": str(self._version)}
        if end < len(found):
            metadata["continue"] = str(end)
        return web.json_response({"kind": "List", "metadata": metadata, "items": found[start:end]})

    def _matching(self, request: web.Request) -> Iterable[dict[str, Any]]:
        label, _, service = request.query["labelSelector"].partition("=")
        for (namespace, _), each in self._slices.items():
            is_here = namespace == request.match_info["namespace"]
            if is_here and each["metadata"]["labels"][label] == service:
                yield each

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watches += 1
        assert request.query["allowWatchBookmarks"] == "true"
        seen = int(request.query["resourceVersion"])
        if seen < self.oldest and not self.expires_in_stream:
            return web.json_response({"kind": "Status", "code": 410}, status=410)
        reply = web.StreamResponse(headers={"Content-Type": "application/json"})
        await reply.prepare(request)
        if seen < self.oldest:
            await reply.write(_line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
            return reply
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while True:
                changed = self._changed
                for version, kind, item in [each for each in self._history if each[0] > seen]:
                    await reply.write(_line(kind, item))
                    seen = version
                await changed.wait()
        finally:
            self._open.discard(task)


def _line(kind: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


@contextlib.asynccontextmanager
async def running_kubernetes() -> AsyncIterator[KubernetesServer]:
    """Run an API for the length of a test."""
    server = KubernetesServer()
    app = web.Application()
    app.router.add_get(PATH, server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        server.disconnect()
        await runner.cleanup()
