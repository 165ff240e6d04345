"""A small real cluster in one process: nodes, instances and a backend that is near one region.

The backend is an HTTP server that answers after the delay of the region that asks (each region has
its own port for it), so probes measure that RTT; an instance serves a request by waiting
`trips x delay` of its own region, as an application with sequential queries would. Between the
regions is a relay that takes its time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import aiohttp
import yaml
from aiohttp import web

from onetrip.app.config import load_settings
from onetrip.app.envoy import bootstrap_of
from onetrip.app.node import Node
from onetrip.model.topology import Endpoint, parse_endpoint
from onetrip.observe.logs import silent_log
from onetrip_lab.delay import Links
from onetrip_lab.relay import Relay
from onetrip_lab.topology import RttMatrix
from support.certs import Authority
from support.envoy import get, running_envoy, serving
from support.ports import free_ports

SECRET = "a shared secret for tests"

DELAYS = {"den": 0.060, "bom": 0.001}
"""RTT from each region to the backend, s."""

PEER_RTT = 0.045
"""RTT between the regions, s. Regions beside each other would be as far from the backend, and a
node that claims otherwise is not believed."""

TRIPS = {"/orders": 5, "/item": 1, "/about": 0}
"""Sequential round trips a request of each route makes."""


@dataclass(slots=True)
class Site:
    """One region's servers and addresses."""

    name: str
    proxy: int
    peer: int
    admin: int
    forward: int
    instance: int = 0
    backend: int = 0
    served: int = 0
    node: Node | None = None
    runners: list[web.AppRunner] = field(default_factory=list)
    instance_runner: web.AppRunner | None = None


class Way(NamedTuple):
    """How the node of one region reaches that of another: the `proxy` or `peer` address."""

    source: str
    target: str
    address: str


class Cluster:
    """Two regions, `den` far from the backend and `bom` beside it, or those of `delays`."""

    def __init__(
        self,
        folder: Path,
        placement: Mapping[str, object],
        authority: Authority | None = None,
        has_envoys: bool = False,
        delays: Mapping[str, float] = DELAYS,
    ) -> None:
        self.folder = folder
        self.delays = delays
        self.placement = dict(placement)
        self.trips = dict(TRIPS)
        self.more: dict[str, object] = {}
        """Further top-level keys of every node's configuration."""
        self.tells_trips = False
        """Whether instances tell their trips in Server-Timing."""
        self.has_envoys = has_envoys
        """Whether an Envoy serves in each region; the nodes only tell it what to do."""
        self._envoys = contextlib.AsyncExitStack()
        self.authority = authority
        """Issues the nodes' certificates; None lets them talk in clear."""
        ports = free_ports(4 * len(delays))
        self.sites = {
            name: Site(name, ports.pop(), ports.pop(), ports.pop(), ports.pop()) for name in delays
        }
        self.session: aiohttp.ClientSession
        pairs = permutations(delays, 2)
        ways = [Way(*pair, address) for pair in pairs for address in ("proxy", "peer")]
        self._ways = dict(zip(ways, free_ports(len(ways)), strict=True))
        self._relays: dict[Way, Relay] = {}

    async def start(self) -> None:
        """Start instances, backends and nodes."""
        self.session = aiohttp.ClientSession()
        for site in self.sites.values():
            site.backend = await self._serve(site, self._backend(site))
            site.instance = await self._serve(site, self._instance(site))
            site.instance_runner = site.runners[-1]
        (self.folder / "secret").write_text(SECRET)
        for site in self.sites.values():
            self.write_config(site)
            await self.start_node(site.name)
            if self.has_envoys:
                await self._start_envoy(site)

    async def stop(self) -> None:
        """Stop everything, whatever state it is in."""
        await self.session.close()
        await self._envoys.aclose()
        for site in self.sites.values():
            await self.stop_node(site.name)
            for runner in site.runners:
                await runner.cleanup()
        for name in self.sites:
            await self._close_ways(name)

    async def start_node(self, name: str) -> Node:
        """Start (or restart) one region's node."""
        site = self.sites[name]
        site.node = Node(load_settings(self.path_of(name), name), log=silent_log())
        await site.node.start()
        await self._open_ways(name)
        return site.node

    async def stop_node(self, name: str) -> None:
        """Stop one region's node."""
        site = self.sites[name]
        if site.node is not None:
            node, site.node = site.node, None
            await node.stop(0.5)
            if not self.has_envoys:  # those go on
                await self._close_ways(name)

    async def _open_ways(self, name: str) -> None:
        """Let the other regions reach a node, from far away."""
        pairs = {frozenset((way.source, way.target)) for way in self._ways}
        matrix = RttMatrix(tuple(self.sites), dict.fromkeys(pairs, PEER_RTT))
        region = self._region(self.sites[name])
        for way, port in self._ways.items():
            if way.target == name and way.address in region and way not in self._relays:
                self._relays[way] = relay = Relay(Links(matrix), _always(way.source))
                near = parse_endpoint(str(region[way.address]))
                await relay.listen(Endpoint("127.0.0.1", port), near, name)

    async def _close_ways(self, name: str) -> None:
        """Refuse connections from other regions."""
        for way in [way for way in self._relays if way.target == name]:
            await self._relays.pop(way).close()

    async def _start_envoy(self, site: Site) -> None:
        folder = self.folder / f"envoy-{site.name}"
        folder.mkdir()
        body = bootstrap_of(load_settings(self.path_of(site.name), site.name))
        await self._envoys.enter_async_context(running_envoy(body, folder))
        await serving(site.proxy, get("/about"))

    def node(self, name: str) -> Node:
        """Return a running node."""
        node = self.sites[name].node
        assert node is not None
        return node

    def path_of(self, name: str) -> Path:
        """Return the configuration file of a region's node."""
        return self.folder / f"{name}.yaml"

    def write_config(self, site: Site, **more: object) -> None:
        """Write a node's configuration; `more` replaces top-level keys."""
        cluster: dict[str, object] = {"secret_file": "secret", "sync_interval": 0.1}
        if self.authority is not None:
            files = {"cert": "node-{region}.pem", "key": "node-{region}.key"}
            cluster["tls"] = {"ca": str(self.authority.file), **files}
        regions = {each.name: self._region(each) for each in self.sites.values()}
        for way, port in self._ways.items():
            if way.source == site.name and way.address in regions[way.target]:
                regions[way.target][way.address] = f"127.0.0.1:{port}"
        config = {
            "data_dir": str(self.folder / "data"),
            "score_interval": 0.1,
            "cluster": cluster,
            "probe": {"interval": 0.2},
            "log": {"access": "off"},
            "regions": regions,
            "backends": {"db": {"kind": "http", "address": f"127.0.0.1:{site.backend}"}},
            "projects": {"shop": self._project()},
        }
        if self.has_envoys:
            config["data_plane"] = "envoy"
        self.path_of(site.name).write_text(yaml.safe_dump(config | self.more | more))

    async def get(self, edge: str, path: str) -> tuple[int, str]:
        """Send one request to an edge and return status and where it ran."""
        url = f"http://127.0.0.1:{self.sites[edge].proxy}{path}"
        async with self.session.get(url, headers={"Host": "shop.test"}) as reply:
            await reply.read()
            return reply.status, reply.headers.get("onetrip-placement", "")

    async def many(self, edge: str, path: str, count: int, width: int = 8) -> list[str]:
        """Send `count` requests, `width` at a time; every one must succeed."""
        places: list[str] = []

        async def worker(share: int) -> None:
            for _ in range(share):
                status, place = await self.get(edge, path)
                assert status == 200
                places.append(place)

        await asyncio.gather(*(worker(count // width) for _ in range(width)))
        return places

    async def patch(self, edge: str, placement: Mapping[str, object]) -> int:
        """Change the project's policy through one node's admin API."""
        url = f"http://127.0.0.1:{self.sites[edge].admin}/v1/projects/shop"
        async with self.session.patch(url, json={"placement": placement}) as reply:
            return reply.status

    def _region(self, site: Site) -> dict[str, object]:
        node = {
            "listen": f"127.0.0.1:{site.proxy}",
            "admin": f"127.0.0.1:{site.admin}",
            "peer_listen": f"127.0.0.1:{site.peer}",
        }
        proxy = site.proxy
        if self.has_envoys:
            node["envoy_listen"] = f"127.0.0.1:{site.forward}"
        elif self.authority is not None:
            proxy = site.forward
            node["forward_listen"] = f"127.0.0.1:{proxy}"
        return {"proxy": f"127.0.0.1:{proxy}", "peer": f"127.0.0.1:{site.peer}", "node": node}

    def _project(self) -> dict[str, object]:
        instances = {s.name: [f"127.0.0.1:{s.instance}"] for s in self.sites.values()}
        return {
            "placement": self.placement,
            "environments": {
                "production": {
                    "hosts": ["shop.test"],
                    "bindings": {"db": "db"},
                    "instances": instances,
                    "health_path": "/about",
                }
            },
        }

    async def _serve(self, site: Site, app: web.Application) -> int:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.runners.append(runner)
        return int(runner.addresses[0][1])

    def _backend(self, site: Site) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            await asyncio.sleep(self.delays[site.name])
            return web.Response(text="row")

        app = web.Application()
        app.router.add_get("/{rest:.*}", answer)
        return app

    def _instance(self, site: Site) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            site.served += 1
            trips = self.trips.get(request.path, 0)
            await asyncio.sleep(trips * self.delays[site.name])
            told = {"Server-Timing": f"db;trips={trips}"} if self.tells_trips else {}
            return web.Response(text=site.name, headers=told)

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", answer)
        return app


def _always(region: str) -> Callable[[str], str]:
    return lambda address: region


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    authority: Authority | None = None,
    has_envoys: bool = False,
    more: Mapping[str, object] | None = None,
    **placement: object,
) -> AsyncIterator[Cluster]:
    """Run a cluster for the length of a test."""
    cluster = Cluster(folder, placement, authority, has_envoys)
    cluster.more.update(more or {})
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()
