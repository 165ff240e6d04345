"""Reports over a store: what arrives is what was written, and nothing else is believed."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from onetrip.cluster import shared_reports as module
from onetrip.cluster.delta import ReportLog
from onetrip.cluster.messages import PolicyRow, Report
from onetrip.cluster.pace import BASE_INTERVAL
from onetrip.cluster.shared_reports import MAX_TRIES, Head, SharedReports
from onetrip.cluster.state import ClusterState
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.clock import VirtualClock
from support.fake_bus import FakeBucket, Stored

DEN, BOM = RegionId("den"), RegionId("bom")
BOTH = frozenset({DEN, BOM})
DB = Target(TargetKind.BACKEND, "db")
OTHERS = [Target(TargetKind.PEER, f"r{n}") for n in range(50)]


class Side:
    """One node's end of the store."""

    def __init__(
        self, region: RegionId, stored: Stored, clock: VirtualClock, secret: bytes = b"shared"
    ) -> None:
        self.stored = stored
        self.bucket = FakeBucket(stored)
        self.state = ClusterState(region, BOTH, 5.0)
        self.clock = clock
        self.metrics = Metrics()
        self.policies: list[PolicyRow] = []
        self.seen: list[Report] = []
        self.seq = 0
        self.boot = 1.0
        self.mine: list[PolicyRow] = []
        self.rtt = 0.1
        self.log = ReportLog()
        self.region = region
        self.shared = SharedReports(
            region,
            secret,
            self.bucket,
            self.state,
            self.look,
            self.policies.extend,
            self.seen.append,
            interval=1.0,
            clock=clock,
            metrics=self.metrics,
            log=silent_log(),
        )

    def look(self) -> ReportLog:
        self.seq += 1
        rtts = [
            RttEstimate(DB, self.rtt, self.rtt, 0.001, self.seq, 0, 0.0, EstimateState.FRESH),
            *(RttEstimate(t, 0.1, 0.1, 0.001, 9, 0, 0.0, EstimateState.FRESH) for t in OTHERS),
        ]
        report = Report(self.region, self.boot, self.seq, rtts=rtts, policies=self.mine)
        self.log.note(report, self.clock.now())
        return self.log

    def is_alive(self) -> bool:
        return self.state.peers(self.clock.now())[0].is_alive

    def failures(self, region: str) -> float:
        return float(self.metrics.sync_failures.labels(region)._value.get())

    def head(self) -> Head:
        return msgspec.msgpack.decode(self.stored.bytes_of(f"{self.region}.head"), type=Head)


MakeSides = Callable[..., tuple[Side, Side]]


@pytest.fixture
def sides() -> MakeSides:
    def make(secret: bytes = b"shared", other: bytes = b"shared") -> tuple[Side, Side]:
        stored, clock = Stored(), VirtualClock()
        return Side(DEN, stored, clock, secret), Side(BOM, stored, clock, other)

    return make


async def opened(*sides: Side) -> None:
    for side in sides:
        await side.shared.open()


async def rounds(count: int, *sides: Side) -> None:
    """Let each side work `count` times, a second apart."""
    for _ in range(count):
        for side in sides:
            await side.shared.tick()
        sides[0].clock.step(1.0)


async def test_a_node_counts_as_alive_from_its_second_beat_on(sides: MakeSides) -> None:
    den, bom = sides()
    bom.mine = [PolicyRow("shop", 1, BOM)]
    await opened(den, bom)
    await bom.shared.tick()
    await den.shared.tick()
    assert not den.is_alive()
    assert den.seen == []
    den.clock.step(1.0)
    await bom.shared.tick()
    assert den.is_alive()
    await den.shared.tick()
    assert [report.seq for report in den.seen] == [1]
    assert den.policies == bom.mine


async def test_what_is_not_news_is_not_written_again_and_its_node_stays_alive(
    sides: MakeSides,
) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(8, bom, den)
    assert (bom.head().seq, bom.head().beat) == (1, 8)
    assert den.is_alive()
    assert [report.seq for report in den.seen] == [1]


async def test_what_is_news_is_written_as_a_delta_and_put_on_the_base(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(2, bom, den)
    bom.rtt, bom.mine = 0.2, [PolicyRow("shop", 1, BOM)]
    await bom.shared.tick()
    head = bom.head()
    assert head.base == 1
    assert head.seq == 3
    assert len(bom.stored.bytes_of("bom.delta")) < 300
    assert "bom.delta" not in den.stored.reads  # the head carried it
    assert den.policies == bom.mine
    assert [row.rtt for row in den.seen[-1].rtts if row.target == DB] == [0.2]
    assert len(den.seen[-1].rtts) == 1 + len(OTHERS)


async def test_deltas_that_were_missed_are_made_up_for(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(2, bom, den)
    den.bucket.leave()
    for rtt in (0.2, 0.3, 0.4):
        bom.rtt = rtt
        await rounds(1, bom)
    await den.shared.open()
    bom.rtt = 0.5
    await rounds(1, bom, den)
    assert [row.rtt for row in den.seen[-1].rtts if row.target == DB] == [0.5]


async def test_a_step_that_is_too_long_for_the_head_is_read(
    sides: MakeSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_STEP", 16)
    den, bom = sides()
    await opened(den, bom)
    await rounds(2, bom, den)
    bom.rtt = 0.2
    await rounds(1, bom, den)
    assert "bom.delta" in den.stored.reads
    assert [row.rtt for row in den.seen[-1].rtts if row.target == DB] == [0.2]


async def test_who_comes_later_reads_base_and_delta(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(bom)
    await rounds(2, bom)
    bom.rtt = 0.2
    await rounds(1, bom)
    await opened(den)
    await rounds(1, bom, den)
    assert bom.head().base == 1
    assert [row.rtt for row in den.seen[-1].rtts if row.target == DB] == [0.2]


async def test_a_base_is_written_again_before_the_store_forgets_it(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(2, bom, den)
    bom.clock.step(BASE_INTERVAL)
    await rounds(1, bom, den)
    assert bom.head().base == bom.head().seq == 3
    assert bom.head().slot == 0
    assert den.seen[-1].seq == 3


async def test_what_a_node_left_behind_is_no_sign_of_life(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(bom)
    await rounds(3, bom)
    await opened(den)
    await den.shared.tick()
    assert not den.is_alive()
    assert den.seen == []
    await bom.shared.tick()
    assert den.is_alive()


async def test_what_was_written_while_the_store_was_lost_is_no_sign_of_life(
    sides: MakeSides,
) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(2, bom, den)
    den.bucket.leave()
    await rounds(3, bom)
    den.clock.step(6.0)
    await den.shared.open()
    assert not den.is_alive()
    await bom.shared.tick()
    assert den.is_alive()


async def test_a_node_that_falls_silent_is_gone(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(2, bom, den)
    assert den.is_alive()
    den.clock.step(6.0)
    await den.shared.tick()
    assert not den.is_alive()


async def test_old_values_written_again_are_not_believed(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await bom.shared.tick()
    old = dict(den.stored.values)
    await rounds(2, den, bom)
    den.clock.step(6.0)
    for key, change in old.items():
        den.stored.write(key, change.value)
    await den.shared.tick()
    assert not den.is_alive()


async def test_a_restarted_node_is_heard_again(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(5, bom, den)
    again = Side(BOM, den.stored, den.clock)
    again.boot = 2.0
    await again.shared.open()
    den.clock.step(6.0)
    await again.shared.tick()
    assert den.is_alive()
    await den.shared.tick()
    assert den.seen[-1].boot == 2.0


async def test_another_secret_is_refused(sides: MakeSides) -> None:
    den, bom = sides(other=b"another")
    bom.mine = [PolicyRow("shop", 1, BOM)]
    await opened(den, bom)
    await rounds(2, bom, den)
    assert den.policies == []
    assert not den.is_alive()
    assert den.failures("bom") == 2


async def test_a_head_of_one_region_is_not_taken_for_another(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await den.shared.tick()
    for key, change in list(den.stored.values.items()):
        den.stored.write(key.replace("den", "bom"), change.value)
    assert den.failures("bom") == 1
    assert not den.is_alive()


async def test_a_report_that_is_not_what_its_head_says_is_refused_after_a_few_looks(
    sides: MakeSides,
) -> None:
    den, bom = sides()
    await opened(den, bom)
    await bom.shared.tick()
    den.clock.step(1.0)
    den.stored.write(f"bom.{bom.head().slot}.0", b"other bytes")
    await bom.shared.tick()
    for _ in range(MAX_TRIES):
        assert den.failures("bom") == 0
        await den.shared.tick()
    assert den.failures("bom") == 1
    assert den.seen == []


async def test_a_region_that_is_not_configured_is_ignored(sides: MakeSides) -> None:
    den, _ = sides()
    stranger = Side(RegionId("fra"), den.stored, den.clock)
    await opened(den, stranger)
    await rounds(3, stranger, den)
    assert den.failures("fra") == 0
    assert den.seen == []


async def test_long_reports_are_cut_into_parts(
    sides: MakeSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_SIZE", 16)
    den, bom = sides()
    bom.mine = [PolicyRow(f"project-{n}", 1, BOM) for n in range(20)]
    await opened(den, bom)
    await rounds(2, bom, den)
    assert len(bom.stored.values) > 4
    assert {row.project for row in den.policies} == {row.project for row in bom.mine}


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x83", b"not a head"])
async def test_a_head_that_is_none_is_refused_and_counted(sides: MakeSides, value: bytes) -> None:
    den, _ = sides()
    await opened(den)
    den.stored.write("bom.head", value)
    assert den.failures("bom") == 1


async def test_a_store_that_lost_everything_gets_the_report_again(sides: MakeSides) -> None:
    den, bom = sides()
    await opened(den, bom)
    await rounds(2, bom, den)
    bom.stored.values.clear()
    await opened(bom)
    await bom.shared.tick()
    assert {"bom.head", f"bom.{bom.head().slot}.0"} <= bom.stored.values.keys()
