"""HTTP/2 with programs that are not ours: a browser's WebSocket, and nginx as the application."""

from __future__ import annotations

import asyncio
import contextlib
import http
import os
import socket
from pathlib import Path

import pytest
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from onetrip.model.topology import Endpoint, HttpProtocol
from onetrip.net.tls import CertificateSet, load_certificate
from support.certs import Authority
from support.chromium import find_chromium, open_chromium
from support.ports import free_ports
from support.proxy_rig import one_region
from support.servers import require_program
from support.waits import eventually

PAGE = b"<!doctype html><title>chat</title>"
TALK = """
new Promise((resolve, reject) => {
  const heard = [];
  const socket = new WebSocket('wss://' + location.host + '/chat', ['chat']);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => { socket.send('hello'); socket.send(new Uint8Array(200000)); };
  socket.onmessage = (event) => {
    heard.push(event.data.byteLength || event.data);
    if (heard.length === 2) socket.close(1000, 'done');
  };
  socket.onclose = (event) => resolve([...heard, socket.protocol, event.code, event.wasClean]);
  socket.onerror = () => reject('failed');
})
"""


@pytest.mark.needs_server("chromium")
async def test_browser_talks_websocket_on_its_http2_connection(tmp_path):
    if find_chromium() is None:
        require_program("chromium")
    pair = Authority(tmp_path).issue("web", "localhost")
    offers = ("h2", "http/1.1")
    served = CertificateSet([load_certificate(pair.cert, pair.key, protocols=offers)])
    vias: list[str] = []

    async def echo(socket):
        vias.append(socket.request.headers["Via"])
        async for message in socket:
            await socket.send(message)

    def page(connection, request):
        if request.path == "/chat":
            return None
        fields = Headers({"Content-Type": "text/html", "Content-Length": str(len(PAGE))})
        return Response(http.HTTPStatus.OK.value, "OK", fields, PAGE)

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serve(echo, "127.0.0.1", 0, process_request=page, subprotocols=["chat"])
        )
        endpoint = Endpoint("127.0.0.1", next(iter(server.sockets)).getsockname()[1])
        options = {"hosts": ("localhost",), "certificates": served}
        rig = await stack.enter_async_context(one_region(endpoint, **options))
        browser = open_chromium(
            "--ignore-certificate-errors", "--host-resolver-rules=MAP localhost 127.0.0.1"
        )
        tab = await stack.enter_async_context(browser)
        await tab.open(f"https://localhost:{rig.tls_port}/")
        assert await tab.evaluate(TALK) == ["hello", 200000, "chat", 1000, True]
        assert vias == ["2.0 onetrip"]
        await eventually(lambda: any(line["status"] == 101 for line in rig.lines))


@contextlib.asynccontextmanager
async def nginx(folder: Path):
    """Run nginx with a port that speaks HTTP/2 in clear; gives the port."""
    program = require_program("nginx")
    (port,) = free_ports(1)
    (folder / "www").mkdir()
    (folder / "www" / "big").write_bytes(bytes(range(256)) * 4096)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"""
        {user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 128; }}
        http {{
          access_log off; client_body_temp_path {folder}/body; keepalive_requests 20;
          proxy_temp_path {folder}/a; fastcgi_temp_path {folder}/b;
          uwsgi_temp_path {folder}/c; scgi_temp_path {folder}/d;
          server {{
            listen 127.0.0.1:{port} http2; root {folder}/www;
            location /hello {{ return 200 "$request_method $host $server_protocol"; }}
          }}
        }}
        """
    )
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")
    )
    try:
        await eventually(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        await process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.needs_server("nginx")
async def test_nginx_is_an_application_over_http2(tmp_path):
    async with nginx(tmp_path) as port:
        endpoint = Endpoint("127.0.0.1", port, None, HttpProtocol.H2)
        async with one_region(endpoint) as rig:
            get = b"GET %b HTTP/1.1\r\nHost: shop.test\r\n\r\n"
            for _ in range(50):  # more than nginx takes on one connection: it says GOAWAY
                answer = await rig.ask(get % b"/hello")
                assert (answer.status, answer.body) == (200, b"GET shop.test HTTP/2.0")
            asks = [rig.ask(get % b"/big") for _ in range(10)]
            assert {a.body for a in await asyncio.gather(*asks)} == {bytes(range(256)) * 4096}
            assert (await rig.ask(get % b"/none")).status == 404
            head = await rig.ask(b"HEAD /big HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert head.header("Content-Length") == [str(256 * 4096)]
            etag = head.header("ETag")[0].encode()
            again = b"GET /big HTTP/1.1\r\nHost: shop.test\r\nIf-None-Match: %b\r\n\r\n" % etag
            assert (await rig.ask(again)).status == 304
            assert {line["error"] for line in rig.lines} == {None}
