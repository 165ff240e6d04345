"""Asking endpoints for positions: shared questions, pauses, and who waits for what."""

import asyncio
from itertools import pairwise
from random import Random

import pytest

from onetrip.errors import ReplicationError
from onetrip.model.catalog import Backend, BackendKind
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.replication import NOTHING, Role, lsn
from onetrip.model.topology import Endpoint
from onetrip.probe.replication import FIRST_PAUSE, LONGEST_PAUSE, ReplicationMonitor
from onetrip.probe.replication_base import Look, SeenReplica
from support.clock import VirtualClock

PLACES = {"db": Endpoint("127.0.0.1", 1), "db/a": Endpoint("127.0.0.1", 2)}
DB = Backend(
    "db",
    BackendKind.POSTGRES,
    PLACES["db"],
    replicas=(Replica("db/a", PLACES["db/a"]),),
    replication=ReplicationAccess("u", "p"),
)


def leads(position: int, *, timeline: int = 1) -> Look:
    return Look(Role.PRIMARY, lsn(position), lsn(position + 8), timeline=timeline)


def follows(position: int) -> Look:
    return Look(Role.REPLICA, lsn(position))


class ScriptedClient:
    """Answers what it is told to, once the test lets it."""

    def __init__(self) -> None:
        self.answer: Look | None = None
        self.questions = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_closed = False

    async def look(self, timeout: float) -> Look:
        self.questions += 1
        answer = self.answer  # of the moment the question arrives
        await self.gate.wait()
        if answer is None:
            raise ReplicationError("no answer")
        return answer

    async def replicas(self, timeout: float) -> list[SeenReplica]:
        return [SeenReplica("a", "127.0.0.1", 0)]

    async def close(self) -> None:
        self.is_closed = True


class Bench:
    """A monitor of one backend, and its clients by endpoint."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.clients: dict[Endpoint, ScriptedClient] = {}
        self.monitor = ReplicationMonitor(self.clock, Random(5), self.make)

    def make(self, backend: Backend, endpoint: Endpoint) -> ScriptedClient:
        return self.clients.setdefault(endpoint, ScriptedClient())

    def __getitem__(self, name: str) -> ScriptedClient:
        return self.clients[PLACES[name]]


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.monitor.follow([DB])
    bench["db"].answer, bench["db/a"].answer = leads(100), follows(100)
    return bench


async def ticks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_whoever_asks_meanwhile_shares_the_next_question(bench: Bench) -> None:
    primary = bench["db"]
    primary.gate.clear()
    first = asyncio.create_task(bench.monitor.position("db"))
    await ticks()
    # The write that these want covered may have come after the first question was answered.
    later = [asyncio.create_task(bench.monitor.position("db")) for _ in range(50)]
    await ticks()
    assert primary.questions == 1
    primary.answer = leads(200)
    primary.gate.set()
    assert await first == lsn(108)
    assert set(await asyncio.gather(*later)) == {lsn(208)}
    assert primary.questions == 2


async def test_who_stops_waiting_leaves_the_question_to_the_others(bench: Bench) -> None:
    bench["db"].gate.clear()
    one, other = (asyncio.create_task(bench.monitor.position("db")) for _ in range(2))
    await ticks()
    one.cancel()
    await ticks()
    bench["db"].gate.set()
    assert await other == lsn(108)
    assert one.cancelled()


async def test_a_position_is_of_whoever_says_that_it_is_the_primary(bench: Bench) -> None:
    bench["db"].answer, bench["db/a"].answer = follows(90), leads(300, timeline=2)
    assert await bench.monitor.position("db") == lsn(308)
    questions = bench["db"].questions
    assert await bench.monitor.position("db") == lsn(308)
    assert bench["db"].questions == questions


async def test_without_a_primary_or_a_log_there_is_no_position(bench: Bench) -> None:
    bench["db"].answer = None
    with pytest.raises(ReplicationError, match="no endpoint of db"):
        await bench.monitor.position("db")
    # Nothing would be covered by everything: a token of it would promise what nobody keeps.
    bench["db/a"].answer = Look(Role.PRIMARY, NOTHING, NOTHING)
    with pytest.raises(ReplicationError, match="keeps no log"):
        await bench.monitor.position("db")
    with pytest.raises(ReplicationError, match="other"):
        await bench.monitor.position("other")


async def test_waiting_ends_when_the_endpoint_gets_there(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.monitor.reached("db", "db/a", lsn(150), 30))
    await ticks()
    assert not waiting.done()
    bench["db/a"].answer = follows(150)
    await bench.clock.advance(0.1)
    assert await waiting
    assert await bench.monitor.reached("db", "db", lsn(104), 30)


@pytest.mark.parametrize("within", [0.0, 0.05])
async def test_waiting_ends_in_time(bench: Bench, within: float) -> None:
    assert not await bench.monitor.reached("db", "db/a", lsn(150), within)


async def test_who_does_not_answer_has_not_got_there(bench: Bench) -> None:
    bench["db/a"].answer = None
    assert not await bench.monitor.reached("db", "db/a", lsn(1), 30)
    assert not await bench.monitor.reached("db", "db/unknown", lsn(1), 30)
    assert not await bench.monitor.reached("other", "other", lsn(1), 30)


async def test_an_endpoint_that_fails_is_left_alone_for_a_while_that_doubles(bench: Bench) -> None:
    client = bench["db"]
    client.answer = None
    asked_at: list[float] = []
    for _ in range(4000):
        before = client.questions
        await bench.monitor.look("db", ["db"])
        if client.questions > before:
            asked_at.append(bench.clock.now())
        bench.clock.step(0.05)
    pauses = [b - a for a, b in pairwise(asked_at)]
    assert FIRST_PAUSE / 2 <= pauses[0] <= FIRST_PAUSE + 0.05
    assert all(LONGEST_PAUSE / 2 <= pause <= LONGEST_PAUSE + 0.05 for pause in pauses[-3:])
    state = bench.monitor.states("db")["db"]
    assert (state.role, state.problem) == (Role.UNKNOWN, "no answer")
    client.answer = leads(7)
    bench.clock.step(LONGEST_PAUSE)
    await bench.monitor.look("db", ["db"])
    assert not bench.monitor.states("db")["db"].problem


async def test_states_tell_lag_and_age_and_ask_nobody(bench: Bench) -> None:
    await bench.monitor.look("db", ["db"])
    bench["db"].answer = leads(180)
    bench.clock.step(2)
    await bench.monitor.look("db", ["db"])
    bench.clock.step(1)
    await bench.monitor.look("db", ["db/a"])
    bench.clock.step(4)
    states = bench.monitor.states("db")
    assert (states["db"].age, states["db/a"].age) == (5, 4)
    assert (states["db"].lag, states["db/a"].lag) == (0.0, 3.0)
    assert states["db/a"].lag_bytes == 80
    assert (bench["db"].questions, bench["db/a"].questions) == (2, 1)
    assert bench.monitor.states("other") == {}


async def test_a_new_configuration_keeps_what_did_not_change(bench: Bench) -> None:
    await bench.monitor.look("db", ["db", "db/a"])
    await bench.monitor.follow([Backend("db", DB.kind, DB.endpoint, replication=DB.replication)])
    assert bench["db/a"].is_closed
    assert not bench["db"].is_closed
    assert set(bench.monitor.states("db")) == {"db"}
    other = Backend("db", DB.kind, DB.endpoint, replication=ReplicationAccess("u", "new"))
    await bench.monitor.follow([other])
    assert bench["db"].is_closed
    assert bench.monitor.states("db") == {}


async def test_closing_ends_what_is_under_way(bench: Bench) -> None:
    bench["db"].gate.clear()
    asking = asyncio.create_task(bench.monitor.position("db"))
    await ticks()
    await bench.monitor.close()
    assert bench["db"].is_closed
    with pytest.raises(ReplicationError, match="no endpoint"):
        await asking
