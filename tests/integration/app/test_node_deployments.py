"""Deployments of a real cluster: checked in every region, promoted, rolled out, rolled back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from support.cluster import running
from support.deploying import DATE, DEPLOYMENTS, PRODUCTION, TERMS, Rig, bundle


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    async with running(folder, more=TERMS, mode="off") as cluster:
        made = Rig(cluster)
        try:
            yield made
        finally:
            await made.close()


async def test_deployment_serves_once_every_region_has_found_it_ready(tmp_path: Path) -> None:
    async with rig(tmp_path) as found:
        one = await found.deploy(instances=await found.version("one"), branch="main")
        assert one["status"] == "ready"
        assert {check["region"] for check in one["checks"]} == {"den", "bom"}
        for edge in ("den", "bom"):
            await found.shows(edge, "shop.test", "one")
            await found.shows(edge, "shop.apps.test", "one")
            await found.shows(edge, f"{one['id']}.shop.apps.test", "one")
            await found.shows(edge, "main.shop.apps.test", "one")

        bad = await found.deploy("bom", instances=await found.version("bad", 503), branch="main")
        assert bad["status"] == "failed"
        assert "503" in bad["checks"][0]["detail"]
        assert await found.get("bom", "shop.test") == (200, "one")
        status, refusal = await found.api(
            "bom", "PUT", f"{PRODUCTION}/rollout", {"deployment": bad["id"], "share": 1}
        )
        assert (status, refusal["field"]) == (409, "deployment")

        two = await found.deploy("bom", instances=await found.version("two"), branch="main")
        for edge in ("den", "bom"):
            await found.shows(edge, "shop.test", "two")
            await found.shows(edge, "main.shop.apps.test", "two")
            assert await found.get(edge, f"{one['id']}.shop.apps.test") == (200, "one")

        status, body = await found.api("den", "POST", f"{PRODUCTION}/rollback", {})
        assert (status, body["deployment"]) == (200, one["id"])
        assert await found.get("den", "shop.test") == (200, "one")
        await found.shows("bom", "shop.test", "one")
        status, refusal = await found.api("den", "DELETE", f"{DEPLOYMENTS}/{one['id']}")
        assert (status, refusal["kind"]) == (409, "conflict")
        assert (await found.api("den", "DELETE", f"{DEPLOYMENTS}/{two['id']}"))[0] == 204

        # All of it outlives a restart of the node that took it.
        await found.cluster.stop_node("den")
        await found.cluster.start_node("den")
        await found.shows("den", "shop.test", "one")
        _, listing = await found.api("den", "GET", DEPLOYMENTS)
        assert [row["id"] for row in listing["deployments"]] == [bad["id"], one["id"]]


async def test_rollout_sends_a_share_of_the_clients_to_the_candidate(tmp_path: Path) -> None:
    async with rig(tmp_path) as found:
        await found.deploy(instances=await found.version("old"))
        await found.shows("den", "shop.test", "old")
        new = await found.deploy(instances=await found.version("new"), promote=False)
        assert new["status"] == "ready"
        assert await found.get("den", "shop.test") == (200, "old")
        order = {"deployment": new["id"], "share": 0.4}
        status, body = await found.api("den", "PUT", f"{PRODUCTION}/rollout", order)
        assert (status, body["candidate"], body["share"]) == (200, new["id"], 0.4)

        first = await answers(found, clients=60)
        assert 10 <= list(first.values()).count("new") <= 38  # 24 of 60; both ends beyond 4 sigma
        assert await answers(found, clients=60) == first  # a client stays with its version
        await found.api("den", "PUT", f"{PRODUCTION}/rollout", {**order, "share": 0.7})
        more = await answers(found, clients=60)
        assert all(more[client] == "new" for client, text in first.items() if text == "new")

        await found.api("den", "PUT", f"{PRODUCTION}/rollout", {**order, "share": 1})
        assert set((await answers(found, clients=20)).values()) == {"new"}


async def answers(found: Rig, clients: int) -> dict[str, str]:
    """Return what each of many clients (by their own loopback addresses) is answered."""
    port = found.cluster.sites["den"].proxy

    async def ask(number: int) -> tuple[str, str]:
        address = f"127.0.1.{number + 1}"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        reply = await reader.read()
        writer.close()
        return address, reply.rpartition(b"\r\n\r\n")[2].decode()

    return dict([await ask(number) for number in range(clients)])


async def test_files_domains_and_bindings_are_in_force_at_every_node(tmp_path: Path) -> None:
    async with rig(tmp_path) as found:
        data = bundle(index_html="home", about_html="about us", **{"404_html": "nothing here"})
        status, kept = await found.api(
            "den",
            "PUT",
            "/v1/projects/shop/assets",
            data=data,
            headers={"Content-Type": "application/gzip"},
        )
        assert (status, kept["files"]) == (200, 3)
        site = await found.deploy(assets=kept["assets"], branch="fix/home", environment="preview")
        assert site["status"] == "ready"
        for edge in ("den", "bom"):
            await found.shows(edge, "fix-home.shop.apps.test", "home", "/")
            assert await found.get(edge, "fix-home.shop.apps.test", "/about") == (200, "about us")
            answer = await found.get(edge, "fix-home.shop.apps.test", "/none")
            assert answer == (404, "nothing here")

        domain = {"host": "WWW.shop.example", "environment": "preview"}
        status, body = await found.api("bom", "POST", "/v1/projects/shop/domains", domain)
        assert (status, body["domains"][-1]["host"]) == (201, "www.shop.example")
        for edge in ("den", "bom"):
            await found.shows(edge, "www.shop.example", "home", "/")
        other = await found.api("den", "POST", "/v1/projects/shop/domains", {"host": "shop.test"})
        assert (other[0], other[1]["field"]) == (409, "host")
        gone = await found.api("den", "DELETE", "/v1/projects/shop/domains/www.shop.example")
        assert gone[0] == 204
        assert (await found.get("den", "www.shop.example", "/"))[0] == 404

        path = "/v1/projects/shop/environments/preview/bindings/db"
        status, body = await found.api("den", "PUT", path, {"backend": "db"})
        assert (status, body["bindings"]) == (200, {"db": "db"})
        status, refusal = await found.api("den", "PUT", path, {"backend": "none"})
        assert (status, refusal["field"], refusal["limit"]) == (400, "backend", "one of db")


async def test_addresses_outside_the_configured_networks_are_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as found:
        order = {"compatibility_date": DATE, "instances": {"den": ["192.0.2.1:80"]}}
        status, refusal = await found.api("den", "POST", DEPLOYMENTS, order)
        assert (status, refusal["field"]) == (400, "instances.den[0]")
        assert refusal["limit"] == "within deployments.allow"
        _, listing = await found.api("den", "GET", DEPLOYMENTS)
        assert listing["deployments"] == []
