"""Reports: cut on whole seconds, bounded while the node is away, nothing lost or sent twice."""

import asyncio
from dataclasses import dataclass, field
from random import Random

import msgspec
import pytest

from onetrip.errors import ConfigError, Kind, UpstreamError
from onetrip.model.catalog import BackendKind
from onetrip.model.relay import FlipReport
from onetrip.model.topology import Endpoint
from onetrip.observe.logs import silent_log
from onetrip.relay.report import MAX_QUEUED, Reporter
from onetrip.relay.server import Counts
from onetrip.relay.settings import RelaySettings
from support.clock import VirtualClock

HERE, THERE = Endpoint("127.0.0.1", 6432), Endpoint("127.0.0.1", 5432)
SETTINGS = RelaySettings(BackendKind.POSTGRES, HERE, THERE, "orders-db", "shop")


@dataclass
class Rig:
    """A reporter, what it counts, and a node that takes or refuses reports."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(wall=1_750_000_000.4))
    counts: Counts = field(default_factory=Counts)
    taken: list[FlipReport] = field(default_factory=list)
    failure: Kind | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.reporter = Reporter(
            SETTINGS, "a1", lambda: self.counts, self.post, self.clock, silent_log()
        )

    async def post(self, body: bytes) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise UpstreamError("refused", kind=self.failure)
        self.taken.append(msgspec.json.decode(body, type=FlipReport))

    def count(self, trips: int) -> None:
        before = self.counts
        self.counts = Counts(before.trips + trips, before.setup_trips + 2, before.connections + 1)


@pytest.fixture
async def rig():
    made = Rig()
    tasks = [
        asyncio.create_task(made.reporter.cut_forever()),
        asyncio.create_task(made.reporter.send_forever()),
    ]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_interval_ends_at_each_whole_second(rig: Rig) -> None:
    rig.count(3)
    await rig.clock.advance(2.0)
    assert [round(report.at % 1, 6) for report in rig.taken] == [0.0, 0.0]
    assert [round(report.duration, 6) for report in rig.taken] == [0.6, 1.0]
    assert [(r.trips, r.setup_trips, r.connections) for r in rig.taken] == [(3, 2, 1), (0, 0, 0)]
    first = rig.taken[0]
    assert (first.backend, first.relay, first.project) == ("orders-db", "a1", "shop")


async def test_at_most_one_report_a_second(rig: Rig) -> None:
    await rig.clock.advance(30.0)
    assert len(rig.taken) == 30


async def test_an_absent_node_costs_nothing_and_loses_nothing(rig: Rig) -> None:
    rig.failure = Kind.CONNECT
    for _ in range(500):
        rig.count(7)
        await rig.clock.advance(1.0)
    assert rig.reporter.queued == MAX_QUEUED
    rig.failure = None
    await rig.clock.advance(1.0)
    assert rig.reporter.queued == 0
    assert sum(report.trips for report in rig.taken) == 3500
    assert sum(report.connections for report in rig.taken) == 500
    assert sum(report.duration for report in rig.taken) == pytest.approx(500.6)
    ends = [report.at for report in rig.taken]
    assert ends == sorted(ends)
    # The newest keep their place in time; only the oldest became one.
    assert [round(report.duration, 6) for report in rig.taken[1:]] == [1.0] * (MAX_QUEUED - 1)


async def test_a_report_that_will_never_be_taken_is_dropped(rig: Rig) -> None:
    rig.failure = Kind.DENIED
    await rig.clock.advance(5.0)
    assert rig.reporter.queued == 0
    rig.failure = None
    await rig.clock.advance(1.0)
    assert len(rig.taken) == 1


async def test_a_node_that_hangs_gets_every_trip_once(rig: Rig) -> None:
    rng = Random(3)
    rig.gate.clear()
    total = 0
    for _ in range(60):
        total += (count := rng.randrange(9))
        rig.count(count)
        await rig.clock.advance(1.0)
    assert rig.reporter.queued <= MAX_QUEUED
    rig.gate.set()
    await rig.clock.advance(1.0)
    assert sum(report.trips for report in rig.taken) == total


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "Orders DB"}, "backend is 'Orders DB'"),
        ({"backend": ""}, "backend is ''"),
        ({"project": "shop/production"}, "project is"),
        ({"kind": BackendKind.HTTP}, "kind is 'http'; it must be one of postgres, mysql, redis"),
        ({"connect_timeout": 0.0}, r"connect_timeout is 0; it must be in 0\.1\.\.120"),
        ({"idle_timeout": float("nan")}, "idle_timeout is nan"),
        ({"drain_timeout": 601.0}, "drain_timeout is 601"),
        ({"max_connections": 0}, "max_connections is 0; it must be in 1..100000"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict, message: str) -> None:
    plain = {"kind": BackendKind.REDIS, "listen": HERE, "target": THERE, "backend": "cache"}
    with pytest.raises(ConfigError, match=message):
        RelaySettings(**(plain | change))
