"""A node that is killed in the middle of writes has lost nothing that it acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from support.node_process import NodeProcess, running_node_process

KILLS = 5

Write = Callable[[aiohttp.ClientSession, int], Awaitable[None]]

STEP = 0.0001
"""Each write is one step of the control group, so the policy in force tells how many were made."""


async def write_until_killed(node: NodeProcess, done: int, rng: random.Random, write: Write) -> int:
    """Count on from `done` until the node is killed in the middle; return the last reply's."""
    url, until, killing = f"http://127.0.0.1:{node.admin}", done + rng.randint(1, 9), None

    async def kill() -> None:
        # Within the time of a write, so that one is in progress.
        await asyncio.sleep(rng.uniform(0.0, 0.01))
        node.process.kill()

    try:
        async with aiohttp.ClientSession(url) as session:
            while True:
                if done == until:
                    killing = asyncio.create_task(kill())
                await write(session, done + 1)
                done += 1
    except (aiohttp.ClientError, ConnectionError):
        assert killing is not None, node.log
        await killing
        await node.process.wait()
        return done


async def write_policy(session: aiohttp.ClientSession, number: int) -> None:
    order = {"placement": {"control": round(number * STEP, 6)}}
    async with session.patch("/v1/projects/shop", json=order) as reply:
        await reply.read()
        assert reply.status == 200


async def write_domain(session: aiohttp.ClientSession, number: int) -> None:
    order = {"host": f"d{number}.test"}
    async with session.post("/v1/projects/shop/domains", json=order) as reply:
        await reply.read()
        assert reply.status in (200, 201)


async def read(node: NodeProcess, path: str) -> Any:
    url = f"http://127.0.0.1:{node.admin}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        assert reply.status == 200
        return await reply.json()


async def test_kill_in_a_loop_loses_no_acknowledged_change(tmp_path: Path) -> None:
    rng, acknowledged, known = random.Random(11), 0, 0
    config = {"data_dir": str(tmp_path / "data")}
    for kills in range(KILLS + 1):
        async with running_node_process(tmp_path, 9, config=config) as node:
            if kills:
                project = await read(node, "/v1/projects/shop")
                known = round(project["placement"]["control"] / STEP)
                # The write after the last acknowledged one may or may not have happened.
                assert acknowledged <= known <= acknowledged + 1
                newest = (await read(node, "/v1/projects/shop/versions?limit=1"))["versions"][0]
                assert (newest["version"], round(newest["control"] / STEP)) == (known, known)
                made = (await read(node, "/v1/audit?limit=1"))["changes"][0]
                told = round(made["after"]["control"] / STEP)
                assert acknowledged <= told <= known
            if kills < KILLS:
                acknowledged = await write_until_killed(node, known, rng, write_policy)
    assert known >= KILLS


async def test_kill_in_a_loop_loses_nothing_that_was_declared(tmp_path: Path) -> None:
    rng, acknowledged, known = random.Random(12), 0, 0
    config = {"data_dir": str(tmp_path / "data")}
    for kills in range(KILLS + 1):
        async with running_node_process(tmp_path, 9, config=config) as node:
            listed = (await read(node, "/v1/projects/shop/domains"))["domains"]
            hosts = [row["host"] for row in listed if not row["is_configured"]]
            known = len(hosts)
            assert set(hosts) == {f"d{number + 1}.test" for number in range(known)}
            assert acknowledged <= known <= acknowledged + 1
            if kills < KILLS:
                acknowledged = await write_until_killed(node, known, rng, write_domain)
    assert known >= KILLS
