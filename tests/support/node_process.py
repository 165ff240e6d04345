"""A whole node in a process of its own, as `onetrip run` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from support.ports import free_ports
from support.waits import BOUND

START_TIMEOUT = 60.0
"""Time for a node to come up, s."""

ATTEMPTS = 5
"""Starts on other ports: the kernel may give a port that was free to a client's connection."""


class NodeProcess:
    """A running node.

    Attributes:
        port, admin: where it serves clients, and its admin API.
        pid: of the process.
        folder: its configuration, log (`events`) and access log (`access`).
    """

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, ports: list[int]) -> None:
        self.process = process
        self.pid = process.pid
        self.folder = folder
        self.port, self.admin = ports

    @property
    def events(self) -> list[dict[str, Any]]:
        """Log events so far."""
        text = (self.folder / "events").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    @property
    def log(self) -> str:
        """Everything on standard error so far."""
        return (self.folder / "events").read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Access log so far."""
        text = (self.folder / "access").read_text()
        return [json.loads(line) for line in text.splitlines()]

    async def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, summed over the labels that are not given; 0 when absent."""
        text = await asyncio.to_thread(self._fetch, "/metrics")
        total = 0.0
        for line in text.splitlines():
            head, _, value = line.rpartition(" ")
            wanted = [f'{label}="{text}"' for label, text in labels.items()]
            if head.partition("{")[0] == name and all(part in head for part in wanted):
                total += float(value)
        return total

    async def until_metric(self, name: str, least: float = 1.0, **labels: str) -> float:
        """Wait until a metric has reached a value, and return it."""
        async with asyncio.timeout(BOUND):
            while (value := await self.metric(name, **labels)) < least:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return value

    def cpu_seconds(self) -> float:
        """Return the processor time it has used, s."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Return its resident memory, bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def stop(self) -> None:
        """End it, politely at first; safe to call when it has ended."""
        if self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), 40)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    def _fetch(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=BOUND) as reply:
            return str(reply.read().decode())


@contextlib.asynccontextmanager
async def running_node_process(
    folder: Path,
    upstream: int | str,
    *,
    hosts: tuple[str, ...] = ("shop.test", "127.0.0.1"),
    config: Mapping[str, Any] | None = None,
    prefix: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
    events: str | None = None,
) -> AsyncIterator[NodeProcess]:
    """Run a node with one project whose instance is at a port or address.

    Args:
        config: keys that replace those at the top of the configuration; those of `admin` join it.
        prefix: a command to run it by, such as one that sets a limit.
        arguments: of `onetrip run`, besides the configuration.
        events: a file for its standard error that cannot be read again, such as /dev/full.
    """
    address = upstream if isinstance(upstream, str) else f"127.0.0.1:{upstream}"
    environment = {"hosts": list(hosts), "instances": {"here": [address]}}
    projects = {"shop": {"environments": {"production": environment}}}
    settings = {
        "log": {"level": "info", "access": str(folder / "access")},
        "regions": {"here": {}},
        "projects": projects,
        **(config or {}),
    }
    node = await _start(folder, settings, prefix, arguments, events)
    try:
        yield node
    finally:
        await node.stop()


async def _start(
    folder: Path,
    settings: Mapping[str, Any],
    prefix: tuple[str, ...],
    arguments: tuple[str, ...],
    events: str | None,
) -> NodeProcess:
    path = folder / "onetrip.yaml"
    program = (sys.executable, "-m", "onetrip.cli.main", "run")
    command = (*prefix, *program, "--config", str(path), *arguments)
    for _ in range(ATTEMPTS):
        ports = free_ports(2)
        admin = {"listen": f"127.0.0.1:{ports[1]}", **settings.get("admin", {})}
        listen = {"listen": f"127.0.0.1:{ports[0]}"}
        path.write_text(yaml.safe_dump({**listen, **settings, "admin": admin}))
        with Path(events or folder / "events").open("wb") as log:  # noqa: ASYNC230
            process = await asyncio.create_subprocess_exec(*command, stderr=log)
        node = NodeProcess(process, folder, ports)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while process.returncode is None:
                    if await _is_open(ports) if events else "app.started" in node.log:
                        return node
                    await asyncio.sleep(0.02)
        except BaseException:
            await node.stop()
            raise
        if "Address already in use" not in node.log:
            break
    raise AssertionError(events or node.log)


async def _is_open(ports: list[int]) -> bool:
    """Tell whether something listens on all of them."""
    try:
        for port in ports:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
    except OSError:
        return False
    return True
