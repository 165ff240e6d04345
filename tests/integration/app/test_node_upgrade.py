"""Upgrades of a running node: its successor takes over sockets and state, and nothing fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from support.fake_upstream import FakeUpstream
from support.served_node import BOUND, Load, ServedNode, is_alive, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


async def test_upgrade_under_load_fails_no_request_and_keeps_what_was_changed(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, ServedNode(tmp_path, upstream.port) as node:
        change = {"placement": {"mode": "smart", "control": 0.25}}
        assert (await node.call("PATCH", "/v1/projects/shop", change))[0] == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", node.proxy)
        assert not await is_last(reader, writer)
        async with Load(node.proxy) as load:
            await load.more(100)
            status, reply = await node.call("POST", "/v1/upgrade")
            assert (status, reply["pid"] != node.pid) == (200, True)
            await load.more(100)
            await until(lambda: not listens(node.proxy, node.pid))
            # A connection that was idle meanwhile is served once more, and told to go.
            assert await is_last(reader, writer)
            writer.close()
            # The old process has answered its last requests, and is gone before its deadline.
            await until(lambda: not is_alive(node.pid))
            await load.more(100)
        assert load.failures == []
        assert load.closed >= 1
        assert is_alive(reply["pid"])
        _, project = await node.call("GET", "/v1/projects/shop")
        assert (project["placement"]["mode"], project["placement"]["control"]) == ("smart", 0.25)
        assert await node.logged("app.remembered")
        os.kill(reply["pid"], signal.SIGTERM)
        await until(lambda: not is_alive(reply["pid"]))


async def is_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send a request, and tell whether its response says that the connection ends."""
    async with asyncio.timeout(BOUND):
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
    assert head.startswith(b"HTTP/1.1 200 ")
    return b"connection: close" in head.lower()


def listens(port: int, pid: int) -> bool:
    """Tell whether a process listens on a port, by its sockets in /proc."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    mine = [r.split() for r in rows if r.split()[1].endswith(f":{port:04X}")]
    nodes = {row[9] for row in mine if row[3] == "0A"}
    with contextlib.suppress(OSError):
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        return any(f"socket:[{node}]" in links for node in nodes)
    return False


async def test_successor_that_cannot_start_leaves_everything_as_it_was(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, ServedNode(tmp_path, upstream.port) as node:
        good = node.config.read_text()
        node.config.write_text(good.replace("shop.test", "not a host"))
        async with Load(node.proxy) as load:
            await load.more(50)
            status, problem = await node.call("POST", "/v1/upgrade")
            assert status == 409
            assert "onetrip.yaml: projects.shop" in problem["detail"]
            await load.more(50)
        assert (load.failures, load.closed) == ([], 0)
        change = {"placement": {"mode": "smart"}}
        assert (await node.call("PATCH", "/v1/projects/shop", change))[0] == 200
        _, events = await node.call("GET", "/v1/events")
        assert events["events"][1]["name"] == "app.upgrade_failed"
        assert await node.metric("onetrip_app_upgrades_total", outcome="failed") == 1
        node.config.write_text(good)
        assert (await node.call("POST", "/v1/reload"))[0] == 200


async def test_sockets_of_the_service_manager_are_served_and_an_upgrade_takes_them_along(
    tmp_path: Path,
) -> None:
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(BOUND)
    clients, admin = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    async with FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        node.write_config(listen="127.0.0.1:1", admin={"listen": "127.0.0.1:1"})
        node.proxy, node.admin = clients.getsockname()[1], admin.getsockname()[1]
        try:
            start_with(node, [clients, admin], tmp_path)
            assert await asyncio.to_thread(notices.recv, 100) == b"READY=1"
            async with Load(node.proxy) as load:
                await load.more(20)
            assert load.failures == []
            os.kill(node.pid, signal.SIGUSR2)
            said = await asyncio.to_thread(notices.recv, 100)
            upgraded = await node.logged("app.upgraded")
            assert said == b"MAINPID=%d\nREADY=1" % upgraded["pid"]
            async with Load(node.proxy) as load:
                await load.more(20)
            assert load.failures == []
        finally:
            await node.__aexit__()
            for sock in (notices, clients, admin):
                sock.close()


def start_with(node: ServedNode, sockets: list[socket.socket], folder: Path) -> None:
    """Start a node as systemd does: sockets from descriptor 3 on, `LISTEN_PID` its own."""
    script = (
        "import os, sys\n"
        "fds = [int(a) for a in sys.argv[1].split(',')]\n"
        "high = [os.dup2(fd, 200 + i) for i, fd in enumerate(fds)]\n"
        "for i, fd in enumerate(high): os.dup2(fd, 3 + i); os.close(fd)\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    shim = folder / "shim.py"
    shim.write_text(script)
    descriptors = [sock.fileno() for sock in sockets]
    node.command = [
        *(sys.executable, str(shim), ",".join(map(str, descriptors))),
        *("-OO", "-m", "onetrip.cli.launch", str(node.config)),
    ]
    env = {
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": "listen:admin",
        "NOTIFY_SOCKET": str(folder / "notify"),
    }
    node.start(env, pass_fds=descriptors)
