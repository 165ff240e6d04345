"""A machine that runs out of something: the node goes on serving, tells it, and recovers.

The first line of each test is a row of docs/conformance.md: fault | what a client sees | sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shutil
import urllib.error
import urllib.request

import pytest

from support.fake_upstream import FakeUpstream
from support.node_process import running_node_process
from support.waits import BOUND

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
DROPPED = "onetrip_proxy_access_log_dropped"


async def ask(port: int) -> int:
    """Return the status of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await ask_on(reader, writer)
    finally:
        writer.close()


async def ask_on(reader, writer) -> int:
    """Return the status of one request; 0 when the connection ends instead."""
    async with asyncio.timeout(BOUND):
        try:
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0
    return int(head.split(b" ")[1])


async def eventually_served(port: int) -> None:
    """Wait until a new connection is served again."""
    async with asyncio.timeout(BOUND):
        while await ask(port) != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def limited(*limits: str) -> tuple[str, ...]:
    """Return the command prefix that sets resource limits, or skip."""
    program = shutil.which("prlimit")
    if program is None:
        pytest.skip("prlimit is not installed")
    return (program, *limits, "--")


async def test_file_descriptors_run_out(tmp_path):
    """File descriptors run out | as many clients as there are descriptors for are served, the \
rest get 503 | `proxy.connections_full`, `onetrip_proxy_refused_connections_total`"""
    async with (
        FakeUpstream() as upstream,
        running_node_process(tmp_path, upstream.port, prefix=limited("--nofile=64:64")) as node,
        contextlib.AsyncExitStack() as stack,
    ):
        first = await asyncio.open_connection("127.0.0.1", node.port)
        stack.callback(first[1].close)
        assert await ask_on(*first) == 200
        crowd = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(100)]
        refused = "onetrip_proxy_refused_connections_total"
        assert await node.until_metric(refused, 81, reason="overload") == 81
        before = node.cpu_seconds()
        await asyncio.sleep(1.0)
        assert node.cpu_seconds() - before < 0.5  # it does not spin
        assert await ask_on(*first) == 200
        statuses = await asyncio.gather(*(ask_on(*each) for each in crowd))
        assert sorted(set(statuses) - {0}) == [200, 503]
        assert statuses.count(200) == 19
        for _, writer in crowd:
            writer.close()
        await node.until_metric("onetrip_proxy_requests_total", 21)
        await eventually_served(node.port)
        names = [event["event"] for event in node.events]
        assert "app.connections_limited" in names
        assert names.count("proxy.connections_full") == 1
        assert "probe.target_lost" not in names


async def test_access_log_disk_is_full(tmp_path):
    """The access log's disk is full | nothing | `app.access_log_failed`, \
`onetrip_proxy_access_log_dropped`"""
    config = {"log": {"access": "/dev/full"}}
    async with (
        FakeUpstream() as upstream,
        running_node_process(tmp_path, upstream.port, config=config) as node,
    ):
        assert [await ask(node.port) for _ in range(5)] == [200] * 5
        await node.until_metric(DROPPED, 5)
        assert await ask(node.port) == 200
        await node.until_metric(DROPPED, 6)
        assert [e["event"] for e in node.events].count("app.access_log_failed") == 1


async def test_event_log_disk_is_full(tmp_path):
    """The event log's disk is full | nothing | metrics still tell"""
    async with (
        FakeUpstream() as upstream,
        running_node_process(tmp_path, upstream.port, events="/dev/full") as node,
    ):
        assert [await ask(node.port) for _ in range(5)] == [200] * 5
        assert await node.until_metric("onetrip_proxy_requests_total", 5) == 5


def call(admin: int, method: str, path: str, body: dict[str, object]) -> int:
    """Return the status of a call of the admin API."""
    headers = {"Content-Type": "application/json"}
    url, data = f"http://127.0.0.1:{admin}{path}", json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=BOUND) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_store_disk_is_full(tmp_path):
    """The store's disk is full | nothing; a change of policy is refused whole (503) | \
`app.task_failed`, `onetrip_app_task_failures_total`"""
    config = {"data_dir": str(tmp_path / "data"), "log": {"access": "off"}}
    async with (
        FakeUpstream() as upstream,
        running_node_process(tmp_path, upstream.port, config=config) as node,
    ):
        (log,) = (tmp_path / "data").rglob("*.db-wal")
        full = log.stat().st_size + 20_000  # a few changes fit in
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (full, full))
        statuses = [200]
        while statuses[-1] == 200 and len(statuses) < 40:
            change = {"placement": {"hint": None if len(statuses) % 2 else "here"}}
            arguments = (node.admin, "PATCH", "/v1/projects/shop", change)
            statuses.append(await asyncio.to_thread(call, *arguments))
        assert statuses[-1] == 503
        drain = {"draining": False}  # makes an event, which cannot be kept
        assert await asyncio.to_thread(call, node.admin, "POST", "/v1/drain", drain) == 200
        assert await ask(node.port) == 200
        await node.until_metric("onetrip_app_task_failures_total")


async def test_many_idle_connections(tmp_path):
    """Thousands of idle connections | new ones are served | `onetrip_proxy_connections`"""
    count = 2000
    async with (
        FakeUpstream() as upstream,
        running_node_process(tmp_path, upstream.port) as node,
        contextlib.AsyncExitStack() as stack,
    ):
        before = node.resident()
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", node.port)
            stack.callback(writer.close)
        await node.until_metric("onetrip_proxy_connections", count, side="downstream")
        assert await ask(node.port) == 200
        assert (node.resident() - before) / count < 20_000
