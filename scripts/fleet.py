"""Measure a cluster of many real nodes on this machine, and write docs/scale.md.

Run: make fleet   (python scripts/fleet.py [--nodes N] [--projects N] [--only WAY] [--out FILE])
About ten minutes with 30 nodes on two processors. In a network namespace of its own where the
system lets it, so that what passes the loopback interface is the fleet's. It ends what it started.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fleet_page import CHANGE_INTERVAL, CHANGES, MATRIX, Result, page  # noqa: E402

from support.fleet import Fleet, FleetNode, spread  # noqa: E402

WARM_UP, QUIET = 30.0, 30.0
"""Seconds before and of the measurement of a cluster in which nothing is declared."""

ARRIVE = 30.0
"""Time for the last change to arrive, s."""

LOOK = 0.02
"""Seconds between two requests to a node that starts."""

INSIDE = "ONETRIP_FLEET_INSIDE"
"""Set for the process in the namespace."""

Sent = dict[str, tuple[float, FleetNode]]
"""Per project: when its policy was changed, Unix time, and at which node."""


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--projects", type=int, default=10_000)
    parser.add_argument("--only", choices=("pull", "nats"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scale.md")
    options = parser.parse_args()
    if INSIDE not in os.environ and (command := namespace()):
        os.execvpe(command[0], [*command, sys.executable, *sys.argv], os.environ | {INSIDE: "1"})
    is_alone = INSIDE in os.environ
    if is_alone:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    results: dict[str, Result] = {}
    for way in (options.only,) if options.only else ("pull", "nats"):
        with tempfile.TemporaryDirectory(prefix="onetrip-fleet-") as name:
            fleet = Fleet(Path(name), spread(MATRIX, options.nodes), CHANGES, way == "nats")
            results[way] = asyncio.run(measure(fleet, options.projects, is_alone))
    text = page(results, spread(MATRIX, options.nodes), options.projects)
    print(text)
    options.out.write_text(text)


def namespace() -> list[str]:
    """Return the command that runs another one in a network namespace, or nothing."""
    if not (shutil.which("ip") and shutil.which("unshare")):
        return []
    for command in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if not subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
            return command
    return []


async def measure(fleet: Fleet, projects: int, is_alone: bool) -> Result:
    """Run the fleet and return what it did."""
    result = Result()
    async with fleet:
        *regions, last = fleet.matrix.regions
        say(f"starting {len(regions)} nodes")
        await fleet.start_all(regions)
        await fleet.know_each_other()
        await join(fleet, last, projects, result)
        await fleet.know_each_other()
        say(f"measuring for {WARM_UP + QUIET:g} s while nothing is declared")
        await asyncio.sleep(WARM_UP)
        await quiet(fleet, result, is_alone)
        say(f"changing {CHANGES} policies")
        await changes(fleet, result)
        nodes = list(fleet.nodes.values())
        result.resident = max(node.resident() for node in nodes[:-1])
        result.big_resident = nodes[-1].resident()
        result.series = max([len(await fleet.metrics(node)) for node in nodes])
    return result


async def join(fleet: Fleet, region: str, projects: int, result: Result) -> None:
    """Start the last node, with many projects, once an override exists that it has to learn."""
    say(f"starting one with {projects:,} projects")
    first, pinned = fleet.nodes[fleet.matrix.regions[0]], fleet.matrix.regions[1]
    await fleet.change(first, "shop", mode="smart", hint=pinned)
    node = await fleet.start(region, projects)
    result.served_after = time.time() - node.started_at
    result.served_cpu = node.cpu_seconds()
    async with asyncio.timeout(ARRIVE):
        while await fleet.get(node) != pinned:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
    result.informed_after = time.time() - node.started_at


async def quiet(fleet: Fleet, result: Result, is_alone: bool) -> None:
    """Count bytes and processor time while nothing happens but measuring."""
    nodes = list(fleet.nodes.values())
    before = [await told_bytes(fleet, node) for node in nodes]
    used, began, passed = [n.cpu_seconds() for n in nodes], time.monotonic(), loopback()
    await asyncio.sleep(QUIET)
    passed, took = loopback() - passed, time.monotonic() - began
    result.cpu = [(n.cpu_seconds() - u) / took for n, u in zip(nodes, used, strict=True)]
    told = [await told_bytes(fleet, n) - b for n, b in zip(nodes, before, strict=True)]
    pairs = len(nodes) * (len(nodes) - 1)
    result.pulled = sum(told) / took / pairs
    # Everything passes the interface twice: to the relay, and on from it.
    result.wire = passed / 2 / took / pairs if is_alone else None


async def told_bytes(fleet: Fleet, node: FleetNode) -> float:
    """Return the bytes a node has asked and got."""
    metrics = await fleet.metrics(node)
    return sum(metrics[f"onetrip_cluster_{way}_bytes_total"] for way in ("sent", "received"))


def loopback() -> int:
    """Return the bytes that passed the loopback interface."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return int(next(line for line in lines if "lo:" in line).split()[1])


async def changes(fleet: Fleet, result: Result) -> None:
    """Change policies, and read from the nodes' logs when each was in force."""
    nodes, sent = list(fleet.nodes.values()), Sent()
    for number in range(CHANGES):
        node, project = nodes[number % len(nodes)], f"p{number}"
        sent[project] = time.time(), node
        await fleet.change(node, project, mode="smart")
        await asyncio.sleep(max(0.0, sent[project][0] + CHANGE_INTERVAL - time.time()))
    wanted, deadline = CHANGES * (len(nodes) - 1), time.monotonic() + ARRIVE
    found = arrived(nodes, sent)
    while len(found) < wanted and time.monotonic() < deadline:
        await asyncio.sleep(1.0)
        found = arrived(nodes, sent)
    result.lost = wanted - len(found)
    result.delays = sorted(delay for _, delay in found)
    last: dict[str, float] = {}
    for project, delay in found:
        last[project] = max(delay, last.get(project, 0.0))
    result.slowest = sorted(last.values())


def arrived(nodes: Sequence[FleetNode], sent: Sent) -> list[tuple[str, float]]:
    """Return each change with how long it took to each node that was not asked itself, s."""
    return [
        (event["project"], event["ts"] - sent[event["project"]][0])
        for node in nodes
        for event in node.events("app.policy_changed")
        if event["project"] in sent and sent[event["project"]][1] is not node
    ]


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
