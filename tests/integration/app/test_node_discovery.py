"""Instances found by DNS: nodes that follow a name while its records change under load."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from onetrip.model.measure import EstimateState, Target, TargetKind
from support.cluster import Cluster, running
from support.dns_server import DnsServer, running_dns
from support.kubernetes_api import TOKEN, running_kubernetes
from support.ports import free_ports
from support.served_node import Load, ServedNode
from support.waits import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")

NAME = "app.internal"
QUICK = {"least_interval": 0.05, "most_interval": 0.2}


class Farm:
    """Instances on one port of several loopback addresses, which count their requests."""

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self.port = free_ports(1)[0]
        self._runners: dict[str, web.AppRunner] = {}

    async def start(self, address: str) -> None:
        """Start the instance at an address."""

        async def answer(request: web.Request) -> web.Response:
            if request.path != "/":  # health checks
                self.served[address] += 1
            return web.Response(text="ok")

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", answer)
        runner = self._runners[address] = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, address, self.port).start()

    async def stop(self, address: str) -> None:
        """Stop the instance at an address."""
        await self._runners.pop(address).cleanup()

    async def until_served(self, load: Load, *addresses: str) -> None:
        """Wait until exactly these serve."""
        while True:
            self.served.clear()
            await load.more(40)
            if set(self.served) == set(addresses):
                return


@contextlib.asynccontextmanager
async def farm_of(*addresses: str) -> AsyncIterator[tuple[Farm, DnsServer]]:
    farm = Farm()
    async with running_dns() as server:
        try:
            for address in addresses:
                await farm.start(address)
            yield farm, server
        finally:
            for address in list(farm._runners):
                await farm.stop(address)


def configure(node: ServedNode, server: DnsServer, instances: str, **more: Any) -> None:
    """Write a configuration whose instances a source names."""
    config = yaml.safe_load(node.config.read_text())
    environment = config["projects"]["shop"]["environments"]["production"]
    environment["instances"] = {"here": [instances]}
    discovery = {**QUICK, "dns_servers": [f"127.0.0.1:{server.port}"]}
    node.write_config(**{"projects": config["projects"], "discovery": discovery, **more})


async def events_of(node: ServedNode, name: str) -> list[dict[str, Any]]:
    _, body = await node.call("GET", "/v1/events")
    return [event for event in body["events"] if event["name"] == name]


@pytest.mark.parametrize("workers", [1, 2])
async def test_instances_come_and_go_without_a_failed_request(tmp_path: Path, workers: int) -> None:
    one, two, three = "127.0.0.1", "127.0.0.2", "127.0.0.3"
    async with farm_of(one, two, three) as (farm, server):
        node = ServedNode(tmp_path, farm.port)
        source = f"dns://{NAME}:{farm.port}"
        proxy = {"slow_start": 0.2}
        configure(node, server, source, workers=workers, proxy=proxy)
        server.put(NAME, "A", one)
        async with node, Load(node.proxy) as load:
            await farm.until_served(load, one)
            server.put(NAME, "A", one, two, three)
            await farm.until_served(load, one, two, three)
            server.put(NAME, "A", two)
            await farm.until_served(load, two)
            # Neither an empty answer nor none at all takes the last instance away.
            server.put(NAME, "A")
            await node.logged("discover.failed")
            _, status = await node.call("GET", "/v1/status")
            (problem,) = status["problems"]
            assert (
                problem == f"{source} gives nothing new, its last answer is used: it has no address"
            )
            await farm.until_served(load, two)
            server.put(NAME, "A", three)
            await node.logged("discover.recovered")
            await farm.until_served(load, three)
            assert load.failures == []
            changed = await events_of(node, "discover.changed")
            assert changed[0]["subject"] == source
            assert (
                changed[0]["detail"] == f"1 instances: + {three}:{farm.port}, - {two}:{farm.port}"
            )
            (failed,) = await events_of(node, "discover.failed")
            assert "1 instances of its last answer stay" in failed["detail"]
            assert await node.metric("onetrip_discover_instances", source=source) == 1
            assert await node.metric("onetrip_discover_answers_total", outcome="same") > 0


async def test_srv_records_and_a_reload_that_waits_for_the_first_answer(tmp_path: Path) -> None:
    one, two = "127.0.0.1", "127.0.0.2"
    async with farm_of(one, two) as (farm, server):
        server.put(f"_http._tcp.{NAME}", "SRV", f"0 0 {farm.port} two.internal.")
        server.put("two.internal", "A", two)
        node = ServedNode(tmp_path, farm.port)
        node.write_config(discovery={**QUICK, "dns_servers": [f"127.0.0.1:{server.port}"]})
        async with node, Load(node.proxy) as load:
            await farm.until_served(load, one)
            configure(node, server, f"dns+srv://_http._tcp.{NAME}")
            assert (await node.call("POST", "/v1/reload"))[0] == 200
            await farm.until_served(load, two)
            assert load.failures == []
            _, project = await node.call("GET", "/v1/projects/shop")
            (environment,) = project["environments"]
            assert environment["instances"] == [
                {"region": "here", "endpoint": f"{two}:{farm.port}"}
            ]


async def test_addresses_outside_the_permitted_networks_get_no_request(tmp_path: Path) -> None:
    one, two = "127.0.0.1", "127.0.0.2"
    async with farm_of(one, two) as (farm, server):
        node = ServedNode(tmp_path, farm.port)
        configure(node, server, f"dns://{NAME}:{farm.port}")
        config = yaml.safe_load(node.config.read_text())
        config["discovery"]["allow"] = [f"{one}/32"]
        node.config.write_text(yaml.safe_dump(config))
        server.put(NAME, "A", one, two)
        async with node, Load(node.proxy) as load:
            await load.more(60)
            assert set(farm.served) == {one}
            assert load.failures == []
            (changed,) = await events_of(node, "discover.changed")
            assert "1 refused by discovery.allow" in changed["detail"]


async def test_each_node_asks_for_its_own_region_and_tells_whether_anybody_serves(
    tmp_path: Path,
) -> None:
    async with running_dns() as server, running(tmp_path) as cluster:
        server.put(NAME, "A", "127.0.0.1")
        sites = cluster.sites
        sources = {n: f"dns://{NAME}:{site.instance}" for n, site in sites.items()}
        stand_in = Target(TargetKind.INSTANCE, sources["bom"].removeprefix("dns://"))
        for site in sites.values():
            await cluster.stop_node(site.name)
            write(cluster, site.name, sources, server)
            await cluster.start_node(site.name)
        den = cluster.node("den")

        def told() -> EstimateState | None:
            row = den.view.rtt_rows().get(sites["bom"].node.region, {})  # type: ignore[union-attr]
            return row[stand_in].state if stand_in in row else None

        await eventually(lambda: told() is EstimateState.FRESH, told)
        environment = den.view.catalog.projects["shop"].environments["production"]
        found = {(i.region, str(i.endpoint), i.is_stand_in) for i in environment.instances}
        assert found == {
            ("den", f"127.0.0.1:{sites['den'].instance}", False),
            ("bom", stand_in.name, True),
        }
        assert stand_in not in den.view.rtt_rows()[den.region]
        assert set(await cluster.many("den", "/about", 8)) == {"remote-bom"}
        # The instance that its node had found is gone: the edge hears of it, and stays at home.
        runner = sites["bom"].instance_runner
        assert runner is not None
        await runner.cleanup()
        await eventually(lambda: told() is EstimateState.FAILING, told)
        await until_places(cluster, {"local-den"})


def write(cluster: Cluster, name: str, sources: dict[str, str], server: DnsServer) -> None:
    site = cluster.sites[name]
    cluster.write_config(site)
    config = yaml.safe_load(cluster.path_of(name).read_text())
    project = config["projects"]["shop"]
    project["placement"] = {"mode": "smart", "hint": "bom"}
    project["environments"]["production"]["instances"] = {n: [s] for n, s in sources.items()}
    discovery = {**QUICK, "dns_servers": [f"127.0.0.1:{server.port}"]}
    cluster.write_config(site, projects=config["projects"], discovery=discovery)


async def until_places(cluster: Cluster, wanted: set[str]) -> None:
    async with asyncio.timeout(40):
        while set(await cluster.many("den", "/about", 8)) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_envoys_are_told_of_the_instances_that_are_found(tmp_path: Path) -> None:
    async with running_dns() as server, running(tmp_path, has_envoys=True) as cluster:
        server.put(NAME, "A", "127.0.0.1")
        sites = cluster.sites
        sources = {n: f"dns://{NAME}:{site.instance}" for n, site in sites.items()}
        await cluster.stop_node("den")
        write(cluster, "den", sources, server)
        node = await cluster.start_node("den")
        await eventually(lambda: bool(node.view.envoys()), "the Envoy comes back")
        farm = Farm()
        farm.port = sites["bom"].instance
        await farm.start("127.0.0.2")
        try:
            server.put(NAME, "A", "127.0.0.2")
            async with asyncio.timeout(40):
                while not farm.served["127.0.0.2"]:
                    await cluster.many("den", "/about", 8)
        finally:
            await farm.stop("127.0.0.2")


async def test_pods_are_followed_by_the_api_of_their_cluster(tmp_path: Path) -> None:
    one, two = "127.0.0.1", "127.0.0.2"
    async with farm_of(one, two) as (farm, _), running_kubernetes() as cluster:
        (tmp_path / "token").write_text(TOKEN)
        node = ServedNode(tmp_path, farm.port)
        config = yaml.safe_load(node.config.read_text())
        environment = config["projects"]["shop"]["environments"]["production"]
        environment["instances"] = {"here": ["kubernetes://shop/web:http"]}
        kubernetes = {"api": cluster.url, "token_file": "token"}
        discovery = {**QUICK, "kubernetes": kubernetes}
        node.write_config(projects=config["projects"], discovery=discovery)
        cluster.put("web-1", one, port=farm.port)
        async with node, Load(node.proxy) as load:
            await farm.until_served(load, one)
            cluster.put("web-2", two, port=farm.port)
            await farm.until_served(load, one, two)
            cluster.delete("web-1")
            await farm.until_served(load, two)
            # The API is away, and back without its memory: what is known stays, then it goes on.
            cluster.forget()
            cluster.status = 503
            cluster.disconnect()
            await node.logged("discover.failed")
            await farm.until_served(load, two)
            cluster.status = 200
            cluster.put("web-1", one, port=farm.port)
            await farm.until_served(load, one, two)
            # Scaled to zero: nothing is better.
            cluster.delete("web-1")
            cluster.delete("web-2")
            await node.logged("discover.failed", 2)
            await load.more(40)
            assert load.failures == []
            assert TOKEN not in node.log.read_text()
