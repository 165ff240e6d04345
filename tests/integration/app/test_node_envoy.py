"""Nodes whose requests the real Envoy serves: learning, the toggle, health, a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from onetrip.model.placement import Status
from support.cluster import Cluster, running
from support.waits import BOUND, eventually


def status_of(cluster: Cluster, route: str) -> Status | None:
    placements = cluster.node("den").view.snapshot.routes
    return next((p.status for key, p in placements.items() if key.route == route), None)


async def told_status(cluster: Cluster) -> dict[str, Any]:
    url = f"http://127.0.0.1:{cluster.sites['den'].admin}/v1/status"
    async with cluster.session.get(url) as reply:
        return dict(await reply.json())


async def metric(cluster: Cluster, name: str) -> float:
    url = f"http://127.0.0.1:{cluster.sites['den'].admin}/metrics"
    async with cluster.session.get(url) as reply:
        lines = (await reply.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def until_placed(cluster: Cluster) -> None:
    """Send requests at `den` until what its Envoy logs has moved the chatty route."""
    async with asyncio.timeout(2 * BOUND):
        while status_of(cluster, "/orders") is not Status.PLACED:
            for edge in ("den", "bom"):
                await cluster.many(edge, "/orders", 8)
            await cluster.many("den", "/about", 8)


async def until_all_run(cluster: Cluster, place: str) -> None:
    async with asyncio.timeout(BOUND):
        while set(await cluster.many("den", "/orders", 8)) != {place}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_envoy_logs_moves_a_route_and_the_toggle_moves_it_back(tmp_path: Path) -> None:
    async with running(
        tmp_path, has_envoys=True, mode="smart", control=0.0, explore=0.2, dwell=0
    ) as cluster:
        await until_placed(cluster)
        await until_all_run(cluster, "remote-bom")
        assert set(await cluster.many("den", "/about", 8)) == {"local-den"}
        assert await cluster.patch("den", {"mode": "off"}) == 200
        await until_all_run(cluster, "local-den")
        assert await cluster.patch("den", {"mode": "smart", "hint": "bom"}) == 200
        await until_all_run(cluster, "remote-bom")

        status = await told_status(cluster)
        (envoy,) = status["envoys"]
        assert envoy["name"] == "den-envoy"
        assert envoy["refused"] == {}
        assert await metric(cluster, "onetrip_xds_log_entries_total{") > 0
        assert await metric(cluster, "onetrip_proxy_requests_total{") > 0

        # The instance in bom fails its probes: its endpoints are told so, and requests stay.
        runner = cluster.sites["bom"].instance_runner
        assert runner is not None
        await runner.cleanup()
        await until_all_run(cluster, "local-den")


async def test_requests_go_on_while_the_node_is_away(tmp_path: Path) -> None:
    async with running(tmp_path, has_envoys=True, mode="smart", hint="bom") as cluster:
        await until_all_run(cluster, "remote-bom")
        await cluster.stop_node("den")
        assert set(await cluster.many("den", "/orders", 16)) == {"remote-bom"}
        node = await cluster.start_node("den")
        await eventually(lambda: bool(node.view.envoys()), "the Envoy comes back")
        assert await cluster.patch("den", {"hint": "den"}) == 200
        await until_all_run(cluster, "local-den")
