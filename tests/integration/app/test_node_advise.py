"""Nodes in advise mode: they listen for nobody, and know what the toggle would do all the same."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from onetrip.model.placement import Status
from support.cluster import DELAYS, Cluster, running
from support.node_process import running_node_process
from support.waits import BOUND

ENVIRONMENT = {"hosts": ["shop.test"], "bindings": {"db": "db"}}
ORDERS = {"path": "/orders", "round_trips": {"db": 5}, "rates": {"den": 3, "bom": 1}}


async def ask(cluster: Cluster, path: str, region: str = "den") -> Any:
    async with cluster.session.get(address(cluster, path, region)) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.json()


def address(cluster: Cluster, path: str, region: str) -> str:
    return f"http://127.0.0.1:{cluster.sites[region].admin}{path}"


async def routes_of(cluster: Cluster) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the advice that the node in `den` gives, by edge and route."""
    found = (await ask(cluster, "/v1/advice"))["routes"]
    return {(row["edge"], row["route"]): row for row in found}


async def until_advised(cluster: Cluster, edge: str, route: str, advice: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    try:
        async with asyncio.timeout(BOUND):
            while row.get("advice") != advice:
                row = (await routes_of(cluster)).get((edge, route), {})
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(row) from None
    return row


async def is_served(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def declare(cluster: Cluster, *routes: dict[str, Any]) -> None:
    """Write configurations with declared routes, for nodes that start afterwards."""
    instances = {s.name: [f"127.0.0.1:{s.instance}"] for s in cluster.sites.values()}
    environment = {**ENVIRONMENT, "instances": instances, "routes": list(routes)}
    # What a project's toggle says is not done either.
    project = {"placement": {"mode": "smart"}, "environments": {"production": environment}}
    for site in cluster.sites.values():
        cluster.write_config(site, projects={"shop": project})


async def test_declared_routes_are_advised_at_every_edge_and_nothing_is_served(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, more={"mode": "advise"}) as cluster:
        (waiting,) = (await ask(cluster, "/v1/advice"))["waiting"]
        assert "declare routes" in waiting["missing"]
        declare(cluster, ORDERS, {"path": "/search", "rates": {"den": 1}})
        for name in cluster.sites:
            await cluster.node(name).reload()
        far = await until_advised(cluster, "den", "/orders", "move")
        assert (far["runs_in"], far["source"], far["requests"]) == ("bom", "declared", 3 * 3600)
        # RTTs are those of this moment: a busy machine adds to them, and so to the saving.
        assert far["low_ms"] <= far["saving_ms"] <= far["high_ms"]
        assert far["saving_ms"] > 2.5e3 * (DELAYS["den"] - DELAYS["bom"])
        near = await until_advised(cluster, "bom", "/orders", "stay")
        assert near["runs_in"] == "bom"
        lacking = await until_advised(cluster, "den", "/search", "unknown")
        assert "needs round trips of read /search" in lacking["missing"][0]
        (db,) = (await ask(cluster, "/v1/advice/replicas"))["backends"]
        assert (db["primary"], db["requests"]) == ("bom", 4 * 3600)

        for site in cluster.sites.values():
            assert not await is_served(site.proxy)
        status = await ask(cluster, "/v1/status")
        assert (status["mode"], status["state"], status["regions_alive"]) == ("advise", "ok", 2)
        assert status["routes"] == {"off": 3}
        statuses = {p.status for p in cluster.node("den").view.snapshot.routes.values()}
        assert statuses == {Status.OFF}
        assert not [e for e in cluster.node("den").view.events(100) if e.name == "place.moved"]


async def test_logs_of_two_regions_teach_the_round_trips_of_a_route(tmp_path: Path) -> None:
    async with running(tmp_path, more={"mode": "advise"}) as cluster:
        async with asyncio.timeout(BOUND):
            while len((await ask(cluster, "/v1/rtts"))["rtts"]) < 8:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for region, delay in DELAYS.items():
            row = {"host": "shop.test", "method": "GET", "path": "/orders/17", "status": 200}
            rows = [{**row, "duration_ms": 4 + 5e3 * delay} for _ in range(30)]
            body = {"requests": [*rows, {**row, "host": "other.test"}]}
            url = address(cluster, "/v1/requests", region)
            async with cluster.session.post(url, json=body) as reply:
                assert reply.status == 200
                assert await reply.json() == {"taken": 30, "unknown": 1}
        found = await until_advised(cluster, "den", "/orders/{id}", "move")
        assert (found["runs_in"], found["source"]) == ("bom", "traffic")
        assert found["requests"] == 30


async def test_a_node_that_serves_learns_from_its_own_requests_only(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        url = address(cluster, "/v1/requests", "den")
        async with cluster.session.post(url, json={"requests": []}) as reply:
            assert reply.status == 409
            assert "takes requests itself" in (await reply.json())["detail"]
        assert (await ask(cluster, "/v1/advice"))["mode"] == "serve"
        # What a reload would have to open or close needs a restart.
        cluster.write_config(cluster.sites["den"], mode="advise")
        assert "mode" in await cluster.node("den").reload()


async def test_a_process_told_to_advise_stays_so_over_a_reload(tmp_path: Path) -> None:
    async with running_node_process(tmp_path, 9, arguments=("--advise",)) as node:
        assert not await is_served(node.port)
        assert await is_served(node.admin)
        node.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(BOUND):
            while not [e for e in node.events if e["event"] == "app.reloaded"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        (reloaded,) = [e for e in node.events if e["event"] == "app.reloaded"]
        assert "restart" not in reloaded["detail"]
        assert not await is_served(node.port)
