"""An ingest endpoint of Sentry that keeps the events of the envelopes it is sent."""

from __future__ import annotations

import gzip
import json
from typing import Any

from aiohttp import web

KEY = "0123456789abcdef0123456789abcdef"
PROJECT = "42"


class FakeSentry:
    """Serves Sentry's envelope endpoint on loopback.

    Attributes:
        events: the events that arrived, decoded, in order.
        raw: the bodies, decompressed.
        auth: `X-Sentry-Auth` of the last one.
        status: what envelopes are answered.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.auth = ""
        self.status = 200
        self.dsn = ""
        app = web.Application()
        app.router.add_post(f"/api/{PROJECT}/envelope/", self._take)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> FakeSentry:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.dsn = f"http://{KEY}@127.0.0.1:{self._runner.addresses[0][1]}/{PROJECT}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.auth = request.headers.get("X-Sentry-Auth", "")
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        self.raw.append(body)
        if self.status == 200:
            self._keep(body)
        return web.json_response({}, status=self.status)

    def _keep(self, body: bytes) -> None:
        """Read an envelope: a line of headers, then items of a line of headers and a payload."""
        _, _, rest = body.partition(b"\n")
        while rest.strip():
            line, _, rest = rest.partition(b"\n")
            headers = json.loads(line)
            size = headers.get("length", rest.find(b"\n") if b"\n" in rest else len(rest))
            payload, rest = rest[:size], rest[size:].removeprefix(b"\n")
            if headers["type"] == "event":
                self.events.append(json.loads(payload))
