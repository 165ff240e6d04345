"""Real nodes that know of each other over a real NATS server alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onetrip.cluster.jetstream import Access, JetStreamBus
from onetrip.cluster.shared_rows import key_of, seal
from onetrip.errors import PeerError
from onetrip.model.catalog import Mode
from onetrip.model.measure import RouteKey
from onetrip.model.topology import RegionId
from support.cluster import Cluster, Site
from support.deploying import TERMS, Rig, bundle
from support.nats_identity import USER, Account, Identity
from support.nats_server import NatsProcess, NatsServer
from support.shared_rows import policy
from support.waits import BOUND, eventually

DELAYS = {"den": 0.060, "bom": 0.001, "fra": 0.040}
"""RTT from each region to the backend, s."""


class NatsCluster(Cluster):
    """Regions whose nodes have no address for each other's reports."""

    def _region(self, site: Site) -> dict[str, object]:
        region = dict(super()._region(site))
        region.pop("peer", None)
        return region


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def running(folder: Path, server: NatsServer, **placement: object) -> AsyncIterator[Rig]:
    cluster = NatsCluster(folder, {"control": 0.0, "dwell": 0, **placement}, delays=DELAYS)
    cluster.more["cluster"] = {
        "secret_file": "secret",
        "sync_interval": 0.1,
        "nats": server.keys(),
    }
    cluster.more |= TERMS
    await cluster.start()
    rig = Rig(cluster)
    try:
        yield rig
    finally:
        await rig.close()
        await cluster.stop()


def knows_all(cluster: Cluster) -> bool:
    nodes = [cluster.node(name) for name in cluster.sites]
    return all(peer.is_alive for node in nodes for peer in node.view.peers())


def mode_at(cluster: Cluster, name: str) -> Mode:
    return cluster.node(name).scorer.catalog.projects["shop"].policy.mode


def has_mode(cluster: Cluster, mode: Mode) -> bool:
    return all(mode_at(cluster, name) is mode for name in cluster.sites)


def placements(cluster: Cluster, name: str) -> dict[tuple[RegionId, RouteKey], RegionId]:
    """Return where each edge runs each route, as one node knows."""
    return {
        (d.edge, d.key): d.placement.regions[0]
        for d in cluster.node(name).view.decisions("shop")
        if d.placement.regions
    }


def runs_at(cluster: Cluster, edge: str, path: str) -> str:
    """Return where an edge runs a route."""
    found = placements(cluster, edge).items()
    return next((r for (e, key), r in found if e == edge and key.route == path), "")


def agree(cluster: Cluster, path: str) -> bool:
    """Tell whether all nodes know the same placements, and `path` runs beside its backend."""
    found = [placements(cluster, name) for name in cluster.sites]
    edges = {edge for (edge, key), region in found[0].items() if key.route == path}
    ends = {region for (_, key), region in found[0].items() if key.route == path}
    return edges == set(cluster.sites) and ends == {"bom"} and found.count(found[0]) == 3


async def learn(cluster: Cluster, edges: tuple[str, ...], claim: Callable[[], bool]) -> None:
    """Send requests to edges until `claim` holds of what was learned from them."""
    deadline = time.monotonic() + 4 * BOUND
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError({name: placements(cluster, name) for name in cluster.sites})
        for edge in edges:
            await cluster.many(edge, "/orders", 16)
        await asyncio.sleep(0.1)


async def test_nodes_without_addresses_agree_about_everything(
    tmp_path: Path, server: NatsServer
) -> None:
    async with running(tmp_path, server, mode="off") as rig:
        cluster = rig.cluster
        await eventually(lambda: knows_all(cluster), "signs of life", timeout=2 * BOUND)
        assert await cluster.patch("fra", {"mode": "smart"}) == 200
        await eventually(lambda: has_mode(cluster, Mode.SMART), "toggle arrives")
        await learn(cluster, tuple(cluster.sites), lambda: agree(cluster, "/orders"))

        # The files of a deployment and its name, declared at one node, are served by all.
        status, kept = await rig.api(
            "den",
            "PUT",
            "/v1/projects/shop/assets",
            data=bundle(index_html="from the bundle"),
            headers={"Content-Type": "application/gzip"},
        )
        assert status == 200, kept
        one = await rig.deploy("den", assets=kept["assets"], environment="preview")
        assert one["status"] == "ready", one
        assert {check["region"] for check in one["checks"]} == set(DELAYS)
        for edge in cluster.sites:
            await rig.shows(edge, f"{one['id']}.shop.apps.test", "from the bundle", "/")
        domain = {"host": "www.shop.example", "environment": "preview"}
        assert (await rig.api("fra", "POST", "/v1/projects/shop/domains", domain))[0] == 201
        for edge in cluster.sites:
            await rig.shows(edge, "www.shop.example", "from the bundle", "/")


async def test_a_killed_server_fails_no_request_and_is_caught_up_with(
    tmp_path: Path, server: NatsServer
) -> None:
    async with running(tmp_path, server, mode="off") as rig:
        cluster = rig.cluster
        await eventually(lambda: knows_all(cluster), "signs of life", timeout=2 * BOUND)
        assert await cluster.patch("den", {"mode": "smart"}) == 200
        await eventually(lambda: has_mode(cluster, Mode.SMART), "toggle arrives")
        await learn(cluster, ("den",), lambda: runs_at(cluster, "den", "/orders") == "bom")
        ends = asyncio.Event()
        traffic = [asyncio.create_task(serve_until(ends, cluster, edge)) for edge in ("bom", "fra")]

        server.kill()
        nodes = [cluster.node(name) for name in cluster.sites]
        await eventually(
            lambda: all(node.view.nats_problem() for node in nodes), "loss", timeout=2 * BOUND
        )
        _, status = await rig.api("den", "GET", "/v1/status")
        assert status["state"] == "degraded"
        assert any("NATS cannot be used" in problem for problem in status["problems"])
        # A node that restarts meanwhile has what it knew, placements too, and takes changes.
        await cluster.stop_node("den")
        await cluster.start_node("den")
        assert mode_at(cluster, "den") is Mode.SMART
        assert runs_at(cluster, "den", "/orders") == "bom"
        assert await cluster.patch("den", {"mode": "off"}) == 200
        assert mode_at(cluster, "bom") is Mode.SMART

        server.start()
        await eventually(lambda: has_mode(cluster, Mode.OFF), "caught up", timeout=4 * BOUND)
        await eventually(lambda: knows_all(cluster), "signs of life", timeout=4 * BOUND)
        assert not any(cluster.node(name).view.nats_problem() for name in cluster.sites)
        ends.set()
        assert min(await asyncio.gather(*traffic)) > 0


async def serve_until(ends: asyncio.Event, cluster: Cluster, edge: str) -> int:
    """Send requests to an edge; every one must succeed. Returns how many it were."""
    count = 0
    while not ends.is_set():
        count += len(await cluster.many(edge, "/about", 4, width=2))
        await asyncio.sleep(0.02)
    return count


async def test_a_node_cannot_write_what_another_one_reports(server: NatsServer) -> None:
    bus = server.bus("den")
    await bus.connect()
    await bus.reports.put("den.head", b"mine")
    with pytest.raises(PeerError, match=r"(?i)permissions violation"):
        await bus.reports.put("bom.head", b"forged")
    assert await bus.reports.get("bom.head") is None
    mine = await bus.reports.get("den.head")
    assert mine is not None
    assert mine.value == b"mine"
    await bus.close()


async def test_rows_are_swapped_by_revision_and_followed(server: NatsServer) -> None:
    den, bom = server.bus("den"), server.bus("bom")
    await den.connect()
    await bom.connect()
    row = policy(1)
    key, value = key_of("shop"), seal(b"secret", row)
    seen: list[bytes | None] = []
    await bom.rows.watch(">", lambda change: seen.append(change.value if change else b"told"))
    assert await den.rows.swap(key, value, 0)
    assert not await bom.rows.swap(key, b"late", 0)
    await eventually(lambda: seen == [b"told", value], lambda: seen)
    found = await bom.rows.get(key)
    assert found is not None
    await bom.rows.delete(key, found.revision + 1)
    assert await bom.rows.get(key) == found
    await bom.rows.delete(key, found.revision)
    gone = await den.rows.get(key)
    assert gone is not None
    assert gone.value is None
    assert await den.rows.swap(key, value, gone.revision)
    for bus in (den, bom):
        await bus.close()


async def test_files_are_kept_whole(server: NatsServer) -> None:
    den, bom = server.bus("den"), server.bus("bom")
    await den.connect()
    await bom.connect()
    data = bytes(range(256)) * 2048
    assert not await den.files.has("bundle")
    assert await den.files.get("bundle") is None
    await den.files.put("bundle", data)
    assert await bom.files.has("bundle")
    assert await bom.files.get("bundle") == data
    await bom.files.delete("bundle")
    await bom.files.delete("bundle")
    assert await den.files.get("bundle") is None
    for bus in (den, bom):
        await bus.close()


async def test_what_is_closed_fails_as_what_is_out_of_reach(server: NatsServer) -> None:
    bus = server.bus("den")
    await bus.connect()
    await bus.close()
    with pytest.raises(PeerError, match="not connected"):
        await bus.rows.get("policy.shop")
    with pytest.raises(PeerError, match="not connected"):
        await bus.files.get("bundle")


async def test_a_wrong_password_names_the_field(server: NatsServer) -> None:
    bus = server.bus("den", password="wrong")
    with pytest.raises(PeerError, match=r"(?i)authorization.*cluster\.nats\.user"):
        await bus.connect()
    await bus.close()


async def test_who_shows_no_certificate_is_not_let_in(server: NatsServer) -> None:
    bus = server.bus("den", shows=False)
    with pytest.raises(PeerError, match=r"cluster\.nats"):
        await bus.connect()
    await bus.close()


async def test_who_proves_it_by_credentials_is_let_in(tmp_path: Path) -> None:
    account = Account()
    own = account.credentials(tmp_path / "den.creds")
    other = Account().credentials(tmp_path / "other.creds")
    server = NatsProcess(tmp_path, f'{account.config()}jetstream {{ store_dir: "js" }}')
    server.start()
    try:
        await comes_in(Access((server.url,), "onetrip", "den", credentials=own))
        with pytest.raises(PeerError, match=r"Authorization.*cluster\.nats\.credentials_file"):
            await comes_in(Access((server.url,), "onetrip", "den", credentials=other))
    finally:
        server.kill()


async def test_who_proves_it_by_an_nkey_is_let_in(tmp_path: Path) -> None:
    own, other = Identity(USER), Identity(USER)
    for name, identity in (("den", own), ("other", other)):
        (tmp_path / f"{name}.nk").write_text(f"{identity.seed}\n")
    users = f"authorization {{ users: [ {{ nkey: {own.public} }} ] }}"
    server = NatsProcess(tmp_path, f'{users}\njetstream {{ store_dir: "js" }}')
    server.start()
    try:
        await comes_in(Access((server.url,), "onetrip", "den", nkey=tmp_path / "den.nk"))
        with pytest.raises(PeerError, match=r"Authorization.*cluster\.nats\.nkey_file"):
            await comes_in(Access((server.url,), "onetrip", "den", nkey=tmp_path / "other.nk"))
    finally:
        server.kill()


async def comes_in(access: Access) -> None:
    bus = JetStreamBus(access)
    try:
        await bus.connect()
        await bus.reports.put(f"{access.region}.head", b"mine")
    finally:
        await bus.close()
