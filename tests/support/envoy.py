"""The real Envoy for tests: started from a bootstrap, on loopback, and killed at the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from onetrip.model.catalog import Catalog, Environment, EnvironmentId, Instance, Policy, Project
from onetrip.model.placement import Placement, PlacementSnapshot, Status
from onetrip.model.topology import Endpoint, RegionId
from onetrip.proxy.settings import ProxySettings
from onetrip.xds.bootstrap import Bootstrap, Identity
from onetrip.xds.terms import Address, Plan, Terms
from support.fake_upstream import Connection, Handler
from support.servers import require_program
from support.waits import BOUND

CACHE = Path.home() / ".cache" / "onetrip-envoy" / "bin"
"""Where .ci/run installs the program; one on PATH is as good."""

HERE, THERE = RegionId("here"), RegionId("there")
SHOP = EnvironmentId("shop", "production")

_numbers = count(time.time_ns() % 1_000_000)


@asynccontextmanager
async def running_envoy(
    bootstrap: Mapping[str, Any], folder: Path, *options: str
) -> AsyncIterator[Path]:
    """Run an Envoy; yields its log file."""
    program = require_program("envoy", CACHE)
    config, log = folder / "envoy.json", folder / "envoy.log"
    config.write_text(json.dumps(bootstrap))
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(program, "-c", str(config), "--concurrency", "1", "-l", "warning"),
            *("--base-id", str(next(_numbers)), *options),
            stdout=out,
            stderr=out,
        )
    try:
        yield log
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def bootstrap_for(control: int, admin: int, identity: Identity | None = None) -> dict[str, Any]:
    """Return the bootstrap of an Envoy that follows a control plane on loopback."""
    return Bootstrap(HERE, ("127.0.0.1", control), ("127.0.0.1", admin), identity, 1000).body()


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send one request on a connection of its own; return status, fields and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(BOUND):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            fields = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            body = await reader.readexactly(int(fields.get("content-length", "0")))
    finally:
        writer.close()
    return int(lines[0].split()[1]), fields, body


def get(path: str = "/", host: str = "shop.test", more: str = "") -> bytes:
    """Return a request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


async def serving(port: int, request: bytes = b"") -> None:
    """Wait until a port answers a request with 200."""
    async with asyncio.timeout(BOUND):
        while True:
            try:
                if (await ask(port, request or get()))[0] == 200:
                    return
            except (OSError, EOFError):
                pass
            await asyncio.sleep(0.02)


def echo(name: str) -> Handler:
    """Return a handler that tells its name and the head it was sent."""

    async def handle(connection: Connection) -> None:
        while head := await connection.read_request():
            body = name.encode() + b"\n" + head
            start = b"HTTP/1.1 200 OK\r\nServer: app\r\nContent-Length: %d\r\n\r\n" % len(body)
            await connection.send(start + body)

    return handle


def plan_for(
    port: int,
    instances: Mapping[RegionId, Sequence[int | Endpoint]],
    placement: Placement | None = None,
    *,
    policy: Policy | None = None,
    more: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Plan:
    """Return the plan of an Envoy at `port` whose only project has these instances.

    Args:
        instances: of each region, by port or endpoint.
        placement: of everything.
        more: fields of the environment; `fields` are the plan's.
    """
    found = tuple(
        Instance(region, Endpoint("127.0.0.1", each) if isinstance(each, int) else each)
        for region, places in instances.items()
        for each in places
    )
    environment = Environment(SHOP, ("shop.test",), found, {}, **(more or {}))
    catalog = Catalog({"shop": Project("shop", policy or Policy(), {"production": environment})})
    placements = {SHOP: placement} if placement is not None else {}
    snapshot = fields.pop("snapshot", None) or PlacementSnapshot(HERE, 1, {}, placements)
    terms = fields.pop("terms", None) or Terms(Address("127.0.0.1", port), ProxySettings())
    return Plan(HERE, terms, catalog, snapshot, **fields)


def pinned(region: RegionId) -> Placement:
    """Return the placement of a route that a person pinned."""
    return Placement(Status.PINNED, (region,), HERE)


def placed(region: RegionId, control: float = 0.0, explore: float = 0.0) -> Placement:
    """Return the placement of a route that runs in another region than here."""
    return Placement(
        Status.PLACED,
        (region, HERE),
        HERE,
        control_ratio=control,
        explore=HERE if explore else None,
        explore_ratio=explore,
    )
