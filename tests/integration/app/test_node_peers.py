"""A real node among forty regions: it probes some of them, those in use among them, and serves."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from onetrip.app.config import load_settings
from onetrip.app.node import Node
from onetrip.model.catalog import EnvironmentId
from onetrip.observe.logs import silent_log
from onetrip.probe.peers import MOST_PEERS, SHORTLIST
from onetrip.probe.specs import PING_PATH
from support.ports import free_ports
from support.waits import eventually

COUNT = 40
PINNED = 37
SHOP = EnvironmentId("shop", "production")


class Others:
    """The nodes of the other regions: one server, told apart by the address it is asked at."""

    def __init__(self) -> None:
        self.pings: Counter[int] = Counter()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "0.0.0.0", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def address(self, number: int) -> str:
        return f"127.0.1.{number}:{self.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        number = int(request.transport.get_extra_info("sockname")[0].rpartition(".")[2])
        if request.path == PING_PATH:
            self.pings[number] += 1
        return web.Response(text=f"r{number}")


def config(others: Others, proxy: int, admin: int, **probe: Any) -> dict[str, Any]:
    far = range(1, COUNT + 1)
    instances = {f"r{number}": [others.address(number)] for number in far}
    environment = {"hosts": ["shop.test"], "instances": instances}
    placement = {"mode": "smart", "hint": f"r{PINNED}"}
    return {
        "region": "here",
        "listen": f"127.0.0.1:{proxy}",
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "score_interval": 0.1,
        "log": {"access": "off"},
        "probe": {"interval": 0.5, **probe},
        "regions": {"here": {}} | {f"r{n}": {"proxy": others.address(n)} for n in far},
        "projects": {"shop": {"placement": placement, "environments": {"production": environment}}},
    }


@contextlib.asynccontextmanager
async def served(others: Others, file: Path) -> AsyncIterator[Node]:
    await others.start()
    write(file, config(others, *free_ports(2)))
    node = Node(load_settings(file), log=silent_log())
    try:
        await node.start()
        yield node
    finally:
        await node.stop(0.5)
        await others.stop()


def write(file: Path, data: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(data))


def peers(node: Node, part: str) -> float | None:
    return node.metrics.registry.get_sample_value("onetrip_probe_peers", {"part": part})


async def test_node_of_a_large_cluster_probes_what_it_uses_and_all_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    others, file = Others(), tmp_path / "onetrip.yaml"
    async with served(others, file) as node, aiohttp.ClientSession() as session:
        await eventually(lambda: others.pings[PINNED] > 0, "it is pinned there")
        await eventually(lambda: f"r{PINNED}" in node.view.snapshot.environments[SHOP].regions)
        url = f"http://127.0.0.1:{node.proxy_port}/"
        async with session.get(url, headers={"Host": "shop.test"}) as reply:
            assert (reply.status, await reply.text()) == (200, f"r{PINNED}")
        await eventually(lambda: others.pings[PINNED] > 3, "several rounds of probes")
        assert MOST_PEERS <= len(others.pings) <= MOST_PEERS + SHORTLIST
        assert peers(node, "far") == MOST_PEERS, "without reports it knows no distances"
        assert peers(node, "shortlist") is not None
        ports = node.proxy_port, node.admin_port
        write(file, config(others, *ports, peers=COUNT))
        await node.reload()
        await eventually(lambda: len(others.pings) == COUNT, lambda: sorted(others.pings))
        assert (peers(node, "all"), peers(node, "far")) == (COUNT, None)
