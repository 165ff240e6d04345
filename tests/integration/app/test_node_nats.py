"""Real nodes that know of each other over a real NATS server alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onetrip.errors import PeerError
from onetrip.model.catalog import Mode
from support.cluster import Cluster, Site
from support.nats_server import NatsServer
from support.waits import BOUND, eventually


class NatsCluster(Cluster):
    """Two regions whose nodes have no address for each other's reports."""

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
async def running(folder: Path, server: NatsServer) -> AsyncIterator[Cluster]:
    cluster = NatsCluster(folder, {"mode": "off", "control": 0.0, "dwell": 0})
    cluster.more["cluster"] = {
        "secret_file": "secret",
        "sync_interval": 0.1,
        "nats": server.keys(),
    }
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


def knows_all(cluster: Cluster) -> bool:
    nodes = [cluster.node(name) for name in cluster.sites]
    return all(peer.is_alive for node in nodes for peer in node.view.peers())


def mode_at(cluster: Cluster, name: str) -> Mode:
    return cluster.node(name).scorer.catalog.projects["shop"].policy.mode


async def test_nodes_agree_and_a_killed_server_is_caught_up_with(
    tmp_path: Path, server: NatsServer
) -> None:
    async with running(tmp_path, server) as cluster:
        await eventually(lambda: knows_all(cluster), "reports both ways", timeout=2 * BOUND)
        assert await cluster.patch("den", {"mode": "smart"}) == 200
        await eventually(lambda: mode_at(cluster, "bom") is Mode.SMART, "toggle arrives")

        server.kill()
        lost = cluster.node("bom").metrics.nats_connected
        await eventually(lambda: lost._value.get() == 0, "loss is told", timeout=2 * BOUND)
        assert await cluster.patch("den", {"mode": "off"}) == 200
        served = await cluster.many("den", "/about", 16)
        assert len(served) == 16
        assert mode_at(cluster, "bom") is Mode.SMART

        server.start()
        await eventually(
            lambda: mode_at(cluster, "bom") is Mode.OFF, "caught up", timeout=4 * BOUND
        )


async def test_a_node_cannot_write_the_report_of_another(server: NatsServer) -> None:
    bus = server.bus("den")
    await bus.connect()
    await bus.put("den.head", b"mine")
    with pytest.raises(PeerError, match=r"(?i)permissions violation"):
        await bus.put("bom.head", b"forged")
    assert await bus.get("bom.head") is None
    assert await bus.get("den.head") == b"mine"
    await bus.close()


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
