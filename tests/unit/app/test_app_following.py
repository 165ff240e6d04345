"""Following sources: when they are asked again, what fills the catalog, and what peers are told."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import pytest
import yaml

from onetrip.app.config import Settings, load_settings
from onetrip.app.following import UNTOLD, Following
from onetrip.discover.book import DiscoveryError
from onetrip.discover.names import Answer
from onetrip.model.catalog import Catalog
from onetrip.model.discovery import Source
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.observe.logs import silent_log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from support.clock import VirtualClock

SOURCE = "dns://app.internal:80"


class ScriptedNames:
    """Answers with what was set, and notes when it was asked."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.addresses: list[str] | None = ["10.0.0.1"]
        self.ttl: float | None = 5.0
        self.asked: list[float] = []

    async def ask(self, source: Source) -> Answer:
        self.asked.append(self.clock.now())
        if self.addresses is None:
            raise DiscoveryError("silence")
        assert isinstance(source.port, int)
        return Answer(tuple(source.endpoint(a, source.port) for a in self.addresses), self.ttl)


class MeanRandom(Random):
    """No jitter."""

    def random(self) -> float:
        return 0.5


class World:
    """A discovery of one node, on a clock that stands still."""

    def __init__(self, folder: Path, **regions: str) -> None:
        self.clock = VirtualClock()
        self.names = ScriptedNames(self.clock)
        self.settings = settings(folder, regions or {"den": SOURCE})
        self.told: list[tuple[str, str, str]] = []
        self.applied = 0
        self.tasks = Tasks(self._crashed)
        self.discovery = Following(
            lambda: self.settings,
            clock=self.clock,
            rng=MeanRandom(),
            metrics=Metrics().discovery,
            tasks=self.tasks,
            log=silent_log(),
            tell=lambda *event: self.told.append(event),
            on_change=self._apply,
            names=self.names,
        )

    async def _apply(self) -> None:
        self.applied += 1

    @staticmethod
    def _crashed(name: str, error: BaseException) -> None:
        raise error

    def instances(self) -> list[tuple[str, str]]:
        catalog = self.discovery.fill(self.settings.catalog)
        found = catalog.projects["shop"].environments["production"].instances
        return [(i.region, str(i.endpoint)) for i in found]


def settings(folder: Path, sources: dict[str, str]) -> Settings:
    environment = {"hosts": ["shop.test"], "instances": {n: [s] for n, s in sources.items()}}
    (folder / "secret").write_text("sixteen bytes or more")
    data = {
        "cluster": {"secret_file": "secret"},
        "regions": {n: {"proxy": f"{n}.example:80"} for n in sources},
        "discovery": {"least_interval": 2, "most_interval": 20},
        "projects": {"shop": {"environments": {"production": environment}}},
    }
    path = folder / "onetrip.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_settings(path, "den")


@pytest.mark.parametrize(("ttl", "wait"), [(5.0, 5.0), (0.0, 2.0), (3600.0, 20.0), (None, UNTOLD)])
async def test_a_source_is_asked_again_when_its_answer_has_lived(
    tmp_path: Path, ttl: float | None, wait: float
) -> None:
    world = World(tmp_path)
    world.names.ttl = ttl
    await world.discovery.prepare(world.settings)
    start = world.names.asked[0]
    await world.clock.advance(wait - 0.1)
    assert len(world.names.asked) == 1
    await world.clock.advance(0.2)
    assert world.names.asked[1] - start == pytest.approx(wait)
    await world.tasks.cancel(1.0)


async def test_a_source_that_fails_is_asked_less_and_less_often(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.discovery.prepare(world.settings)
    world.names.addresses = None
    for _ in range(6):
        await world.clock.advance(20.0)
    waits = [b - a for a, b in zip(world.names.asked[1:], world.names.asked[2:], strict=False)]
    assert waits[:4] == [pytest.approx(w) for w in (4.0, 8.0, 16.0, 20.0)]
    assert world.instances() == [("den", "10.0.0.1:80")]
    assert [name for name, _, _ in world.told] == ["discover.changed", "discover.failed"]
    assert "gives nothing new" in world.discovery.problems()[0]
    world.names.addresses = ["10.0.0.2"]
    await world.clock.advance(20.0)
    assert world.told[2][0] == "discover.recovered"
    assert world.discovery.problems() == []
    await world.tasks.cancel(1.0)


async def test_a_catalog_is_made_anew_only_when_something_changed(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.discovery.prepare(world.settings)
    await world.clock.advance(1.0)
    assert world.applied == 1
    await world.clock.advance(5.0)
    assert world.applied == 1
    world.names.addresses = ["10.0.0.1", "10.0.0.2"]
    await world.clock.advance(5.0)
    assert world.applied == 2
    assert world.instances() == [("den", "10.0.0.1:80"), ("den", "10.0.0.2:80")]
    await world.tasks.cancel(1.0)


async def test_what_another_node_can_ask_is_left_to_it(tmp_path: Path) -> None:
    world = World(tmp_path, den=SOURCE, bom="dns://other.internal:80")
    await world.discovery.prepare(world.settings)
    assert len(world.names.asked) == 1
    assert set(world.instances()) == {("den", "10.0.0.1:80"), ("bom", "other.internal:80")}
    await world.tasks.cancel(1.0)


async def test_a_source_that_is_configured_no_longer_is_not_asked(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.discovery.prepare(world.settings)
    catalog = Catalog()
    assert world.discovery.fill(catalog) == catalog
    await world.clock.advance(60.0)
    assert len(world.names.asked) == 1
    await world.tasks.cancel(1.0)


async def test_peers_are_told_whether_anybody_serves_behind_a_source(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.names.addresses = ["10.0.0.1", "10.0.0.2"]
    stand_in = Target(TargetKind.INSTANCE, "app.internal:80")
    world.discovery.fill(world.settings.catalog)
    (row,) = world.discovery.told([])
    assert (row.target, row.state) == (stand_in, EstimateState.FAILING), "nobody was found yet"
    await world.discovery.prepare(world.settings)

    def seen(*states: EstimateState) -> list[RttEstimate]:
        return [
            RttEstimate(
                Target(TargetKind.INSTANCE, f"10.0.0.{n}:80"), 0.1, 0.1, 0.0, 1, 0, 0.0, state
            )
            for n, state in enumerate(states, 1)
        ]

    fresh, failing = EstimateState.FRESH, EstimateState.FAILING
    for states, wanted in (
        ((), None),
        ((failing,), None),
        ((failing, fresh), fresh),
        ((failing, failing), failing),
    ):
        rows = {r.target: r for r in world.discovery.told(seen(*states))}
        state = rows[stand_in].state if stand_in in rows else None
        assert state is wanted, states
    assert math.isnan(rows[stand_in].rtt)
    await world.tasks.cancel(1.0)
