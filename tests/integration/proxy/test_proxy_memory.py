"""A body of any size passes through a few hundred kB of buffers, in either direction."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from support.fake_http2_upstream import FakeHttp2Upstream
from support.fake_upstream import FakeUpstream
from support.proxy_process import peak_memory

SIZE = int(os.environ.get("ONETRIP_BODY_MB", "256")) << 20
BLOCK = bytes(1 << 18)
LIMIT = 20 << 20
HTTP2_SIZE = SIZE // 4  # the test's own HTTP/2 server is slow


async def swallow_then_flood(connection):
    """Read a body of SIZE bytes, then send one."""
    await connection.read_head()
    left = SIZE
    while left:
        left -= len(await connection.reader.read(min(left, 1 << 18)))
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // len(BLOCK)):
        await connection.send(BLOCK)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux /proc")
async def test_large_body_each_way_adds_little_memory():
    async with FakeUpstream(swallow_then_flood) as upstream, proxy(upstream.port) as (pid, port):
        before = peak_memory(pid)
        await asyncio.wait_for(upload_and_download(port), 120)
        assert peak_memory(pid) - before < LIMIT


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux /proc")
async def test_large_file_adds_little_memory(tmp_path):
    (tmp_path / "big").write_bytes(b"")
    os.truncate(tmp_path / "big", SIZE)
    async with proxy(1, str(tmp_path)) as (pid, port):
        before = peak_memory(pid)
        await asyncio.wait_for(download(port), 120)
        assert peak_memory(pid) - before < LIMIT


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux /proc")
async def test_large_body_over_http2_adds_little_memory():
    async def handle(request):
        request.is_kept = False
        await request.whole()
        assert request.size == HTTP2_SIZE
        await request.head(200, [("content-length", str(HTTP2_SIZE))])
        for _ in range(HTTP2_SIZE // len(BLOCK)):
            await request.send(BLOCK)
        await request.send(b"", ends=True)

    async with FakeHttp2Upstream(handle) as upstream, proxy(f"h2:{upstream.port}") as (pid, port):
        before = peak_memory(pid)
        await asyncio.wait_for(upload_and_download(port, HTTP2_SIZE), 120)
        assert peak_memory(pid) - before < LIMIT


@contextlib.asynccontextmanager
async def proxy(upstream_port: int | str, *arguments: str):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.proxy_process", str(upstream_port), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process.pid, int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def upload_and_download(port: int, size: int = SIZE) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(size // len(BLOCK)):
        writer.write(BLOCK)
        await writer.drain()
    await swallow(reader, size)
    writer.close()


async def download(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /big HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    await swallow(reader)
    writer.close()


async def swallow(reader: asyncio.StreamReader, size: int = SIZE) -> None:
    await reader.readuntil(b"\r\n\r\n")
    left = size
    while left:
        data = await reader.read(min(left, 1 << 18))
        assert data, f"{left} bytes are missing"
        left -= len(data)
