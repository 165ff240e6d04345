"""Applications that die, stall or talk nonsense, and names that lead elsewhere.

The first line of each test is a row of docs/conformance.md: fault | what a client sees | sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time

import pytest

from onetrip.model.topology import Endpoint
from onetrip.proxy.settings import ProxySettings
from support.fake_upstream import OK, FakeUpstream
from support.node_process import running_node_process
from support.proxy_rig import DEN, ProxyRig, make_catalog, make_topology, one_region
from support.waits import BOUND, eventually

GET = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
QUICK = ProxySettings(read_timeout=0.3, write_timeout=0.3, connect_timeout=0.5)

SERVER = """
import asyncio, sys
async def serve(reader, writer):
    while head := await reader.readuntil(b"\\r\\n\\r\\n"):
        if b"/big" in head:
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n" + b"x" * 50000)
        else:
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Application:
    """A server in a process of its own, to be killed and stopped."""

    port = 0

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVER, str(self.port)), stdout=asyncio.subprocess.PIPE
        )
        self.port = int(await self.process.stdout.readline())

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()


@contextlib.asynccontextmanager
async def application():
    """Run an application; it is gone afterwards, whatever a test did to it."""
    server = Application()
    await server.start()
    try:
        yield server
    finally:
        await server.end()


def at(server) -> Endpoint:
    """Return where an application listens."""
    return Endpoint("127.0.0.1", server.port)


async def test_killed_in_the_middle_of_a_body():
    """Instance killed (SIGKILL) in the middle of a body | the connection is cut, so that the body \
cannot look complete | error kind `reset`"""
    async with application() as server, one_region(at(server)) as rig, rig.client() as client:
        await client.send(GET.replace(b"/a", b"/big"))
        await client.head()
        await client.reader.readexactly(50_000)
        os.kill(server.process.pid, signal.SIGKILL)
        assert await client.is_closed()
        await eventually(lambda: len(rig.lines) == 1)
        assert (rig.lines[0]["status"], rig.lines[0]["error"]) == (200, "reset")
        assert rig.metrics.errors.labels("upstream", "reset")._value.get() == 1


async def test_killed_and_started_again():
    """Instance killed and started again | idempotent requests on kept connections are repeated; \
502 while nothing listens, 200 afterwards | error kind `connect`"""
    settings = ProxySettings(fail_time=0.05)
    async with application() as server, one_region(at(server), settings=settings) as rig:
        assert (await rig.ask(GET)).status == 200
        await server.end()
        assert (await rig.ask(GET)).status == 502
        assert rig.lines[-1]["error"] == "connect"
        await server.start()
        async with asyncio.timeout(BOUND):
            while (await rig.ask(GET)).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_stopped_process():
    """Instance stalls (SIGSTOP) before it accepts or answers | 504 after `read_timeout` | error \
kind `timeout`"""
    async with application() as server, one_region(at(server), settings=QUICK) as rig:
        assert (await rig.ask(GET)).status == 200
        os.kill(server.process.pid, signal.SIGSTOP)
        # On a kept connection, and on one that only the kernel has accepted.
        assert [(await rig.ask(GET)).status for _ in range(2)] == [504, 504]
        assert {line["error"] for line in rig.lines[1:]} == {"timeout"}
        os.kill(server.process.pid, signal.SIGCONT)
        async with asyncio.timeout(BOUND):
            while (await rig.ask(GET)).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", "timeout"),
        (b"HTTP/1.1 20", "timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "timeout"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "timeout"),
        (b"HTTP/1.1 200 OK\r\n\r\nhalf", "timeout"),
    ],
)
async def test_stall_in_any_phase(sent, kind):
    """Instance stalls before, in or after the head, or in a body | 504, or a cut connection once \
bytes have gone out | error kind `timeout`"""

    async def stall(connection):
        await connection.read_request()
        await connection.send(sent)
        await connection.read_to_end()

    async with (
        FakeUpstream(stall) as upstream,
        one_region(upstream.endpoint, settings=QUICK) as rig,
        rig.client() as client,
    ):
        await client.send(GET)
        try:
            raw = await client.rest() if b"\r\n\r\n" in sent else await client.head()
        except ConnectionResetError:
            raw = b"HTTP/1.1 200 "  # cut once the head was out
        assert raw.startswith(b"HTTP/1.1 200 " if b"\r\n\r\n" in sent else b"HTTP/1.1 504 ")
        await eventually(lambda: len(rig.lines) == 1)
        assert rig.lines[0]["error"] == kind
        assert rig.metrics.errors.labels("upstream", kind)._value.get() == 1


async def test_slow_drip():
    """Instance sends one byte at a time | the whole response: silence ends it, slowness does not \
| none"""

    async def drip(connection):
        await connection.read_request()
        for byte in OK.replace(b": 2", b": 40").replace(b"ok", b"x" * 40):
            await connection.send(bytes([byte]))
            await asyncio.sleep(0.005)

    async with (
        FakeUpstream(drip) as upstream,
        one_region(upstream.endpoint, settings=ProxySettings(read_timeout=2.0)) as rig,
    ):
        assert (await rig.ask(GET)).body == b"x" * 40


async def test_endless_head():
    """Instance sends a head without end | 502 at `head_limit` | error kind `head_too_large`"""

    async def flood(connection):
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await connection.send(b"A: b\r\n" * 1000)

    async with FakeUpstream(flood) as upstream, one_region(upstream.endpoint) as rig:
        assert (await rig.ask(GET)).status == 502
        assert rig.lines[0]["error"] == "head_too_large"
        assert rig.metrics.errors.labels("upstream", "head_too_large")._value.get() == 1


async def test_garbage():
    """Instance answers in another protocol | 502 | error kind `malformed`"""

    async def talk(connection):
        await connection.read_request()
        await connection.send(b"220 mail.test ESMTP\r\n\r\n")
        await connection.read_to_end()

    async with FakeUpstream(talk) as upstream, one_region(upstream.endpoint) as rig:
        assert (await rig.ask(GET)).status == 502
        assert rig.lines[0]["error"] == "malformed"


async def test_no_idempotent_request_is_lost():
    """One of two instances dies under load, with every kept connection | every GET is answered \
200 by the other one | `onetrip_proxy_retries_total`"""

    async def slow(connection):
        while await connection.read_request():
            await asyncio.sleep(0.002)
            await connection.send(OK)

    async with (
        FakeUpstream() as stays,
        FakeUpstream(slow) as dies,
        ProxyRig(
            make_catalog({DEN: [stays.endpoint, dies.endpoint]}), make_topology({DEN: None})
        ) as rig,
    ):
        statuses: list[int] = []

        async def load():
            async with rig.client() as client:
                for _ in range(60):
                    await client.send(GET)
                    statuses.append((await client.response()).status)

        async def kill():
            await eventually(lambda: dies.count_requests() > 10)
            for connection in dies.connections:
                connection.reset()
            await dies.close()

        await asyncio.gather(kill(), *(load() for _ in range(4)))
        assert statuses == [200] * 240
        assert rig.metrics.retries._value.get() >= 1


@pytest.fixture
def namespace(tmp_path):
    """Return the command prefix that gives a node its own hosts file, and the file."""
    program = shutil.which("unshare")
    hosts, resolv = tmp_path / "hosts", tmp_path / "resolv"
    hosts.write_text("127.0.0.1 localhost\n")
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    script = (
        f'mount --bind {hosts} /etc/hosts && mount --bind {resolv} /etc/resolv.conf && exec "$@"'
    )
    prefix = (program or "", "-m", "sh", "-c", script, "-")
    if program is None or os.geteuid() != 0:
        pytest.skip("mount namespaces need root and unshare")
    if os.system(f"{program} -m true 2>/dev/null") != 0:
        pytest.skip("mount namespaces are not allowed here")
    return prefix, hosts


async def test_name_that_moves(tmp_path, namespace):
    """An instance's name leads nowhere, then to another address | 502 until it resolves; then new \
connections go to the new address | error kind `connect`"""
    prefix, hosts = namespace

    async def serve(text):
        async def answer(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(OK.replace(b"ok", text))
            writer.close()

        return answer

    first = await asyncio.start_server(await serve(b"n1"), "127.0.0.2", 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(await serve(b"n2"), "127.0.0.3", port)
    config = {"proxy": {"pool_idle": 0}, "probe": {"interval": 0.2}}
    async with (
        first,
        second,
        running_node_process(
            tmp_path, f"app.internal:{port}", config=config, prefix=prefix
        ) as node,
    ):
        status, _ = await answer_of(node.port)
        assert status in (502, 503, 504)
        for address, text in (("127.0.0.2", b"n1"), ("127.0.0.3", b"n2")):
            hosts.write_text(f"127.0.0.1 localhost\n{address} app.internal\n")
            deadline = time.monotonic() + BOUND
            while await answer_of(node.port) != (200, text):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        kinds = {line["error"] for line in node.lines}
        assert kinds <= {None, "connect", "timeout", "unavailable"}


async def answer_of(port: int) -> tuple[int, bytes]:
    """Return status and the last two bytes of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    async with asyncio.timeout(BOUND):
        raw = await reader.read()
    writer.close()
    return int(raw.split(b" ")[1]), raw[-2:]
