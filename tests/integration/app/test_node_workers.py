"""A node with worker processes: one node from outside, whatever happens to a worker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.certs import Authority
from support.fake_upstream import FakeUpstream, always
from support.ports import free_ports
from support.served_node import BOUND, Load, ServedNode, is_alive, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")

REQUESTS = "onetrip_proxy_requests_total"


async def workers_of(node: ServedNode) -> list[dict[str, Any]]:
    _, status = await node.call("GET", "/v1/status")
    return list(status["workers"])


async def eventually(claim: Any) -> None:
    async with asyncio.timeout(BOUND):
        while not await claim():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def settled(node: ServedNode, answered: int) -> float:
    """Return the requests that the node counts, once they are not less than `answered`."""

    async def counted() -> bool:
        return await node.metric(REQUESTS, route="shop/production") >= answered

    await eventually(counted)
    return await node.metric(REQUESTS, route="shop/production")


async def placement_line(node: ServedNode) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.proxy)
    async with asyncio.timeout(BOUND):
        writer.write(b"GET /item HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        head = (await reader.read()).decode()
    writer.close()
    found = re.search(r"(?im)^onetrip-placement: (\S+)", head)
    assert found, head
    return found[1]


async def test_workers_share_the_load_and_are_one_node_from_outside(tmp_path: Path) -> None:
    access = tmp_path / "access.log"
    async with FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        log = {"access": str(access)}
        # Two regions with an instance each: a hint then shows in every response.
        config = yaml.safe_load(node.config.read_text())
        environment = config["projects"]["shop"]["environments"]["production"]
        environment["instances"]["there"] = [f"127.0.0.1:{upstream.port}"]
        regions: dict[str, Any] = {"here": {}, "there": {}}
        more = {"workers": 2, "log": log, "regions": regions, "projects": config["projects"]}
        node.write_config(**more, region="here")
        async with node:
            pids = {worker["pid"] for worker in await workers_of(node)}
            assert len(pids | {node.pid}) == 3
            async with Load(node.proxy, clients=24) as load:
                await load.more(80)
                shares = [opened_by(pid, node.proxy, side=1) for pid in pids]
            assert load.failures == []
            assert sum(shares) == 24
            assert min(shares) >= 2
            assert await settled(node, load.answered) == load.answered
            # Every exchange has one whole line.
            lines = [json.loads(line) for line in access.read_text().splitlines()]
            assert len(lines) == load.answered
            assert len({line["request_id"] for line in lines}) == load.answered
            # What was learned is the sum over both, of which the last 200 are told.
            _, latencies = await node.call("GET", "/v1/latencies")
            told = sum(row["requests"] for row in latencies["latencies"])
            assert told == min(load.answered, 200)
            # A toggle is in force in every worker before a second is over.
            change = {"placement": {"mode": "smart", "hint": "there"}}
            assert (await node.call("PATCH", "/v1/projects/shop", change))[0] == 200
            await eventually(lambda: all_places(node, "remote-there"))
            # A reload that is refused changes nothing anywhere; one that is good, everything.
            good = node.config.read_text()
            node.config.write_text(good.replace("shop.test", "not a host"))
            os.kill(node.pid, signal.SIGHUP)
            await node.logged("app.reload_refused")
            assert await all_places(node, "remote-there")
            node.config.write_text(good.replace("path: /", "path: /"))
            assert (await node.call("POST", "/v1/reload"))[0] == 200
            assert await all_places(node, "remote-there")
            os.kill(node.pid, signal.SIGTERM)
            assert node.process is not None
            assert await asyncio.to_thread(node.process.wait, BOUND) == 0
            assert not any(map(is_alive, pids))


async def all_places(node: ServedNode, wanted: str) -> bool:
    return {await placement_line(node) for _ in range(12)} == {wanted}


def opened_by(pid: int, port: int, side: int) -> int:
    """Return how many connections a process has with a port on one side: 1 its own, 2 remote."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if row[3] == "01"]
    nodes = {f"socket:[{row[9]}]" for row in established if row[side].endswith(f":{port:04X}")}
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except OSError:
            continue
    return len(nodes.intersection(links))


async def test_killed_worker_costs_its_own_connections_only_and_comes_back_up_to_date(
    tmp_path: Path,
) -> None:
    authority, (secure,) = Authority(tmp_path), free_ports(1)
    old, new = authority.issue("old", "shop.test"), authority.issue("new", "shop.test")
    files = {"cert": str(old.cert), "key": str(old.key)}
    tls = {"listen": f"127.0.0.1:{secure}", "certificates": [files]}
    async with FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        node.write_config(workers=2, tls=tls)
        async with node:
            assert await certificates_of(authority, secure) == {"old"}
            files |= {"cert": str(new.cert), "key": str(new.key)}
            node.write_config(workers=2, tls=tls)
            assert (await node.call("POST", "/v1/reload"))[0] == 200
            await eventually(lambda: serves(authority, secure, "new"))
            first, second = await workers_of(node)
            async with Load(node.proxy, clients=6) as load:
                await load.more(60)
                before = await settled(node, 1)
                held = opened_by(first["pid"], node.proxy, side=1)
                os.kill(first["pid"], signal.SIGKILL)
                await until(lambda: bool(node.events("app.worker_ended")))
                # Requests on the other worker go on, and new connections are served at once.
                assert await placement_line(node) == "local-here"
                await eventually(lambda: replaced(node, first["pid"]))
            assert held == len(load.failures) < 6
            ended = node.events("app.worker_ended")
            assert [e["reason"] for e in ended] == ["ended by signal 9"]
            workers = await workers_of(node)
            assert [w["ends"] for w in workers] == [1, 0]
            assert workers[1]["pid"] == second["pid"]
            assert await certificates_of(authority, secure) == {"new"}
            assert await node.metric("onetrip_app_worker_ends_total") == 1
            assert await node.metric("onetrip_app_workers") == 2
            assert await settled(node, 1) >= before
            _, events = await node.call("GET", "/v1/events")
            assert "app.worker_ended" in {event["name"] for event in events["events"]}
            # Workers do not outlive their node: its successor needs the addresses.
            os.kill(node.pid, signal.SIGKILL)
            await until(lambda: not any(is_alive(worker["pid"]) for worker in workers))


async def certificates_of(authority: Authority, port: int) -> set[str]:
    """Return the names of the certificates that a few clients get."""
    found = set()
    for _ in range(8):
        async with asyncio.timeout(BOUND):
            _, writer = await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=authority.client_context(),
                server_hostname="shop.test",
            )
        subject = writer.get_extra_info("ssl_object").getpeercert()["subject"]
        found.add(dict(pair[0] for pair in subject)["commonName"])
        writer.close()
    return found


async def serves(authority: Authority, port: int, wanted: str) -> bool:
    return await certificates_of(authority, port) == {wanted}


async def replaced(node: ServedNode, pid: int) -> bool:
    worker = (await workers_of(node))[0]
    return bool(worker["is_serving"]) and worker["pid"] != pid


async def test_upgrade_of_a_node_with_workers_fails_no_request(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        node.write_config(workers=2)
        async with node:
            old = {worker["pid"] for worker in await workers_of(node)}
            async with Load(node.proxy, clients=6) as load:
                await load.more(100)
                # Their number may change with the upgrade.
                node.write_config(workers=3)
                status, reply = await node.call("POST", "/v1/upgrade")
                assert status == 200, reply
                await load.more(100)
                await until(lambda: not any(map(is_alive, old)))
                await load.more(100)
            assert load.failures == []
            new = {worker["pid"] for worker in await workers_of(node)}
            assert len(new) == 3
            assert not new & old


async def test_deployments_are_served_by_every_worker(tmp_path: Path) -> None:
    terms = {"domain": "apps.test", "allow": ["127.0.0.0/8"]}

    def answering(text: bytes) -> FakeUpstream:
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
        return FakeUpstream(always(reply))

    async with answering(b"old") as old, answering(b"new") as new:
        node = ServedNode(tmp_path, old.port, workers=2, deployments=terms)
        async with node:
            order = {
                "compatibility_date": "2026-11-25",
                "instances": {"here": [f"127.0.0.1:{new.port}"]},
                "promote": False,
            }
            path = "/v1/projects/shop/deployments"
            status, made = await node.call("POST", path, order)
            assert status == 201, made

            async def is_ready() -> bool:
                return (await node.call("GET", f"{path}/{made['id']}"))[1]["status"] == "ready"

            await eventually(is_ready)
            own = f"{made['id']}.shop.apps.test"

            async def all_say(host: str, text: str) -> bool:
                # Each on a connection of its own, so that both workers are asked.
                return {await body_of(node, host) for _ in range(12)} == {text}

            await eventually(lambda: all_say(own, "new"))
            assert await all_say("shop.test", "old")
            rollout = "/v1/projects/shop/environments/production/rollout"
            status, _ = await node.call("PUT", rollout, {"deployment": made["id"], "share": 1})
            assert status == 200
            await eventually(lambda: all_say("shop.test", "new"))


async def body_of(node: ServedNode, host: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.proxy)
    async with asyncio.timeout(BOUND):
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        reply = (await reader.read()).decode()
    writer.close()
    return reply.rpartition("\r\n\r\n")[2]


@pytest.mark.parametrize("workers", [1, 2])
async def test_every_decision_of_a_project_with_rules_is_in_the_residency_log(
    tmp_path: Path, workers: int
) -> None:
    kept = tmp_path / "residency.log"
    async with FakeUpstream() as upstream:
        node = ServedNode(tmp_path, upstream.port)
        config = yaml.safe_load(node.config.read_text())
        config["projects"]["shop"]["placement"] = {"deny": ["there"]}
        regions: dict[str, Any] = {"here": {}, "there": {}}
        log = {"access": "off", "residency": str(kept)}
        more = {"workers": workers, "log": log, "regions": regions}
        node.write_config(**more, projects=config["projects"], region="here")
        async with node:
            async with Load(node.proxy, clients=4) as load:
                await load.more(40)
            assert load.failures == []
            await until(lambda: kept.read_bytes().count(b"\n") >= load.answered)
            lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert {(line["event"], line["region"]) for line in lines} == {("proxy.residency_kept", "here")}
    assert {tuple(line["denied"]) for line in lines} == {("there",)}
