"""Memory of an idle kept connection, in clear and over TLS.

    python tests/benchmark/bench_idle.py [COUNT]

A node of its own process gets COUNT (10,000) clients that send one request each and stay. What its
resident memory grew by, over COUNT, is printed. COUNT is bounded by the file descriptors.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.certs import Authority
from support.fake_upstream import FakeUpstream
from support.node_process import NodeProcess, running_node_process
from support.ports import free_ports

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n"
AT_ONCE = 50
"""Clients that connect at the same time."""

WARM_UP = 500
"""Clients before the measurement: what they make the node allocate once is not counted."""


async def connect(port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    """Open a connection, send one request on it and read the answer."""
    name = "shop.test" if context is not None else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    writer.write(GET)
    await reader.readuntil(b"ok")
    return writer


async def connect_many(
    port: int, context: ssl.SSLContext | None, count: int
) -> list[asyncio.StreamWriter]:
    """Open `count` connections, some at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> asyncio.StreamWriter:
        async with gate:
            return await connect(port, context)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def settled(node: NodeProcess) -> int:
    """Return resident memory once it stands still, bytes."""
    size, before = node.resident(), -1
    while size != before:
        await asyncio.sleep(0.5)
        size, before = node.resident(), size
    return size


async def measure(folder: Path, count: int, *, is_tls: bool) -> float:
    """Return the bytes a connection takes."""
    authority = Authority(folder)
    pair = authority.issue("web", "shop.test")
    (port,) = free_ports(1)
    certificate = {"cert": str(pair.cert), "key": str(pair.key)}
    config = {
        "log": {"access": "off"},
        "proxy": {"idle_timeout": 600},
        "tls": {"listen": f"127.0.0.1:{port}", "certificates": [certificate]},
    }
    context = authority.client_context() if is_tls else None
    async with (
        FakeUpstream() as upstream,
        running_node_process(folder, upstream.port, config=config) as node,
    ):
        target = port if is_tls else node.port
        writers = await connect_many(target, context, min(WARM_UP, count // 4))
        before = await settled(node)
        more = await connect_many(target, context, count - len(writers))
        size = (await settled(node) - before) / len(more)
        for writer in [*writers, *more]:
            writer.transport.abort()
        return size


async def main(wanted: int) -> None:
    """Measure both and print them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(wanted, (hard - 100) // 2)
    for is_tls in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            size = await measure(Path(folder), count, is_tls=is_tls)
        kind = "TLS" if is_tls else "clear"
        print(f"{kind}: {size:,.0f} bytes a connection ({count:,} idle kept connections)")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
