"""Servers in processes of their own: the application, and the proxy everybody writes first.

    python -m field.servers upstream PORT
    python -m field.servers naive PORT UPSTREAM_PORT

The application answers `/bytes/N` with N bytes; anything else gives 1,024.
"""

from __future__ import annotations

import asyncio
import re
import sys

import uvloop

BLOCK = b"x" * (1 << 20)
HEAD = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: bench\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
)
SMALL = HEAD % 1024 + BLOCK[:1024]
SIZE = re.compile(rb"GET /bytes/([0-9]+) ")


class Upstream(asyncio.Protocol):
    """The cheapest HTTP server Python can be: it reads nothing but the end of each head."""

    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""
        self.left = 0
        self.is_paused = False

    def data_received(self, data):
        data = self.rest + data
        count = data.count(b"\r\n\r\n")
        self.rest = b"" if data.endswith(b"\r\n\r\n") else data.rpartition(b"\r\n\r\n")[2]
        if count and (asked := SIZE.match(data)):
            self.left = int(asked[1])
            self.transport.write(HEAD % self.left)
            self._stream()
        elif count:
            self.transport.write(SMALL * count)

    def pause_writing(self):
        self.is_paused = True

    def resume_writing(self):
        self.is_paused = False
        self._stream()

    def _stream(self):
        while self.left and not self.is_paused:
            block = BLOCK if self.left >= len(BLOCK) else BLOCK[: self.left]
            self.left -= len(block)
            self.transport.write(block)


async def serve_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


async def serve_naive(port: int, upstream: int) -> None:
    import aiohttp
    from aiohttp import web

    async def handle(request: web.Request) -> web.StreamResponse:
        session = request.app["session"]
        headers = {k: v for k, v in request.headers.items() if k.lower() != "connection"}
        headers["X-Forwarded-For"] = request.remote or ""
        url = f"http://127.0.0.1:{upstream}{request.rel_url}"
        body = request.content if request.can_read_body else None
        async with session.request(request.method, url, headers=headers, data=body) as reply:
            response = web.StreamResponse(status=reply.status)
            for name, value in reply.headers.items():
                if name.lower() not in ("connection", "transfer-encoding"):
                    response.headers.add(name, value)
            await response.prepare(request)
            async for chunk in reply.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application()
    app["session"] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=256), auto_decompress=False
    )
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    role, *numbers = sys.argv[1:]
    uvloop.run({"upstream": serve_upstream, "naive": serve_naive}[role](*map(int, numbers)))
