"""Every query of the dashboard on a real Prometheus that scrapes real nodes with traffic."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grafana
import pytest
import yaml

from support.certs import Authority
from support.cluster import Cluster, Site
from support.ports import free_ports
from support.prometheus import Prometheus, running_prometheus

BOUND = 120.0
"""Longest wait for all queries to return data, s; about 5 s are usual."""

BY_CHANCE = {
    "second {{outcome}}": "a project that sends slow reads twice",
    "limit {{limit}}": "more requests than an instance takes",
    "reset {{code}}": "an instance that speaks HTTP/2",
    "gone away {{code}}": "an instance that speaks HTTP/2",
    "error {{code}}": "an instance that speaks HTTP/2",
    "drift: {{cause}}": "a deployment that changes a route's round trips, or a very busy machine",
    "ejected: {{reason}}": "an instance that fails requests again and again",
    "had to stay: {{reason}}": "more failing instances than may be ejected",
}
"""Legends of queries that need not return data here, and what they would need."""

ABSENT = {
    "{{backend}}": "a database relay",
    "{{backend}} set-up": "a database relay",
    "{{backend}} connections": "a database relay",
    "{{state}}": "an ACME authority",
    "spans {{outcome}}": "a collector",
    "orders: {{outcome}}": "an ACME authority",
}
"""Legends of queries that must return nothing here, and what they would need."""


RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "onetrip.rules.yml"


class Watched(Cluster):
    """A cluster that also terminates TLS, sends files and keeps responses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"mode": "smart", "control": 0.3, "dwell": 0})
        self.tls = dict(zip(self.sites, free_ports(len(self.sites)), strict=True))
        Authority(folder).issue("web", "shop.test")
        (folder / "files").mkdir()
        (folder / "files" / "logo.svg").write_text("<svg/>")

    def write_config(self, site: Site, **more: object) -> None:
        pair = {"cert": "web.pem", "key": "web.key"}
        listen = f"127.0.0.1:{self.tls[site.name]}"
        tls = {"listen": listen, "certificates": [pair], "http2": True}
        super().write_config(site, tls=tls, **more)

    def _project(self) -> dict[str, object]:
        project = super()._project()
        assets = {"directory": "files", "prefix": "/files"}
        project["environments"]["production"]["assets"] = assets  # type: ignore[index]
        return {**project, "cache": {"enabled": True}}


async def send_wrong(cluster: Watched) -> None:
    """Be each kind of client that a node refuses."""
    den = cluster.sites["den"]
    async with cluster.session.get(f"http://127.0.0.1:{den.proxy}/") as reply:
        assert reply.status == 404  # no project has this host
    context = ssl.create_default_context(cafile=str(cluster.folder / "authority.pem"))
    context.set_alpn_protocols(["h2"])
    for options in ({"ssl": context, "server_hostname": "shop.test"}, {}):
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.tls["den"], **options)
        writer.write(b"neither HTTP/2 nor TLS\r\n\r\n" * 2)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def traffic(cluster: Watched) -> AsyncIterator[None]:
    """Send requests at both edges in turn, until the end; failures are part of it."""

    async def send(edge: str) -> None:
        while True:
            for path in ("/orders", "/orders", "/about", "/files/logo.svg"):
                with contextlib.suppress(aiohttp.ClientError):
                    await cluster.get(edge, path)

    tasks = [asyncio.create_task(send(edge)) for edge in ("den", "den", "den", "bom")]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def queries() -> dict[str, str]:
    """Return the dashboard's queries by panel and legend, as Grafana would send them."""
    found = {}
    for panel in grafana.dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "5s").replace("$node", ".*")
            found[f"{panel['title']}|{target.get('legendFormat', '')}"] = expr
    return found


def records() -> list[str]:
    """Return the names of the recorded series."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule["record"] for group in groups for rule in group["rules"] if "record" in rule]


async def unanswered(prometheus: Prometheus, waiting: dict[str, str]) -> dict[str, str]:
    """Return the queries that have no data yet."""
    return {key: text for key, text in waiting.items() if not await prometheus.values(text)}


async def until_answered(
    prometheus: Prometheus, waiting: dict[str, str], *, until: set[str]
) -> dict[str, str]:
    """Ask again and again until only queries of the panels `until` are without data."""
    deadline = time.monotonic() + BOUND
    while {key.partition("|")[0] for key in waiting} - until:
        assert time.monotonic() < deadline, f"without data: {sorted(waiting)}"
        await asyncio.sleep(0.2)
        waiting = await unanswered(prometheus, waiting)
    return waiting


@pytest.mark.needs_server("prometheus")
async def test_every_query_parses_and_returns_data(tmp_path: Path) -> None:
    cluster = Watched(tmp_path)
    targets = [f"127.0.0.1:{site.admin}" for site in cluster.sites.values()]
    with running_prometheus(tmp_path, targets, [RULES]) as port:
        try:
            await cluster.start()
            prometheus = Prometheus(port, cluster.session)
            await send_wrong(cluster)
            await cluster.node("den").reload()
            everything = queries()
            legends = {key: key.partition("|")[2] for key in everything}
            assert set(legends.values()) >= {*BY_CHANCE, *ABSENT}
            absent = {key: q for key, q in everything.items() if legends[key] in ABSENT}
            exempt = {*BY_CHANCE, *ABSENT}
            others = {panel["title"] for panel in grafana.others()}
            async with traffic(cluster):
                waiting = {
                    key: query
                    for key, query in everything.items()
                    if legends[key] not in exempt and key.partition("|")[0] not in others
                }
                waiting |= {f"record|{name}": name for name in records()}
                broken = {"Probe failures", "Sync failures"}
                waiting = await until_answered(prometheus, waiting, until=broken)
                runner = cluster.sites["bom"].instance_runner
                assert runner is not None
                await runner.cleanup()
                await cluster.stop_node("bom")
                await until_answered(prometheus, waiting, until=set())
            # Nothing may be listed that does return data: the list would hide a defect then.
            without_data = await unanswered(prometheus, everything)
            assert without_data.items() >= absent.items()
            assert await prometheus.rule_health() == {"ok"}
            nodes = await prometheus.label_values("instance", "onetrip_build_info")
            assert sorted(nodes) == sorted(targets)
        finally:
            await cluster.stop()
