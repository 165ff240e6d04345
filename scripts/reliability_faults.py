"""The faults of docs/reliability.md: how each is made, undone, and told by the survivors."""

from __future__ import annotations

import errno
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reliability_load import Load

from support.regions import HOME, START_TIMEOUT, Regions

Act = Callable[[Regions], Awaitable[None]]


async def nothing(regions: Regions) -> None:
    """Do nothing."""


async def no_complaint(load: Load) -> str:
    """Find nothing wrong."""
    return ""


SIGNS = (
    "cluster.claim_rejected",
    "cluster.nats_lost",
    "cluster.peer_lost",
    "place.moved",
    "probe.target_lost",
    "proxy.instance_ejected",
)
"""Events that tell of a fault."""


class Watch:
    """Asks some nodes whether they tell of something new: a problem, or one of `SIGNS`."""

    def __init__(self, regions: Regions, edges: list[str]) -> None:
        self._regions = regions
        self._edges = edges
        self._before = {edge: self._count(edge) for edge in edges}

    async def is_told(self) -> bool:
        """Tell whether one of them does."""
        for edge in self._edges:
            if self._count(edge) > self._before[edge] or await self._regions.problems(edge):
                return True
        return False

    def _count(self, edge: str) -> int:
        log = self._regions.log(f"node-{edge}")
        return sum(log.count(f'"{sign}"') for sign in SIGNS)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        title, done: what it is, and what is done to make it.
        victims: regions whose node is hit; clients are at the others.
        lasts: s between make and undo.
        is_noticed: there is something to notice.
        check: what is wrong while it lasts, "" for nothing.
        writes_at: where changes are made meanwhile; the last survivor if empty.
        answers: statuses that those must have; any if empty.
    """

    name: str
    title: str
    done: str
    make: Act
    undo: Act = nothing
    victims: tuple[str, ...] = ()
    lasts: float = 6.0
    is_noticed: bool = True
    check: Callable[[Load], Awaitable[str]] = no_complaint
    writes_at: str = ""
    answers: tuple[int, ...] = ()
    needs_nats: bool = False


async def kill_node(regions: Regions) -> None:
    await regions.kill("node-bom")


async def start_node(regions: Regions) -> None:
    await regions.start_node("bom")


async def kill_instance(regions: Regions) -> None:
    await regions.kill("instance-bom-1")


async def start_instance(regions: Regions) -> None:
    await regions.start_instance("bom", 1)


async def hang(regions: Regions) -> None:
    regions.send("node-bom", signal.SIGSTOP)


async def wake(regions: Regions) -> None:
    regions.send("node-bom", signal.SIGCONT)


async def part(regions: Regions) -> None:
    for source, target in (("den", "bom"), ("bom", "den"), ("fra", "bom"), ("bom", "fra")):
        regions.lose(source, target)


async def join(regions: Regions) -> None:
    for source, target in (("den", "bom"), ("bom", "den"), ("fra", "bom"), ("bom", "fra")):
        regions.find(source, target)


async def part_one_way(regions: Regions) -> None:
    regions.lose("bom", "den")


async def join_one_way(regions: Regions) -> None:
    regions.find("bom", "den")


async def skew(regions: Regions) -> None:
    regions.inject("den", clock=300.0)
    regions.inject("fra", clock=-300.0)


async def skew_back(regions: Regions) -> None:
    regions.inject("den")
    regions.inject("fra")


async def slow_reports(regions: Regions) -> None:
    await regions.set_distance("peer", "bom", 12.0)


async def quick_reports(regions: Regions) -> None:
    await regions.set_distance("peer", "bom", None)


async def slow_data(regions: Regions) -> None:
    await regions.set_distance("node", "bom", 3.0)


async def quick_data(regions: Regions) -> None:
    await regions.set_distance("node", "bom", None)


async def lie(regions: Regions) -> None:
    regions.inject("fra", claims={"backend:db": 0.0002})


async def tell_truth(regions: Regions) -> None:
    regions.inject("fra")


async def is_not_drawn(load: Load) -> str:
    """Find requests that run at the liar's."""
    drawn = [edge for edge, place in load.places.items() if place != HOME]
    return f"requests of {', '.join(drawn)} left {HOME}" if drawn else ""


async def set_clock_ahead(regions: Regions) -> None:
    await regions.kill("node-den")
    regions.inject("den", clock=300.0)
    await regions.start_node("den")
    await regions.until(regions.is_well, START_TIMEOUT)
    await regions.kill("node-den")
    regions.inject("den")
    await regions.start_node("den")


async def kill_nats(regions: Regions) -> None:
    await regions.kill("nats")


async def start_nats(regions: Regions) -> None:
    await regions.start_nats()


async def fill_disk(regions: Regions) -> None:
    with (regions.state("den") / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


async def empty_disk(regions: Regions) -> None:
    (regions.state("den") / "filler").unlink()


FAULTS = (
    Fault(
        "node",
        "Node killed",
        "`kill -9` of the node where most requests run",
        kill_node,
        start_node,
        victims=("bom",),
    ),
    Fault(
        "instance",
        "Instance killed",
        "`kill -9` of one of the two instances there",
        kill_instance,
        start_instance,
    ),
    Fault(
        "hang",
        "Node hangs",
        "`SIGSTOP`: it accepts connections and answers nothing",
        hang,
        wake,
        victims=("bom",),
        lasts=12.0,
    ),
    Fault(
        "partition",
        "Partition",
        "no packet passes between that region and the two others",
        part,
        join,
        victims=("bom",),
        lasts=15.0,
    ),
    Fault(
        "one-way",
        "Partition, one way",
        "no packet of that region reaches one of the others",
        part_one_way,
        join_one_way,
        victims=("bom",),
        lasts=15.0,
    ),
    Fault(
        "clock",
        "Clocks step",
        "one node's by +5 min, another one's by -5 min, and back",
        skew,
        skew_back,
        lasts=5.0,
        is_noticed=False,
    ),
    Fault(
        "clock-restart",
        "Clock set back over a restart",
        "a node runs 5 min ahead, is killed and comes back with the right time",
        set_clock_ahead,
        victims=("den",),
        lasts=2.0,
        is_noticed=False,
    ),
    Fault(
        "slow-reports",
        "Slow peer",
        "its reports take 12 s",
        slow_reports,
        quick_reports,
        lasts=12.0,
    ),
    Fault(
        "slow-data",
        "Slow node",
        "every round trip to it takes 3 s",
        slow_data,
        quick_data,
        victims=("bom",),
        lasts=12.0,
    ),
    Fault(
        "liar",
        "Lying peer",
        "a node claims to be 0.2 ms from the database",
        lie,
        tell_truth,
        lasts=14.0,
        check=is_not_drawn,
    ),
    Fault(
        "nats",
        "NATS server killed",
        "`kill -9`, and started again",
        kill_nats,
        start_nats,
        lasts=2.0,
        needs_nats=True,
    ),
    Fault(
        "nats-outage",
        "NATS outage",
        "no server for 15 s",
        kill_nats,
        start_nats,
        lasts=15.0,
        needs_nats=True,
    ),
    Fault(
        "disk",
        "Full disk",
        "the file system of a node's state has no room left",
        fill_disk,
        empty_disk,
        lasts=8.0,
        writes_at="den",
        answers=(503, 503),
    ),
)
