"""Makes each fault for real while clients send requests, and writes docs/reliability.md.

    python scripts/reliability.py [--only NAME,NAME] [--brief] [--json FILE] [OUTPUT]

Exit code 1 when an idempotent request through a survivor failed, or something declared was lost;
2 when this machine cannot make the faults.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "scripts"))

from reliability_faults import FAULTS, Fault, Watch  # noqa: E402
from reliability_load import Declared, Load  # noqa: E402

from support.regions import REGIONS, NotPossibleError, Regions, isolate, nats_server  # noqa: E402

BRIEF = 4.0
"""Length of a fault with `--brief`, s."""

RECOVERY = 60.0
"""Bound on recovery, s. NATS is tried again after up to 45 s."""


@dataclass
class Row:
    """What a fault did.

    Attributes:
        noticed_after: s until a survivor told of it; None where nobody did.
        recovered_after: s from its end until all was well and known everywhere; None: not in time.
        slowest: longest time of an answer, s.
        refused: changes that were refused with an error while it lasted.
    """

    name: str
    title: str
    done: str
    sent: int = 0
    failed_idempotent: int = 0
    failed_others: int = 0
    lost: int = 0
    refused: int = 0
    slowest: float = 0.0
    noticed_after: float | None = None
    recovered_after: float | None = None
    note: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What it comes to."""
        if self.note.startswith("not run"):
            return self.note
        is_well = not (self.failed_idempotent or self.lost or self.note)
        return "passed" if is_well and self.recovered_after is not None else "**failed**"


async def carry_out(fault: Fault, regions: Regions, declared: Declared) -> Row:
    """Make a fault and undo it, with clients at the other nodes."""
    row = Row(fault.name, fault.title, fault.done)
    edges = [region for region in REGIONS if region not in fault.victims]
    load = Load(regions, edges)
    load.start()
    try:
        await regions.until(load.is_placed, RECOVERY)
    except TimeoutError:
        row.note = "placement did not settle before it"
    # The last moment before the fault is the worst one.
    for writes_at in (edges[0], *fault.victims):
        if (statuses := await declared.declare(writes_at)) != [201, 200]:
            row.note = f"before it a change was answered with {statuses}"
    watch, began_at = Watch(regions, edges), time.monotonic()
    await fault.make(regions)
    noticing = asyncio.create_task(noticed(fault, watch, regions))
    try:
        statuses = await declared.declare(fault.writes_at or edges[-1])
        row.refused = sum(status in (503, 507) for status in statuses)
        if 0 in statuses or (fault.answers and tuple(statuses) != fault.answers):
            row.note = row.note or f"a change was answered with {statuses}"
        await asyncio.sleep(max(0.0, fault.lasts - (time.monotonic() - began_at)))
        row.note = row.note or await fault.check(load)
    finally:
        await fault.undo(regions)
    row.noticed_after = await noticing
    ended_at = time.monotonic()

    async def is_over() -> bool:
        return await regions.is_well() and not await declared.lost()

    try:
        await regions.until(is_over, RECOVERY)
        row.recovered_after = time.monotonic() - ended_at
    except TimeoutError:
        problems = [p for region in REGIONS for p in await regions.problems(region)]
        row.note = row.note or "; ".join(problems)[:300] or "not recovered"
    await load.stop()
    row.lost = len(await declared.lost())
    row.sent = load.sent.total()
    row.failed_idempotent, row.failed_others = load.failed_idempotent, load.failed_others
    row.slowest = load.slowest
    row.reasons = tuple(f"{count} x {text}" for text, count in load.reasons.most_common(8))
    return row


async def noticed(fault: Fault, watch: Watch, regions: Regions) -> float | None:
    """Wait until a survivor tells of a fault; None when none does while it lasts."""
    if not fault.is_noticed:
        return None
    try:
        return await regions.until(watch.is_told, fault.lasts)
    except TimeoutError:
        return None


async def run(names: list[str], longest: float) -> list[Row]:
    """Make the faults of these names one after another, each for at most `longest` s."""
    rows: list[Row] = []
    chosen = [replace(f, lasts=min(f.lasts, longest)) for f in FAULTS if f.name in names]
    has_nats = any(fault.needs_nats for fault in chosen) and nats_server() is not None
    with tempfile.TemporaryDirectory(prefix="onetrip-reliability-") as folder:
        regions = Regions(Path(folder), has_nats=has_nats)
        try:
            await regions.start()
            declared = Declared(regions)
            await declared.deploy("den")
            for fault in chosen:
                if fault.needs_nats and not has_nats:
                    row = Row(fault.name, fault.title, fault.done, note="not run: no nats-server")
                else:
                    row = await carry_out(fault, regions, declared)
                rows.append(row)
                print(f"{row.name}: {row.verdict} {row.note} {row.reasons or ''}", file=sys.stderr)
        finally:
            await regions.stop()
    return rows


HEAD = """# Reliability

Written by `make reliability`; do not edit.

Three regions with a node and two instances each, in network namespaces of their own, with half the
RTTs between Cheyenne, Mumbai and Frankfurt between them, the database in the second one and
`probe.interval: 1`; all else is as it is by default. Every fault is made for real while clients
send GET, PUT and POST requests through the nodes that are not hit, and while domains, a deployment
and placement policies are declared: before, at the node that is hit in its last moment, and
meanwhile.

* **failed**: answered 5xx, or not at all. Idempotent requests (GET, PUT) must never fail; others
  may when what ran them died, since nobody knows how far it came.
* **lost**: declared things that were acknowledged and that some node lacks after recovery.
* **slowest**: the longest time of an answer. Without a fault it is 0.6 s: five round trips from the
  first region to the database.
* **noticed**: from the fault until a survivor tells of it, by a problem in `/v1/status` or an event
  (`probe.target_lost`, `cluster.peer_lost`, `place.moved` and the like).
* **recovered**: from the end of the fault until no node has a problem, all RTTs are fresh, and
  every node knows all that was declared.
"""

TAIL = """
What is refused while a disk is full is answered 503 and changes nothing; the node goes on serving.
How claims of a lying peer are judged is in [security](security.md#a-node-that-lies); faults of
clients, applications and machines are in [conformance](conformance.md#faults).
"""


def page(rows: list[Row]) -> str:
    """Return the page of these results."""
    lines = [
        HEAD,
        "| fault | how it is made | requests | failed: idempotent | failed: others | lost "
        "| slowest | noticed | recovered | verdict |",
        "|" + " --- |" * 10,
    ]
    for row in rows:
        counts = f"{row.sent:,} | {row.failed_idempotent} | {row.failed_others} | {row.lost}"
        times = f"{seconds(row.slowest)} | {seconds(row.noticed_after)}"
        lines.append(
            f"| {row.title} | {row.done} | {counts} | {times} | {seconds(row.recovered_after)} "
            f"| {row.verdict} |"
        )
    return "\n".join(lines) + "\n" + TAIL


def seconds(duration: float | None) -> str:
    """Return a time as people read it."""
    return "-" if duration is None else f"{duration:.1f} s"


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(fault.name for fault in FAULTS))
    parser.add_argument("--json", type=Path, help="write the results there as well")
    parser.add_argument("--brief", action="store_true", help="end each fault after a few seconds")
    parser.add_argument("output", nargs="?", type=Path)
    options = parser.parse_args()
    try:
        isolate()
    except NotPossibleError as error:
        print(f"faults cannot be made here: {error}", file=sys.stderr)
        return 2
    longest = BRIEF if options.brief else math.inf
    rows = asyncio.run(run(options.only.split(","), longest))
    if options.json:
        results = [asdict(row) | {"verdict": row.verdict} for row in rows]
        options.json.write_text(json.dumps(results))
    if options.output:
        options.output.write_text(page(rows))
    return int(any(row.verdict == "**failed**" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
