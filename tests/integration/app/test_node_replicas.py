"""Real nodes and a backend with a replica: reads stay beside it, and no region is overruled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from onetrip.model.placement import Status
from support.cluster import Cluster, Site, running
from support.waits import BOUND, eventually


def projects(binding: dict[str, Any], cluster: Cluster) -> dict[str, Any]:
    """Return the shop with a binding of its own and declared round trips."""
    instances = {s.name: [f"127.0.0.1:{s.instance}"] for s in cluster.sites.values()}
    environment = {
        "hosts": ["shop.test"],
        "instances": instances,
        "bindings": {"db": {"backend": "db", **binding}},
        "routes": [
            {"path": "/orders", "round_trips": {"db": 5}},
            {"path": "/about", "round_trips": {}},
        ],
    }
    placement = {"mode": "smart", "control": 0, "explore": 0, "dwell": 0}
    return {"shop": {"placement": placement, "environments": {"production": environment}}}


async def use(cluster: Cluster, **binding: Any) -> None:
    """Give the backend a replica beside `den`, and say how the binding is used."""
    for site in cluster.sites.values():
        cluster.write_config(
            site, backends={"db": backend(cluster, site)}, projects=projects(binding, cluster)
        )
        await cluster.node(site.name).reload()


def backend(cluster: Cluster, site: Site) -> dict[str, Any]:
    """Return the backend as one region sees it: 1 ms and 60 ms, each region near one endpoint."""
    other = next(each for each in cluster.sites.values() if each is not site)
    # A port's delay is that of the region it was made for; the primary is beside `bom`.
    primary, replica = (site.backend, other.backend)
    return {
        "kind": "http",
        "address": f"127.0.0.1:{primary}",
        "replicas": {"den": {"address": f"127.0.0.1:{replica}"}},
    }


async def ask(cluster: Cluster, path: str) -> Any:
    """Return a reply of the admin API in `den`."""
    url = f"http://127.0.0.1:{cluster.sites['den'].admin}{path}"
    async with cluster.session.get(url) as reply:
        assert reply.status == 200
        return await reply.json()


def placement_of(cluster: Cluster, route: str) -> tuple[Status, str] | None:
    for key, placement in cluster.node("den").view.snapshot.routes.items():
        if key.route == route and placement.regions:
            return placement.status, placement.regions[0]
    return None


async def until_placed(cluster: Cluster) -> dict[str, Any]:
    """Return the advice on replicas once it knows what `bom` measured.

    `den` decides about its own edge before that: it knows enough with what it measures itself.
    """
    async with asyncio.timeout(BOUND):
        while True:
            (row,) = (await ask(cluster, "/v1/advice/replicas?project=shop"))["backends"]
            if row["primary"] == "bom":
                return dict(row)
            assert row["move"] is None, "its region is not measured yet"
            await asyncio.sleep(0.05)


async def test_reads_stay_beside_their_replica_and_explain_and_advice_name_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        await use(cluster, reads="nearest")
        await cluster.many("den", "/orders", 24)
        await eventually(lambda: placement_of(cluster, "/orders") == (Status.AT_EDGE, "den"))
        explained = await ask(cluster, "/v1/projects/shop/explain?edge=den&route=/orders")
        (decision,) = explained["decisions"]
        endpoints = {c["region"]: c["backends"][0]["endpoint"] for c in decision["candidates"]}
        assert endpoints == {"den": "db/den", "bom": "db"}
        rtts = (await ask(cluster, "/v1/rtts"))["rtts"]
        assert {"db", "db/den"} <= {row["target"] for row in rtts}
        row = await until_placed(cluster)
        assert row["replicas"] == [{"name": "db/den", "region": "den"}]
        assert row["requests"] > 0, "as the last scoring run saw them"
        assert row["missing"] == ""
        # The same traffic, read from the primary: now it is worth to move.
        await use(cluster, reads="primary")
        await eventually(lambda: placement_of(cluster, "/orders") == (Status.PLACED, "bom"))


async def test_a_request_never_runs_where_its_binding_forbids_not_even_in_failover(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        await use(cluster, deny=["den"])
        assert set(await cluster.many("den", "/orders", 8)) == {"remote-bom"}
        assert set(await cluster.many("den", "/item", 8)) == {"remote-bom"}
        assert set(await cluster.many("den", "/about", 8)) == {"local-den"}, "it uses no binding"
        await cluster.stop_node("bom")
        replies = await asyncio.gather(*(cluster.get("den", "/orders") for _ in range(8)))
        assert all(status >= 500 for status, _ in replies)
        assert (await cluster.get("den", "/orders"))[0] == 503
        assert (await cluster.get("den", "/about"))[0] == 200
