"""Reports over a store: what arrives is what was written, and nothing else is believed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from onetrip.cluster import bus as bus_module
from onetrip.cluster.bus import FIRST_PAUSE, SharedReports, pack, unpack
from onetrip.cluster.messages import PolicyRow, Report
from onetrip.cluster.state import ClusterState
from onetrip.errors import PeerError
from onetrip.model.topology import RegionId
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.clock import VirtualClock

DEN, BOM = RegionId("den"), RegionId("bom")
BOTH = frozenset({DEN, BOM})


class FakeBus:
    """A dictionary that can be out of reach."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values
        self.is_down = False
        self.connects = 0

    async def connect(self) -> None:
        self.connects += 1
        self._check()

    async def put(self, key: str, value: bytes) -> None:
        self._check()
        self.values[key] = value

    async def get(self, key: str) -> bytes | None:
        self._check()
        return self.values.get(key)

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.is_down:
            raise PeerError("out of reach")


class Side:
    """One node's end of the store."""

    def __init__(
        self, region: RegionId, values: dict[str, bytes], clock: VirtualClock, secret: bytes
    ) -> None:
        self.bus = FakeBus(values)
        self.state = ClusterState(region, BOTH, 5.0)
        self.clock = clock
        self.metrics = Metrics()
        self.policies: list[PolicyRow] = []
        self.seen: list[Report] = []
        self.told: list[str] = []
        self.seq = 0
        self.mine: list[PolicyRow] = []
        self.region = region
        self.shared = SharedReports(
            region,
            secret,
            self.bus,
            self.state,
            self.report,
            self.policies.extend,
            self.seen.append,
            clock=clock,
            rng=Random(7),
            metrics=self.metrics,
            log=silent_log(),
            tell=lambda name, subject, detail: self.told.append(name),
        )

    def report(self) -> Report:
        self.seq += 1
        return Report(region=self.region, boot=1.0, seq=self.seq, policies=self.mine)

    def is_alive(self) -> bool:
        return self.state.peers(self.clock.now())[0].is_alive

    def failures(self, region: str) -> float:
        return float(self.metrics.sync_failures.labels(region)._value.get())


MakeSides = Callable[..., tuple[Side, Side]]


@pytest.fixture
def sides() -> MakeSides:
    def make(secret: bytes = b"shared", other: bytes = b"shared") -> tuple[Side, Side]:
        values: dict[str, bytes] = {}
        clock = VirtualClock()
        return Side(DEN, values, clock, secret), Side(BOM, values, clock, other)

    return make


async def test_a_report_counts_as_alive_from_its_second_on(sides: MakeSides) -> None:
    den, bom = sides()
    bom.mine = [PolicyRow("shop", 1, BOM)]
    await bom.shared.exchange()
    await den.shared.exchange()
    assert den.policies == bom.mine
    assert not den.is_alive()
    assert den.seen == []
    await bom.shared.exchange()
    await den.shared.exchange()
    assert den.is_alive()
    assert [report.seq for report in den.seen] == [2]


async def test_what_a_node_left_behind_is_no_sign_of_life(sides: MakeSides) -> None:
    den, bom = sides()
    for _ in range(2):
        await bom.shared.exchange()
        await den.shared.exchange()
    assert den.is_alive()
    den.clock.step(6.0)
    await den.shared.exchange()
    assert not den.is_alive()


async def test_old_values_written_again_are_not_believed(sides: MakeSides) -> None:
    den, bom = sides()
    await bom.shared.exchange()
    old = dict(bom.bus.values)
    for _ in range(2):
        await den.shared.exchange()
        await bom.shared.exchange()
    await den.shared.exchange()
    den.clock.step(6.0)
    den.bus.values.update(old)
    await den.shared.exchange()
    assert not den.is_alive()


async def test_another_secret_is_refused(sides: MakeSides) -> None:
    den, bom = sides(other=b"another")
    bom.mine = [PolicyRow("shop", 1, BOM)]
    for _ in range(2):
        await bom.shared.exchange()
        await den.shared.exchange()
    assert den.policies == []
    assert not den.is_alive()
    assert den.failures("bom") == 2


async def test_a_report_of_one_region_is_not_taken_for_another(sides: MakeSides) -> None:
    den, _ = sides()
    await den.shared.exchange()
    values = den.bus.values
    values.update({key.replace("den", "bom"): value for key, value in values.items()})
    await den.shared.exchange()
    assert den.failures("bom") == 1
    assert not den.is_alive()


async def test_long_reports_are_cut_into_parts(
    sides: MakeSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "PART_SIZE", 16)
    den, bom = sides()
    bom.mine = [PolicyRow(f"project-{n}", 1, BOM) for n in range(20)]
    await bom.shared.exchange()
    assert len(bom.bus.values) > 4
    await den.shared.exchange()
    assert den.policies == bom.mine


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x83", b"not a head"])
async def test_a_head_that_is_none_is_refused_once_told(sides: MakeSides, value: bytes) -> None:
    den, _ = sides()
    den.bus.values["bom.head"] = value
    await den.shared.exchange()
    await den.shared.exchange()
    assert den.failures("bom") == 1


async def test_a_lost_store_is_told_once_and_tried_after_a_pause(sides: MakeSides) -> None:
    den, _ = sides()
    await den.shared.exchange()
    den.bus.is_down = True
    for _ in range(5):
        await den.shared.exchange()
    assert den.bus.connects == 1
    den.clock.step(2 * FIRST_PAUSE)
    await den.shared.exchange()
    assert den.bus.connects == 2
    assert den.told == ["cluster.nats_lost"]
    den.bus.is_down = False
    den.clock.step(60.0)
    await den.shared.exchange()
    assert den.told == ["cluster.nats_lost", "cluster.nats_found"]
    assert den.metrics.nats_connected._value.get() == 1


def test_packing_keeps_a_report() -> None:
    report = Report(region=DEN, boot=1.0, seq=3)
    assert unpack(pack(report)) == report


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "MAX_REPORT_SIZE", 10)
    with pytest.raises(PeerError):
        unpack(pack(Report(region=DEN, boot=1.0, seq=3)))


@pytest.mark.parametrize("body", [b"", b"nothing compressed"])
def test_what_does_not_unpack_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError):
        unpack(body)
