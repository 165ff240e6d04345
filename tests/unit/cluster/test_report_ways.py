"""What both ways of reports keep to, the pull and the store: the same cases, told the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from onetrip.cluster.delta import ReportCopy, decode_delta
from onetrip.cluster.messages import CodeChange, PolicyRow, Report, ServiceRow
from onetrip.cluster.shared_reports import SharedReports
from onetrip.cluster.state import ClusterState
from onetrip.cluster.telling import Known, Telling
from onetrip.model.catalog import EnvironmentId, Mode
from onetrip.model.measure import (
    EstimateState,
    MethodClass,
    RouteKey,
    RttEstimate,
    ServiceSummary,
    Target,
    TargetKind,
)
from onetrip.model.topology import RegionId
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from support.clock import VirtualClock
from support.fake_bus import FakeBucket, Stored

DEN, BOM = RegionId("den"), RegionId("bom")
KEY = RouteKey(EnvironmentId("shop", "production"), "/", MethodClass.READ)
SILENT = 5.0


def rtt(name: str, value: float, age: float = 0.0) -> RttEstimate:
    target = Target(TargetKind.BACKEND, name)
    return RttEstimate(target, value, value, 0.001, 9, 0, age, EstimateState.FRESH)


class Source:
    """What the node of `bom` reports."""

    def __init__(self) -> None:
        self.boot, self.seq = 1.0, 0
        self.rtts = [rtt("db", 0.1), rtt("cache", 0.01)]
        self.services = [ServiceRow(KEY, ServiceSummary(BOM, 10, 0.2, 0.01, {"db": 0.1}))]
        self.policies: list[PolicyRow] = []
        self.changes: list[CodeChange] = []
        self.resources = ""
        self.is_draining = False

    def make(self) -> Report:
        self.seq += 1
        return Report(
            BOM,
            self.boot,
            self.seq,
            is_draining=self.is_draining,
            rtts=self.rtts,
            services=self.services,
            code_changes=self.changes,
            policies=self.policies,
            resources=self.resources,
        )


class Way(Protocol):
    """Brings what `source` says to `state`."""

    source: Source
    state: ClusterState
    clock: VirtualClock
    reports: list[Report]

    async def pass_on(self) -> None:
        """Let an interval pass, and what is new with it."""

    async def restart(self) -> None:
        """Let the node that reports begin anew."""

    async def lose(self) -> None:
        """Let the node that reads forget what it was told before."""


class Ends:
    """What every way has."""

    def __init__(self) -> None:
        self.source, self.clock = Source(), VirtualClock()
        self.state = ClusterState(DEN, frozenset({DEN, BOM}), SILENT)
        self.reports: list[Report] = []


class Pull(Ends):
    """The node of `den` asks."""

    def __init__(self) -> None:
        super().__init__()
        self._telling = Telling(self.source.make, self.clock, 1.0)
        self._copy = ReportCopy()

    async def pass_on(self) -> None:
        self.clock.step(1.0)
        known = Known(self._copy.boot, self._copy.seq, 0.0)
        delta = decode_delta(await self._telling.since(known))
        report = self._copy.apply(delta, self.clock.now())
        assert report is not None
        self.state.merge(report, self.clock.now())
        self.reports.append(report)

    async def restart(self) -> None:
        self.source.boot, self.source.seq = self.source.boot + 1, 0
        self._telling = Telling(self.source.make, self.clock, 1.0)

    async def lose(self) -> None:
        self._copy = ReportCopy()


class Store(Ends):
    """The node of `bom` writes, the one of `den` reads."""

    def __init__(self) -> None:
        super().__init__()
        self._stored = Stored()
        silent = Source()
        self._reader = self._share(DEN, silent.make)
        self._writer = self._share(BOM, self.source.make)
        self._is_open = False

    async def pass_on(self) -> None:
        if not self._is_open:
            self._is_open = True
            await self._reader.open()
            await self._writer.open()
            await self._writer.tick()
        self.clock.step(1.0)
        await self._writer.tick()
        await self._reader.tick()

    async def restart(self) -> None:
        self.source.boot, self.source.seq = self.source.boot + 1, 0
        self._writer = self._share(BOM, self.source.make)
        await self._writer.open()

    async def lose(self) -> None:
        self._reader = self._share(DEN, Source().make)
        await self._reader.open()

    def _share(self, region: RegionId, make: Callable[[], Report]) -> SharedReports:
        state = self.state if region == DEN else ClusterState(BOM, frozenset({DEN, BOM}), SILENT)
        telling = Telling(make, self.clock, 1.0)
        return SharedReports(
            region,
            b"shared",
            FakeBucket(self._stored),
            state,
            telling.look,
            lambda rows: None,
            self.reports.append if region == DEN else lambda report: None,
            interval=1.0,
            clock=self.clock,
            metrics=Metrics(),
            log=silent_log(),
        )


@pytest.fixture(params=[Pull, Store])
def way(request: pytest.FixtureRequest) -> Way:
    made: Way = request.param()
    return made


def found(way: Way) -> dict[str, float]:
    """Return the RTTs that are known of `bom`."""
    rows = way.state.rows(way.clock.now()).get(BOM, {})
    return {target.name: estimate.rtt for target, estimate in rows.items()}


async def test_what_is_reported_arrives(way: Way) -> None:
    way.source.policies = [PolicyRow("shop", 1, BOM, mode=Mode.SMART)]
    way.source.resources = "digest"
    await way.pass_on()
    assert found(way) == {"db": 0.1, "cache": 0.01}
    assert way.state.services() == {KEY: [way.source.services[0].summary]}
    assert way.state.policies() == {"shop": way.source.policies[0]}
    assert way.reports[-1].resources == "digest"
    assert way.state.peers(way.clock.now())[0].is_alive


async def test_what_changes_takes_the_place_of_what_was(way: Way) -> None:
    await way.pass_on()
    way.source.rtts = [rtt("db", 0.2), rtt("new", 0.3)]
    way.source.policies = [PolicyRow("shop", 1, BOM)]
    await way.pass_on()
    assert found(way) == {"db": 0.2, "new": 0.3}
    assert set(way.state.policies()) == {"shop"}


async def test_noise_changes_nothing(way: Way) -> None:
    await way.pass_on()
    way.source.rtts = [rtt("db", 0.1001), rtt("cache", 0.01)]
    await way.pass_on()
    assert found(way) == {"db": 0.1, "cache": 0.01}


async def test_a_drain_arrives_at_the_next_look_and_ends_so(way: Way) -> None:
    await way.pass_on()
    way.source.is_draining = True
    await way.pass_on()
    assert way.state.draining() == {BOM}
    way.source.is_draining = False
    await way.pass_on()
    assert way.state.draining() == frozenset()


async def test_ages_go_on(way: Way) -> None:
    way.source.changes = [CodeChange(KEY, 3.0)]
    await way.pass_on()
    at = way.state.code_changes()[KEY]
    for _ in range(4):
        way.source.changes = [CodeChange(KEY, way.source.changes[0].age + 1.0)]
        await way.pass_on()
    assert way.state.code_changes()[KEY] == pytest.approx(at, abs=2.0)


async def test_a_node_that_begins_anew_replaces_what_it_said(way: Way) -> None:
    for _ in range(3):
        await way.pass_on()
    way.source.rtts = [rtt("db", 0.4)]
    await way.restart()
    await way.pass_on()
    assert found(way) == {"db": 0.4}


async def test_who_forgot_is_told_everything(way: Way) -> None:
    for value in (0.2, 0.3, 0.4):
        way.source.rtts = [rtt("db", value), rtt("cache", 0.01)]
        await way.pass_on()
    await way.lose()
    for _ in range(2):
        await way.pass_on()
    assert found(way) == {"db": 0.4, "cache": 0.01}


async def test_silence_is_noticed_and_so_is_its_end(way: Way) -> None:
    await way.pass_on()
    way.clock.step(SILENT + 1.0)
    assert not way.state.peers(way.clock.now())[0].is_alive
    states = {e.state for e in way.state.rows(way.clock.now())[BOM].values()}
    assert states == {EstimateState.STALE}
    await way.pass_on()
    assert way.state.peers(way.clock.now())[0].is_alive


async def test_a_node_that_has_nothing_new_to_say_is_alive(way: Way) -> None:
    for _ in range(int(3 * SILENT)):
        await way.pass_on()
        assert way.state.peers(way.clock.now())[0].is_alive
