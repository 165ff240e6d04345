"""The page that `scripts/fleet.py` writes: what was measured, beside the bars."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from onetrip_lab.topology import RttMatrix

MATRIX = "topo_236_world.csv"

CHANGES, CHANGE_INTERVAL = 200, 1.0
"""Policy changes, one a project, each at the next node; and the time from one to the next, s."""


LIMIT = 300_000_000
"""Most memory of a node, bytes."""


@dataclass
class Result:
    """What one way of telling each other took: seconds, bytes, bytes a second, ratios.

    Attributes:
        served_after, informed_after: from the start of the last node to its first answer, and to
            the first one that follows an override it was told of.
        served_cpu: processor time until the first answer.
        delays: of each change to each node, sorted.
        slowest: of each change to the last node, sorted.
        lost: how many changes did not arrive somewhere.
        pulled: reports and requests for them, a pair and second.
        wire: all of it, probes and heads of TCP and IP included; None where it cannot be told.
        cpu: share of a processor by node.
        series: of the node that has most.
        resident, big_resident: of the largest node, and of the one with many projects.
    """

    served_after: float = 0.0
    served_cpu: float = 0.0
    informed_after: float = 0.0
    delays: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    lost: int = 0
    pulled: float = 0.0
    wire: float | None = None
    cpu: list[float] = field(default_factory=list)
    series: int = 0
    resident: int = 0
    big_resident: int = 0


Cell = tuple[str, bool | None]
"""What was measured, and whether it keeps the bar; None without one."""

PAGE = """# Scale

Written by `make fleet`; do not edit.

{nodes} real nodes, each `onetrip run` in a process of its own, on one machine
({machine}).
Their regions are those of a measured matrix of 236 cities (`tests/data/{matrix}`) that lie
farthest apart; what they say to each other passes a relay that delays it by those RTTs,
{rtt:.0f} ms in the median. Each node has {changes} projects, the one that starts last {projects:,}.
*Pull* is the exchange by `regions.<id>.peer`, *NATS* that by `cluster.nats` alone, with one server
in the first region. Times and processor time are those of a machine that all {nodes} nodes share.

{table}

* **Joined**: from the start of the process with {projects:,} projects to the first answer 200
  through it, and to the first one that follows an override made elsewhere before it started.
* **Changes**: {changes} policies, each of another project, one each {interval:g} s at the next
  node; from before the request to the admin API until another node logged that it is in force
  there. Each of them is put in force {nodes} times by the same processors, which is why there are
  not more a second.
* **Bytes**: while nothing is declared, of one node and one of its peers: requests and reports with
  their heads, and everything on the wire: probes and the heads of TCP and IP as well, counted on
  the loopback interface of a network namespace.
* **Series** are lines of `/metrics`; `metrics.max_series` bounds them, and a unit test has 330
  regions and 10,000 projects.
* **Memory** is resident memory after the changes.
"""


def page(results: Mapping[str, Result], matrix: RttMatrix, projects: int) -> str:
    """Return the page; `results` by the way nodes told each other."""
    titles = {"pull": "pull", "nats": "NATS"}
    lines = [
        f"| what | bar | {' | '.join(titles[way] for way in results)} |",
        f"| --- | --- |{' --- |' * len(results)}",
    ]
    for what, bar, measure in rows(projects):
        cells = [text(measure(result)) for result in results.values()]
        lines.append(f"| {what} | {bar} | {' | '.join(cells)} |")
    return PAGE.format(
        nodes=len(matrix.regions),
        machine=f"{os.cpu_count()} processors, Python {platform.python_version()}",
        matrix=MATRIX,
        rtt=1e3 * statistics.median(matrix.rtts.values()),
        changes=CHANGES,
        interval=CHANGE_INTERVAL,
        projects=projects,
        table="\n".join(lines),
    )


def rows(projects: int) -> list[tuple[str, str, Callable[[Result], Cell]]]:
    """Return what there is to tell: its name, its bar, and how it is measured."""
    many = f"node with {projects:,} projects"
    return [
        ("joined, serving", "< 10 s", lambda r: (f"{r.served_after:.1f} s", r.served_after < 10)),
        (
            "joined, serving as declared elsewhere",
            "< 10 s",
            lambda r: (f"{r.informed_after:.1f} s", r.informed_after < 10),
        ),
        ("processor time until it serves", "–", lambda r: (f"{r.served_cpu:.1f} s", None)),
        (
            "a change at any other node, 99th percentile",
            "< 2 s",
            lambda r: (f"{part(r.delays, 0.99):.2f} s", part(r.delays, 0.99) < 2 and not r.lost),
        ),
        (
            "the same, median; at the last of all nodes",
            "–",
            lambda r: (f"{part(r.delays, 0.5):.2f} s; {part(r.slowest, 0.5):.2f} s", None),
        ),
        ("changes lost", "0", lambda r: (str(r.lost), not r.lost)),
        (
            "bytes/s and peer: reports",
            "≤ 1,000",
            lambda r: (f"{r.pulled:.0f}", r.pulled <= 1000) if r.pulled else ("–", None),
        ),
        (
            "bytes/s and peer: on the wire",
            "≤ 1,000",
            lambda r: ("–", None) if r.wire is None else (f"{r.wire:.0f}", r.wire <= 1000),
        ),
        ("metric series", "≤ 2,000", lambda r: (str(r.series), r.series <= 2000)),
        ("memory of a node", "< 300 MB", lambda r: memory(r.resident)),
        (f"memory of the {many}", "< 300 MB", lambda r: memory(r.big_resident)),
        ("processor, a node", "–", lambda r: (f"{statistics.median(r.cpu):.1%} of one", None)),
        (f"processor, the {many}", "–", lambda r: (f"{r.cpu[-1]:.1%} of one", None)),
    ]


def memory(size: int) -> Cell:
    """Return a size, bytes, and whether it is below the limit."""
    return f"{size / 1e6:.0f} MB", size < LIMIT


def text(cell: Cell) -> str:
    """Return a cell of the table."""
    measured, is_kept = cell
    return f"{measured}, **missed**" if is_kept is False else measured


def part(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the sorted `values` do not exceed; NaN without any."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
