"""Many real nodes on one machine, as far from each other as measured regions are.

Every node is `onetrip run` in a process of its own. What they say to each other passes the lab's
relay, which delays it by half the measured RTT each way; over NATS it passes a server in the first
region. Instances are one small server for all regions: what is measured here is the nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from onetrip.model.topology import Endpoint
from onetrip.simulate.scenario import parse_matrix
from onetrip_lab.children import Child, Children
from onetrip_lab.delay import Links
from onetrip_lab.relay import Relay
from onetrip_lab.topology import AddressPlan, RttMatrix, free_plan
from support.servers import require_program
from support.waits import BOUND

DATA = Path(__file__).parent.parent / "data"

AT_ONCE = 2
"""Nodes that start at the same time: as many as a small machine has processors."""

HOST = "shop.test"


def spread(file: str, count: int) -> RttMatrix:
    """Return the `count` regions of a measured matrix that lie farthest apart: a world of them.

    Each next one is the one whose nearest chosen region is the farthest.
    """
    names, rtts = parse_matrix((DATA / file).read_text("utf-8"))
    chosen = [0]
    while len(chosen) < count:
        nearest = rtts[:, chosen].min(axis=1)
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    regions = tuple(f"r{names[n]}" for n in chosen)
    pairs = {
        frozenset((regions[i], regions[j])): float(max(rtts[a, b], rtts[b, a]))
        for i, a in enumerate(chosen)
        for j, b in enumerate(chosen)
        if i < j
    }
    return RttMatrix(regions, pairs)


@dataclass(slots=True)
class FleetNode:
    """One running node.

    Attributes:
        url: of its admin API.
        started_at: Unix time at which its process was started.
    """

    region: str
    child: Child
    url: str
    port: Endpoint
    started_at: float

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return its log events of a name."""
        lines = self.child.log.read_text("utf-8").splitlines()
        found = [json.loads(line) for line in lines if f'"{name}"' in line]
        return [event for event in found if event["event"] == name]

    def resident(self) -> int:
        """Return its resident memory, bytes."""
        pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Return the processor time it has used, s."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Fleet:
    """The nodes, what lies between them, and what they serve.

    Args:
        projects: projects of every node besides the shop, each with instances in two regions.
        has_nats: the nodes are known to each other by NATS alone.
    """

    folder: Path
    matrix: RttMatrix
    projects: int
    has_nats: bool = False
    nodes: dict[str, FleetNode] = field(default_factory=dict)

    async def __aenter__(self) -> Fleet:
        regions = self.matrix.regions
        self.plan: AddressPlan = free_plan(regions, regions[0])
        self.children = Children(self.folder)
        self.session = aiohttp.ClientSession()
        links = Links(self.matrix)
        self._relays = [Relay(links, self.plan.region_of)]
        self._servers = [await self._serve(region) for region in regions]
        for region in regions:
            for near in (self.plan.node(region), self.plan.peer(region)):
                await self._relays[0].listen(self.plan.far_of(near), near, region)
        (self.folder / "secret").write_text("a shared secret for the fleet")
        if self.has_nats:
            await self._start_nats(links)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.session.close()
        await self.children.stop()
        for relay in self._relays:
            await relay.close()
        for server in self._servers:
            server.close()

    async def _start_nats(self, links: Links) -> None:
        program = require_program("nats-server", Path(sys.executable).parent)
        first, near = self.matrix.regions[0], self._nats(self.plan.near, 1)
        command = [program, "-js", "-sd", str(self.folder / "nats"), "-a", near.host]
        await self.children.start("nats", [*command, "-p", str(near.port)])
        for number, region in enumerate(self.matrix.regions, 1):
            # The client takes no source address: each region has a way of its own to the server.
            relay = Relay(links, lambda address, region=region: region)  # type: ignore[misc]
            await relay.listen(self._nats(self.plan.far, number), near, first)
            self._relays.append(relay)

    def _nats(self, network: int, region: int) -> Endpoint:
        return Endpoint(f"127.{network}.{region}.60", 4222)

    async def start_all(self, regions: Iterable[str]) -> None:
        """Start nodes, a few at a time, and wait until they serve."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(region: str) -> None:
            async with gate:
                await self.start(region)

        await asyncio.gather(*(one(region) for region in regions))

    def write(self, region: str, projects: int) -> Path:
        """Write a node's configuration with that many projects, and return where it is."""
        number = self.plan.index(region)
        servers = [f"nats://{self._nats(self.plan.far, number)}"] if self.has_nats else []
        path = self.folder / f"{region}.yaml"
        config = configuration(self.folder, self.plan, projects, servers)
        path.write_text(yaml.dump(config, Dumper=_DUMPER, sort_keys=False))
        return path

    async def start(self, region: str, projects: int | None = None) -> FleetNode:
        """Start a node and wait until a request to it is answered 200."""
        path = self.write(region, self.projects if projects is None else projects)
        command = [sys.executable, "-m", "onetrip.cli.main", "run"]
        command += ["--config", str(path), "--region", region]
        at = time.time()
        child = await self.children.start(f"node {region}", command, env=self._environment())
        node = FleetNode(
            region, child, f"http://{self.plan.admin(region)}", self.plan.node(region), at
        )
        self.nodes[region] = node
        async with asyncio.timeout(4 * BOUND):
            while await self.get(node) is None:
                self.children.check()
                await asyncio.sleep(0.02)
        return node

    def _environment(self) -> dict[str, str]:
        """Return the environment of a node: bytecode is kept, as that of an installation is."""
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PYTHONPYCACHEPREFIX": str(self.folder / "bytecode")}

    async def get(self, node: FleetNode, host: str = HOST) -> str | None:
        """Return which region's instance answers a request at a node; None unless it is 200."""
        timeout = aiohttp.ClientTimeout(total=2.0)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            url, headers = f"http://{node.port}/orders", {"Host": host}
            async with self.session.get(url, headers=headers, timeout=timeout) as reply:
                return await reply.text() if reply.status == 200 else None
        return None

    async def ask(self, node: FleetNode, path: str) -> Any:
        """Return what a node's admin API answers."""
        async with self.session.get(f"{node.url}{path}") as reply:
            reply.raise_for_status()
            return json.loads(await reply.read())

    async def metrics(self, node: FleetNode) -> dict[str, float]:
        """Return a node's series by name and labels as they are told."""
        async with self.session.get(f"{node.url}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        rows = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    async def change(self, node: FleetNode, project: str, **placement: object) -> None:
        """Change a project's policy at a node."""
        body = {"placement": placement}
        async with self.session.patch(f"{node.url}/v1/projects/{project}", json=body) as reply:
            assert reply.status == 200, await reply.text()

    async def know_each_other(self) -> None:
        """Wait until every node has heard of every other."""
        count = len(self.nodes)
        async with asyncio.timeout(4 * BOUND):
            for node in self.nodes.values():
                while (await self.ask(node, "/v1/status"))["regions_alive"] < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)

    async def _serve(self, region: str) -> asyncio.Server:
        endpoint, body = self.plan.instance(region), region.encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
        answer = head % len(body) + body

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(answer)
            writer.close()

        return await asyncio.start_server(serve, endpoint.host, endpoint.port)


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def configuration(
    folder: Path, plan: AddressPlan, projects: int, nats_servers: list[str]
) -> dict[str, Any]:
    """Return the configuration of a node; nodes with NATS servers have no other way to peers."""
    regions = plan.regions

    def project(host: str, at: Iterable[str]) -> dict[str, Any]:
        instances = {region: [str(plan.instance(region))] for region in at}
        return {"environments": {"production": {"hosts": [host], "instances": instances}}}

    many = {
        f"p{n}": project(f"p{n}.test", {regions[n % len(regions)], regions[n % 7 % len(regions)]})
        for n in range(projects)
    }
    cluster: dict[str, Any] = {"secret_file": "secret"}
    if nats_servers:
        cluster["nats"] = {"servers": nats_servers}
    return {
        "data_dir": str(folder / "data"),
        "log": {"level": "info", "access": "off"},
        "cluster": cluster,
        "regions": {region: _region(plan, region, not nats_servers) for region in regions},
        "projects": {"shop": project(HOST, regions), **many},
    }


def _region(plan: AddressPlan, region: str, has_pull: bool) -> dict[str, Any]:
    node = {
        "listen": str(plan.node(region)),
        "admin": str(plan.admin(region)),
        "source_address": plan.source(region),
    }
    entry: dict[str, Any] = {"proxy": str(plan.far_of(plan.node(region))), "node": node}
    if has_pull:
        entry["peer"] = str(plan.far_of(plan.peer(region)))
        node["peer_listen"] = str(plan.peer(region))
    return entry


@contextlib.asynccontextmanager
async def running_fleet(
    folder: Path, matrix: RttMatrix, projects: int, *, has_nats: bool = False
) -> AsyncIterator[Fleet]:
    """Run a fleet whose nodes all serve and know each other."""
    async with Fleet(folder, matrix, projects, has_nats) as fleet:
        await fleet.start_all(matrix.regions)
        await fleet.know_each_other()
        yield fleet
