"""A real node as a process (and its workers), and clients that notice every failed request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from support.ports import free_ports

REQUEST = b"GET /item HTTP/1.1\r\nHost: shop.test\r\n\r\n"
BOUND = 60.0
"""Longest wait for anything here, s; a busy machine starts an interpreter in seconds."""


class ServedNode:
    """One region's node; everything it starts is killed at the end.

    Args:
        upstream: port of the application.
        more: further top-level keys of the configuration.
    """

    def __init__(self, folder: Path, upstream: int, **more: Any) -> None:
        self.folder = folder
        self.proxy, self.admin = free_ports(2)
        self.config = folder / "onetrip.yaml"
        self.log = folder / "log"
        self.upstream = upstream
        self.command = [sys.executable, "-OO", "-m", "onetrip.cli.launch", str(self.config)]
        self.process: subprocess.Popen[bytes] | None = None
        self.write_config(**more)

    def write_config(self, **more: Any) -> None:
        """Write the configuration anew; `more` replaces top-level keys."""
        instances = {"here": [f"127.0.0.1:{self.upstream}"]}
        environment = {"hosts": ["shop.test"], "instances": instances, "health_path": "/"}
        config = {
            "listen": f"127.0.0.1:{self.proxy}",
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "data_dir": str(self.folder / "data"),
            "score_interval": 0.1,
            "log": {"access": "off"},
            "regions": {"here": {}},
            "projects": {"shop": {"environments": {"production": environment}}},
        }
        self.config.write_text(yaml.safe_dump(config | more))

    def start(self, env: Mapping[str, str] | None = None, **options: Any) -> None:
        """Start it, without waiting; `options` are `Popen`'s."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                **options,
            )

    async def __aenter__(self) -> ServedNode:
        self.start()
        await self.logged("app.started")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await asyncio.to_thread(self.process.wait, BOUND)

    @property
    def pid(self) -> int:
        """The process that was started here; a successor has another one."""
        assert self.process is not None
        return self.process.pid

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of one event so far."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line.get("event") == name]

    async def logged(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until an event was logged `count` times, and return the last one."""
        await until(lambda: len(self.events(name)) >= count, lambda: self.log.read_text())
        return self.events(name)[-1]

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call the admin API on a connection of its own."""
        url = f"http://127.0.0.1:{self.admin}{path}"
        options: dict[str, Any] = {} if method == "GET" else {"json": body or {}}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, **options) as reply,
        ):
            text = await reply.text()
            return reply.status, json.loads(text) if "json" in reply.content_type else text

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry `labels`."""
        _, text = await self.call("GET", "/metrics")
        rows = re.findall(rf"(?m)^{name}(?:{{(.*)}})? (\S+)$", text)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(value) for told, value in rows if all(w in told for w in wanted))


class Load:
    """Clients that keep their connections and send one request after another.

    A client opens another connection only when a response said `Connection: close`; anything else
    that ends one is a failure.

    Attributes:
        answered, closed: responses, and those that said `Connection: close`.
        failures: what went wrong.
    """

    def __init__(self, port: int, clients: int = 4, request: bytes = REQUEST) -> None:
        self.answered = self.closed = 0
        self.failures: list[str] = []
        self._port = port
        self._clients = clients
        self._request = request
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ending = False

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_ending = True
        async with asyncio.timeout(BOUND):
            await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Wait for `count` further responses (or a failure)."""
        wanted = self.answered + count
        await until(lambda: self.answered >= wanted or bool(self.failures))

    async def _client(self) -> None:
        while not self._is_ending:
            try:
                async with asyncio.timeout(BOUND):
                    await self._connection()
            except (OSError, EOFError, TimeoutError, AssertionError) as error:
                self.failures.append(repr(error))
                return

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while not self._is_ending:
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                assert length, head
                await reader.readexactly(int(length[1]))
                self.answered += 1
                if b"connection: close" in head.lower():
                    self.closed += 1
                    return
        finally:
            writer.close()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    with contextlib.suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


async def until(claim: Callable[[], bool], told: Callable[[], str] = lambda: "") -> None:
    """Wait until `claim` holds; `told` says what else was seen when it does not."""
    deadline = time.monotonic() + BOUND
    while not claim():
        assert time.monotonic() < deadline, f"not within {BOUND:g} s {told()}"
        await asyncio.sleep(0.02)
