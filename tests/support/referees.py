"""Independent readers of HTTP/1: what requests does each see in the bytes of one connection?

h11 and httptools (llhttp) run in this process; nginx and Node's server are real ones, asked over
loopback. All answer in one form, so that a test can ask whether they agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import h11
import httptools

from support.ports import free_port
from support.servers import require_program
from support.waits import BOUND


@dataclass(frozen=True, slots=True)
class Seen:
    """One complete request; `body` is None where the reader tells only its `size`, bytes."""

    method: bytes
    target: bytes
    size: int
    body: bytes | None = None

    def is_as(self, other: Seen) -> bool:
        """Tell whether both are the same request, as far as both readers tell."""
        known = self.body is not None and other.body is not None
        return (self.method, self.target, self.size) == (
            other.method,
            other.target,
            other.size,
        ) and (not known or self.body == other.body)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader made of some bytes.

    Attributes:
        requests: the complete ones, in order.
        refuses: it found something it does not accept after them.
        stops: it reads no further for another reason: the connection closes or switches.
    """

    requests: tuple[Seen, ...]
    refuses: bool
    stops: bool = False


Referee = Callable[[bytes], Awaitable[Verdict]]

TIMEOUT = 40.0
"""Bound on one question to a server, s."""


async def ask_h11(data: bytes) -> Verdict:
    """Read as h11 does."""
    found: list[Seen] = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    request: h11.Request | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return Verdict(tuple(found), refuses=True)
        if isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            found.append(Seen(bytes(request.method), _path(bytes(request.target)), len(body), body))
            if not _answer(connection):
                return Verdict(tuple(found), refuses=False, stops=True)
        else:
            return Verdict(tuple(found), refuses=False)


def _answer(connection: h11.Connection) -> bool:
    """Answer a request, as a server would before the next; False when the connection is over."""
    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is not h11.DONE:
        return False
    connection.start_next_cycle()
    return True


class _Llhttp:
    def __init__(self) -> None:
        self.found: list[Seen] = []
        self.is_last = False
        self._target = self._body = b""
        self._parser = httptools.HttpRequestParser(self)

    def read(self, data: bytes) -> bool:
        """Feed everything; True when the parser refuses something."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.is_last = True
        except httptools.HttpParserError:
            return not self.is_last
        return False

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, data: bytes) -> None:
        self._target += data

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self.is_last:
            return
        method = self._parser.get_method()
        self.found.append(Seen(method, _path(self._target), len(self._body), self._body))
        self.is_last = not self._parser.should_keep_alive()


async def ask_llhttp(data: bytes) -> Verdict:
    """Read as httptools does, which is llhttp."""
    reader = _Llhttp()
    refuses = reader.read(data)
    return Verdict(tuple(reader.found), refuses, reader.is_last)


_NODE = """
const http = require('http');
const answer = (request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts).toString('hex');
    response.setHeader('X-Seen', JSON.stringify([request.method, request.url, body]));
    response.setHeader('X-Stops', String('upgrade' in request.headers));
    response.end();
  });
};
const server = http.createServer(answer);
server.on('checkContinue', answer).on('checkExpectation', answer);
server.httpAllowHalfOpen = true;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
"""


@contextlib.asynccontextmanager
async def running_node() -> AsyncIterator[Referee | None]:
    """Run Node's HTTP server; None when there is no Node."""
    program = shutil.which("node")
    if program is None:
        yield None
        return
    process = await asyncio.create_subprocess_exec(
        program, "-e", _NODE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(BOUND):
            port = int(await process.stdout.readline())

        async def ask(data: bytes) -> Verdict:
            raw = await _exchange(port, data)
            seen = [json.loads(line) for line in re.findall(rb"\r\nX-Seen: (.*)\r\n", raw)]
            found = [(m.encode(), t.encode("latin-1"), bytes.fromhex(b)) for m, t, b in seen]
            requests = tuple(Seen(m, _path(t), len(b), b) for m, t, b in found)
            return Verdict(
                requests,
                refuses=b"HTTP/1.1 400 " in raw or b"HTTP/1.1 431 " in raw,
                stops=b"\r\nX-Stops: true\r\n" in raw or b"\r\nConnection: close\r\n" in raw,
            )

        yield ask
    finally:
        process.stdin.close()
        await process.wait()


@contextlib.asynccontextmanager
async def running_nginx() -> AsyncIterator[int]:
    """Run nginx; every answer's field `X-Seen` says what request it took. Yields the port."""
    program = require_program("nginx")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="onetrip-nginx-") as name:
        folder = Path(name)
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port))
        process = await asyncio.create_subprocess_exec(
            *(program, "-c", str(config), "-p", name, "-e", str(folder / "error.log"))
        )
        try:
            await _until_open(port, process)
            yield port
        finally:
            process.terminate()
            await process.wait()


_NGINX = """
daemon off; master_process off; pid {folder}/pid;
error_log {folder}/error.log crit;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 100000; lingering_timeout 1s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  large_client_header_buffers 4 32k;
  server {{
    listen 127.0.0.1:{port};
    add_header X-Seen "$request_method $request_uri" always;
    location / {{ proxy_ignore_client_abort on; proxy_pass http://unix:{folder}/socket:; }}
  }}
  server {{
    listen unix:{folder}/socket;
    add_header X-Size "$content_length";
    location / {{ return 200 ok; }}
  }}
}}
"""


def nginx_verdict(raw: bytes) -> Verdict:
    """Read nginx's answers."""
    requests: list[Seen] = []
    refuses = stops = False
    for head in re.findall(rb"HTTP/1\.[01] [2-5][0-9][0-9] [^\r]*\r\n(?:[^\r\n]+\r\n)*", raw):
        seen = re.search(rb"\r\nX-Seen: ([^ ]*) ([^\r]*)\r\n", head)
        size = re.search(rb"\r\nX-Size: ([0-9]+)\r\n", head)
        if seen is None or not head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
            refuses = True
        else:
            requests.append(Seen(seen[1], _path(seen[2]), int(size[1]) if size else 0))
            stops |= b"\r\nConnection: close\r\n" in head
    return Verdict(tuple(requests), refuses, stops)


def ask_nginx(port: int) -> Referee:
    """Return the referee that is the nginx at `port`."""

    async def ask(data: bytes) -> Verdict:
        return nginx_verdict(await _exchange(port, data))

    return ask


async def _exchange(port: int, data: bytes) -> bytes:
    """Send everything, end our side, and return what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = b""
    try:
        async with asyncio.timeout(TIMEOUT):
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                writer.write_eof()
                while chunk := await reader.read(65536):
                    raw += chunk
    finally:
        writer.close()
    return raw


async def _until_open(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(BOUND):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
    raise AssertionError("nginx ended at once")


def _path(target: bytes) -> bytes:
    """Return a request target without scheme and authority, as a server behind a proxy sees it."""
    return re.sub(rb"^https?://[^/?]*(?=/|$)", b"", target, flags=re.IGNORECASE) or b"/"
