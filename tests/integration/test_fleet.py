"""Four real nodes, as far apart as cities: what is declared at one reaches all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.fleet import Fleet, FleetNode, spread
from support.waits import BOUND

PROJECTS = 3


async def until_changed(node: FleetNode, project: str) -> None:
    """Wait until a node has put a change in force."""
    async with asyncio.timeout(BOUND):
        while project not in {e["project"] for e in node.events("app.policy_changed")}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_is_declared_reaches_all_nodes_and_one_that_joins(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, spread("topo_236_world.csv", 4), PROJECTS)
    async with fleet:
        *regions, last = fleet.matrix.regions
        await fleet.start_all(regions)
        await fleet.know_each_other()
        first, *others = (fleet.nodes[region] for region in regions)
        for number in range(PROJECTS):
            await fleet.change(first, f"p{number}", mode="smart")
        for node in others:
            for number in range(PROJECTS):
                await until_changed(node, f"p{number}")
        pinned = regions[1]
        await fleet.change(first, "shop", mode="smart", hint=pinned)
        joined = await fleet.start(last)
        async with asyncio.timeout(BOUND):
            while await fleet.get(joined) != pinned:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await fleet.know_each_other()
        metrics = await fleet.metrics(joined)
        assert metrics["onetrip_cluster_received_bytes_total"] > 0
        assert not any(name.endswith("_created") for name in metrics)
