"""What workers are told of where to read, and what they ask: exact, bounded, and never made up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from onetrip.app import worker_desk, worker_guide
from onetrip.app.worker_guide import TIMEOUT
from onetrip.app.worker_messages import (
    Answer,
    Asked,
    Question,
    ReadPlaces,
    Tables,
    decode_to_node,
    decode_to_worker,
    encode,
)
from onetrip.app.worker_outbox import MAX_UNSENT
from onetrip.app.worker_shares import share_of_catalog
from onetrip.errors import Kind, ReplicationError
from onetrip.model.catalog import (
    Backend,
    BackendKind,
    Catalog,
    Environment,
    EnvironmentId,
    Policy,
    Project,
)
from onetrip.model.consistency import Consistency
from onetrip.model.replica import ReplicationAccess
from onetrip.model.replication import MAX_POSITION, NOTHING, Position, lsn, parse_position
from onetrip.model.topology import Endpoint, RegionId, Topology
from support.linked_workers import LinkedWorkers
from support.virtual_loop import LoopClock, run_virtually

DEN, FRA, SYD = RegionId("den"), RegionId("fra"), RegionId("syd")
ID = EnvironmentId("shop", "production")
COLUMN = (ID, "db", "db (nearest)")
KEY = b"key of the tokens" * 2
ACCESS = ReplicationAccess(
    "watcher",
    "word of the account",
    relays=((FRA, ("http://127.0.0.1:1",)),),
    relay_token="relay token",
)
GTIDS = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:9:topic:1-3"
"""Of MySQL; longer texts are made of more of them."""


def make_catalog(**terms: Any) -> Catalog:
    """Return a catalog whose project promises something, unless `consistency` is None."""
    promised = {"consistency": Consistency((KEY,)), **terms}
    promised["reads_nearest"] = frozenset({"db"})
    environment = Environment(ID, ("shop.test",), (), {"db": "db"}, **promised)
    backend = Backend("db", BackendKind.POSTGRES, Endpoint("db.test", 5432), replication=ACCESS)
    project = Project("shop", Policy(), {"production": environment})
    return Catalog({"shop": project}, {"db": backend})


CATALOG = make_catalog()
(ENVIRONMENT,) = CATALOG.environments()


class FakeRelays:
    """Relays that take some floors."""

    def __init__(self) -> None:
        self.held: list[Position] = []
        self.told: Position | None = lsn(7)

    async def hold(self, position: Position) -> bool:
        self.held.append(position)
        return position != lsn(13)

    async def written(self) -> Position | None:
        return self.told


class FakeGuide:
    """What a node knows; it answers when `is_free` is set."""

    def __init__(self) -> None:
        self.leader, self.next_leader = "db", ""
        self.found: Position | Exception = lsn(16)
        self.asked: list[tuple[Any, ...]] = []
        self.is_free = asyncio.Event()
        self.is_free.set()
        self.near = {DEN: "db", FRA: "db/fra"}
        self.rows = [COLUMN]
        self.own_relays = FakeRelays()

    @property
    def replication(self) -> Any:
        return self

    def backends(self) -> list[str]:
        return ["db"]

    def columns(self) -> list[tuple[EnvironmentId, str, str]]:
        return self.rows

    def nearest_in(self, column: str) -> dict[RegionId, str]:
        return dict(self.near)

    def nearest(self, environment: Environment, backend: str, region: RegionId) -> str:
        return self.near[region]

    def primary(self, backend: str) -> str:
        return self.leader if backend == "db" else backend

    def home(self, backend: str) -> RegionId | None:
        return DEN

    def relays(self, backend: str, region: RegionId) -> FakeRelays | None:
        return self.own_relays if region == FRA else None

    async def position(self, backend: str) -> Position:
        self.leader = self.next_leader or self.leader
        return await self._answer("position", backend)

    async def shown(self, backend: str, endpoint: str) -> Position:
        return await self._answer("shown", backend, endpoint)

    async def reached(self, backend: str, endpoint: str, position: Position, within: float) -> bool:
        await self._answer("reached", backend, endpoint, position, within)
        return position != lsn(13)

    async def _answer(self, *asked: Any) -> Position:
        self.asked.append(asked)
        await self.is_free.wait()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


Scene = Callable[[FakeGuide, LinkedWorkers, LoopClock], Awaitable[None]]


def play(scene: Scene) -> None:
    """Have a scene with a node and two workers, in virtual time."""

    async def main() -> None:
        guide, clock = FakeGuide(), LoopClock(asyncio.get_running_loop())
        linked = LinkedWorkers(guide, CATALOG, Random(7))
        await clock.sleep(1)
        await scene(guide, linked, clock)
        linked.desk.forget(0)
        linked.desk.forget(1)
        await clock.sleep(1)
        assert not linked.tasks

    run_virtually(main())


@pytest.mark.parametrize(
    "position",
    [
        NOTHING,
        lsn(0x16_B374D848),
        parse_position(GTIDS),
        parse_position("1-2-18446744073709551615,7-4294967295-3"),
        parse_position(f"{'a' * 40}:9,{'b' * 40}:10"),
        parse_position(",".join(f"{n:08x}{GTIDS[8:]}" for n in range(200)), 1 << 20),
    ],
    ids=["nothing", "lsn", "gtids", "more than 64 bits", "offsets", "long"],
)
def test_positions_arrive_as_they_were_told(position: Position) -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, _: LoopClock) -> None:
        node.found, guide = position, linked.guides[1]
        assert await guide.position("db") == position
        assert await guide.shown("db", "db/fra") == position
        assert await guide.reached("db", "db/fra", position, 0.5)
        assert not await guide.reached("db", "db/fra", lsn(13), 0.5)
        assert node.asked[:3] == [
            ("position", "db"),
            ("shown", "db", "db/fra"),
            ("reached", "db", "db/fra", position, 0.5),
        ]

    assert len(str(position)) < MAX_POSITION or position.ranges[100:]
    play(scene)


def test_an_error_arrives_as_it_was() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, _: LoopClock) -> None:
        node.found, guide = ReplicationError("no account", kind=Kind.NOT_FOUND), linked.guides[0]
        for asked in (guide.position("db"), guide.shown("db", "db/fra")):
            with pytest.raises(ReplicationError, match=r"^no account$") as error:
                await asked
            assert error.value.kind is Kind.NOT_FOUND
        assert not await guide.reached("db", "db/fra", lsn(1), 0.5)

    play(scene)


def test_what_is_quick_is_what_the_node_knows_and_the_primary_beyond_that() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        for guide in linked.guides:
            found = [guide.nearest(ENVIRONMENT, "db", region) for region in (DEN, FRA, SYD)]
            assert found == ["db", "db/fra", "db"]
            assert (guide.primary("db"), guide.home("db")) == ("db", DEN)
            assert guide.nearest(ENVIRONMENT, "other", FRA) == "other"
            assert (guide.primary("other"), guide.home("other")) == ("other", None)
            assert guide.states("db") == {}
        node.near, node.leader = {DEN: "db/fra"}, "db/fra"
        linked.desk.publish()
        await clock.sleep(1)
        for guide in linked.guides:  # what nobody has told anew is as it was
            found = [guide.nearest(ENVIRONMENT, "db", region) for region in (DEN, FRA)]
            assert found == ["db/fra", "db/fra"]
        node.rows, node.leader = [], "db"
        linked.desk.publish()
        await clock.sleep(1)
        assert linked.guides[0].nearest(ENVIRONMENT, "db", DEN) == "db"

    play(scene)


def test_workers_are_told_what_is_new_and_a_new_one_everything() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        told: list[Any] = []
        linked.desk._tell = told.append
        linked.desk.publish()
        assert told == []
        node.near = {DEN: "db/fra"}
        linked.desk.publish()
        assert told == [ReadPlaces(None, {COLUMN[2]: node.near}, {"db": "db"}, {"db": DEN})]
        assert linked.desk.places.columns == [COLUMN]
        linked.desk.update(make_catalog(consistency=None))
        node.near = {}
        linked.desk.publish()
        assert len(told) == 1, "nothing is promised any more"

    play(scene)


def test_another_primary_is_known_to_every_worker_before_the_answer_that_found_it() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        node.next_leader = "db/fra"
        first, second = linked.guides
        await first.position("db")
        assert first.primary("db") == "db/fra"
        await clock.sleep(0.1)
        assert second.primary("db") == "db/fra"
        # One that others found is told at once to whoever asks, whatever comes of it.
        node.leader, node.next_leader = "db", ""
        node.is_free.clear()
        with pytest.raises(ReplicationError):
            await second.shown("db", "db/fra")
        assert first.primary("db") == second.primary("db") == "db"

    play(scene)


def test_relays_are_known_from_the_catalog_and_asked_through_the_node() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        guide = linked.guides[0]
        assert guide.relays("db", DEN) is None
        relays = guide.relays("db", FRA)
        assert relays is not None
        assert await relays.hold(lsn(16))
        assert not await relays.hold(lsn(13))
        assert node.own_relays.held == [lsn(16), lsn(13)]
        assert await relays.written() == lsn(7)
        node.own_relays.told = None
        assert await relays.written() is None
        guide.update(Catalog())
        assert guide.relays("db", FRA) is None
        # A node that knows no relays there any more has held nothing.
        node.relays = lambda backend, region: None  # type: ignore[method-assign]
        assert not await relays.hold(lsn(16))
        assert await relays.written() is None

    play(scene)


def test_a_node_that_is_silent_is_waited_for_so_long_and_no_longer() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        node.is_free.clear()
        guide, began = linked.guides[0], clock.now()
        with pytest.raises(ReplicationError) as error:
            await guide.position("db")
        assert error.value.kind is Kind.TIMEOUT
        assert clock.now() - began == pytest.approx(TIMEOUT)
        assert not await guide.reached("db", "db/fra", lsn(1), 0.25)
        assert clock.now() - began == pytest.approx(TIMEOUT + 0.25)
        await clock.sleep(1)
        assert not linked.tasks, "the node does not wait longer than who asked"

    play(scene)


def test_a_late_answer_and_one_that_nobody_asked_for_are_dropped() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        worker = linked.workers[0]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1e-9):
                await worker.guide.position("db")
        (late,) = worker.sent
        worker.guide.take(Answer(99, str(lsn(1))))
        node.is_free.clear()
        asked = asyncio.ensure_future(worker.guide.position("db"))
        await clock.sleep(0.1)
        worker.guide.take(Answer(late.number, str(lsn(1))))
        await clock.sleep(0.1)
        assert not asked.done()
        node.is_free.set()
        assert await asked == lsn(16)

    play(scene)


def test_without_a_link_every_question_fails_at_once() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        node.is_free.clear()
        worker = linked.workers[0]
        guide, relays = worker.guide, worker.guide.relays("db", FRA)
        assert relays is not None
        asked = asyncio.ensure_future(guide.position("db"))
        awaited = asyncio.ensure_future(guide.reached("db", "db/fra", lsn(1), 5.0))
        await clock.sleep(0.1)
        worker.lose()
        began = clock.now()
        with pytest.raises(ReplicationError, match="the node is gone"):
            await asked
        assert not await awaited
        for question in (guide.position("db"), guide.shown("db", "db/fra")):
            with pytest.raises(ReplicationError, match="the node is gone"):
                await question
        assert not await guide.reached("db", "db/fra", lsn(1), 5.0)
        assert not await relays.hold(lsn(1))
        assert await relays.written() is None
        assert clock.now() == began
        assert len(worker.sent) == 2

    play(scene)


def test_open_questions_are_bounded_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        node.is_free.clear()
        worker, other = linked.workers
        monkeypatch.setattr(worker_guide, "MAX_OPEN", 2)
        asked = [asyncio.ensure_future(worker.guide.position("db")) for _ in range(2)]
        await clock.sleep(0.1)
        with pytest.raises(ReplicationError) as error:
            await worker.guide.position("db")
        assert error.value.kind is Kind.OVERLOADED
        monkeypatch.setattr(worker_guide, "MAX_OPEN", 10)
        monkeypatch.setattr(worker_desk, "MAX_OPEN", 2)
        with pytest.raises(ReplicationError) as error:
            await worker.guide.position("db")
        assert error.value.kind is Kind.OVERLOADED
        other.unsent = MAX_UNSENT + 1  # type: ignore[misc]
        with pytest.raises(ReplicationError) as error:
            await other.guide.position("db")
        assert error.value.kind is Kind.OVERLOADED
        assert other.sent == []
        node.is_free.set()
        assert await asyncio.gather(*asked) == [lsn(16)] * 2

    play(scene)


def test_a_worker_that_ends_leaves_nothing_behind() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        worker, answers = linked.workers[0], list[bytes]()
        node.is_free.clear()
        asked = asyncio.ensure_future(worker.guide.position("db"))
        await clock.sleep(0.1)
        assert len(linked.tasks) == 1
        worker.lose()
        linked.desk.forget(worker.index)
        with pytest.raises(ReplicationError):
            await asked
        assert linked.desk._open == {}
        # The one that is started in its place counts anew, and gets its own answers only.
        worker.send = answers.append  # type: ignore[method-assign, assignment]
        node.is_free.set()
        linked.desk.take(worker, Question(1, Asked.SHOWN, "db", "db/fra", "", 1.0))
        await clock.sleep(0.1)
        assert [decode_to_worker(data) for data in answers] == [Answer(1, str(lsn(16)))]
        assert not linked.tasks

    play(scene)


def test_what_cannot_be_read_is_no_answer() -> None:
    async def scene(node: FakeGuide, linked: LinkedWorkers, clock: LoopClock) -> None:
        worker, answers = linked.workers[0], list[bytes]()
        node.is_free.clear()
        for answer in (Answer(1, "nonsense"), Answer(2)):
            asked = asyncio.ensure_future(worker.guide.position("db"))
            await clock.sleep(0.1)
            worker.guide.take(answer)
            with pytest.raises(ReplicationError):
                await asked
        worker.send = answers.append  # type: ignore[method-assign, assignment]
        linked.desk.take(worker, Question(9, Asked.REACHED, "db", "db/fra", "nonsense", 1.0))
        await clock.sleep(0.1)
        (refusal,) = [decode_to_worker(data) for data in answers]
        assert isinstance(refusal, Answer)
        assert refusal.error is not None
        assert not refusal.is_so

    play(scene)


def test_keys_of_tokens_travel_with_the_catalog_and_accounts_do_not() -> None:
    share = share_of_catalog(CATALOG, 2)
    data = encode(Tables(share, Topology({}), []))
    message = decode_to_worker(data)
    assert isinstance(message, Tables)
    (environment,) = message.catalog.environments()
    assert environment.consistency == Consistency((KEY,))
    assert repr(KEY)[2:-1] not in repr(message)
    assert b"word of the account" not in data
    assert b"relay token" not in data
    access = message.catalog.backends["db"].replication
    assert access is not None
    assert access.relays == ACCESS.relays


def test_a_question_survives_the_way() -> None:
    asked = Question(1 << 40, Asked.HOLD, "db", "fra", str(lsn(5)), 0.5)
    assert decode_to_node(encode(asked)) == asked
