"""How long either side may take: one turn, the whole request, and a body that only drips."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from onetrip.errors import DownstreamError, Kind, OnetripError, UpstreamError
from onetrip.proxy.settings import ProxySettings
from onetrip.proxy.turns import LOOK_AFTER, Patience, Turn, finish_by, late_error, overdue_error
from support.clock import VirtualClock

SETTINGS = ProxySettings(body_timeout=10.0, read_timeout=60.0, body_rate=100)


class Side:
    """A channel on which time passes until something happens."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.reads = self.unsent = 0
        self.is_write_paused = self.has_ended = False
        self.received = b""
        self.events: list[tuple[float, Any]] = []
        self.deadlines: list[float] = []

    async def wait_until(self, deadline: float) -> bool:
        self.deadlines.append(deadline)
        after, event = self.events.pop(0) if self.events else (math.inf, None)
        if self.clock.now() + after > deadline:
            self.clock.step(deadline - self.clock.now())
            return False
        self.clock.step(after)
        event()
        return True


class Wait:
    """One exchange that waits."""

    def __init__(self, *, has_body: bool, ends_in: float = math.inf, looks: bool = False) -> None:
        self.looks = looks
        self.clock = VirtualClock()
        services: Any = SimpleNamespace(clock=self.clock, settings=SETTINGS)
        self.started_at = self.clock.now()
        self.patience = Patience(services, self.started_at, self.started_at + ends_in)
        self.down, self.up = Side(self.clock), Side(self.clock)
        self.request = SimpleNamespace(size=0, is_done=False) if has_body else None

    async def wait(self) -> None:
        await self.patience.wait(
            self.down,  # type: ignore[arg-type]
            self.up,  # type: ignore[arg-type]
            self.request,  # type: ignore[arg-type]
            None,
            waits_for_100=False,
            looks=self.looks,
        )

    async def until_error(self) -> OnetripError:
        """Wait again and again; the error that ends it."""
        while True:
            try:
                await self.wait()
            except OnetripError as error:
                return error

    @property
    def elapsed(self) -> float:
        return self.clock.now() - self.started_at

    def drip(self, size: int, every: float, times: int) -> None:
        """Let body bytes arrive."""

        def arrive() -> None:
            self.request.size += size

        self.down.events += [(every, arrive)] * times


async def test_a_look_is_taken_now_and_then_and_changes_no_timeout() -> None:
    wait = Wait(has_body=False, looks=True)
    await wait.wait()
    assert wait.elapsed == LOOK_AFTER
    assert isinstance(await wait.until_error(), UpstreamError)
    assert wait.elapsed == SETTINGS.read_timeout


async def test_silent_next_hop_is_late_after_its_timeout():
    wait = Wait(has_body=False)
    error = await wait.until_error()
    assert (type(error), error.kind, wait.elapsed) == (UpstreamError, Kind.TIMEOUT, 60.0)


async def test_deadline_ends_a_wait_for_the_next_hop_whatever_arrives():
    wait = Wait(has_body=False, ends_in=5.0)

    def arrive() -> None:
        wait.up.reads += 1

    wait.down.events += [(1.0, arrive)] * 100
    error = await wait.until_error()
    assert (type(error), error.kind, wait.elapsed) == (UpstreamError, Kind.DEADLINE, 5.0)
    assert max(wait.down.deadlines) == wait.started_at + 5.0


async def test_deadline_in_the_client_s_turn_is_the_client_s_fault():
    wait = Wait(has_body=True, ends_in=5.0)
    error = await wait.until_error()
    assert (type(error), error.kind, wait.elapsed) == (DownstreamError, Kind.DEADLINE, 5.0)


async def test_body_that_drips_ends_once_its_time_is_used_up():
    wait = Wait(has_body=True)
    wait.drip(10, every=1.0, times=100)
    error = await wait.until_error()
    assert (type(error), error.kind) == (DownstreamError, Kind.TOO_SLOW)
    assert str(error) == "request body of 10 bytes/s is below limit of 100"
    assert wait.elapsed == 11.0


async def test_body_that_comes_fast_enough_is_waited_for():
    wait = Wait(has_body=True)
    wait.drip(150, every=1.0, times=100)
    error = await wait.until_error()
    assert (error.kind, wait.elapsed) == (Kind.TIMEOUT, 110.0), "it stopped after 100 s"


async def test_time_that_the_next_hop_takes_does_not_count_against_the_body():
    wait = Wait(has_body=True)
    wait.drip(10, every=1.0, times=9)
    for _ in range(9):
        await wait.wait()
    wait.up.is_write_paused = True

    def go_on() -> None:
        wait.up.is_write_paused = False
        wait.request.size += 2000

    wait.down.events.append((50.0, go_on))
    await wait.wait()
    wait.drip(10, every=1.0, times=9)
    for _ in range(9):
        await wait.wait()


@pytest.mark.parametrize("turn", Turn)
def test_late_and_overdue_blame_the_same_side(turn):
    assert late_error(turn, 1.0).side is overdue_error(turn).side


async def test_work_without_a_deadline_is_just_awaited():
    async def work() -> int:
        return 7

    assert await finish_by(math.inf, VirtualClock(), work()) == 7
    assert await finish_by(1e9, VirtualClock(), work()) == 7


async def test_work_past_its_deadline_is_given_up():
    clock = VirtualClock()
    with pytest.raises(UpstreamError) as caught:
        await finish_by(clock.now() - 1, clock, clock.sleep(1))
    assert caught.value.kind is Kind.DEADLINE
