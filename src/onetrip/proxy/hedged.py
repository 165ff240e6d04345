"""Hedged requests: a second attempt elsewhere when the first one takes longer than usual.

Only for projects that ask for it (`proxy/hedge`), for safe requests without a body, and only at
the edge. The first answer wins; the other attempt is given up and its connection reset. The second
attempt is a `Dispatch` of its own in a task of its own, whose client is nobody: what it brings is
adopted by the first one, or dropped.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from onetrip.errors import DownstreamError, Kind, OnetripError, UpstreamError
from onetrip.model.measure import Arm
from onetrip.proxy.dispatch import Dispatch
from onetrip.proxy.hedge import Nobody

if TYPE_CHECKING:
    from onetrip.proxy.balance import Choice
    from onetrip.proxy.hedge import HedgeBook, Plan
    from onetrip.proxy.router import Match
    from onetrip.wire.http1_head import ResponseHead

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
"""Methods that change nothing (RFC 9110 section 9.2.1), so that to run one twice does no harm."""

_TOLD = ("region", "arm", "endpoint", "is_own", "is_cold", "sent_at", "first_byte_at", "status")


class BeatenError(Exception):
    """The second attempt has its answer, and the first one has none yet."""


class SecondAttempt(Dispatch):
    """The same request, sent elsewhere.

    Attributes:
        head: of its response, once that is there and no failure.
    """

    __slots__ = ("_task", "head")

    def __init__(self, first: HedgedDispatch) -> None:
        services = first._services
        # It has no attempts left: what fails here is not repeated.
        record = replace(first._record, attempts=services.settings.extra_attempts)
        nobody = Nobody(services.settings.buffer_size, services.outbox)
        super().__init__(nobody, first._head, first.prepared, None, record, services)
        self._match, self._share = first._match, first._share
        self._tried = list(first._tried)
        if first._choice is not None:
            self._tried.append(first._choice.pool)
        self._task: asyncio.Task[None] | None = None
        self.head: ResponseHead | None = None

    @property
    def has_failed(self) -> bool:
        """Tell whether it ended without an answer."""
        return self.head is None and self._task is not None and self._task.done()

    def find_place(self) -> Choice | None:
        """Choose where to go; None when no other instance has room."""
        try:
            self._choose()
        except UpstreamError:
            return None
        choice = self._choice
        assert choice is not None
        if choice.arm is Arm.SPILL or choice.pool.health.is_ejected:
            self.drop()
            return None
        return choice

    def start(self, first: HedgedDispatch) -> None:
        """Send the request; tells `first` when it is over."""
        self._task = asyncio.get_running_loop().create_task(self._carry_out(), name="proxy.hedge")
        self._task.add_done_callback(lambda _: first.note_second())

    def stop(self) -> None:
        """Give it up, unless its answer was adopted."""
        if self._task is not None:
            self._task.cancel()
        self.drop()

    async def _carry_out(self) -> None:
        head = None
        try:
            head = await self.forward()
        except OnetripError:
            pass  # noted against its instance; the first attempt goes on
        finally:
            if head is None or head.status >= 500:  # a failure is no answer to win with
                self.drop()
            else:
                self.head = head


class HedgedDispatch(Dispatch):
    """A dispatch that may send its request a second time, elsewhere."""

    __slots__ = ("_connecting", "_is_adopted", "_plan", "_second", "_timer")

    def begin(self, match: Match) -> None:
        """See `Dispatch`."""
        super().begin(match)
        self._plan: Plan | None = None
        self._second: SecondAttempt | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_adopted = False
        is_safe = self._head.method in SAFE and self.request is None
        if is_safe and self._hop is None and not self.prepared.upgrades:
            self._plan = self._book.find(match.environment.id.project)
            if self._plan is not None:
                self._plan.budget.note_request()

    @property
    def waits_on_next_hop(self) -> bool:
        """See `Dispatch`; a hedged request needs its task, to watch both attempts."""
        # Asked before `begin`, too; then there is no connection.
        return super().waits_on_next_hop and self._plan is None

    async def forward(self) -> ResponseHead:
        """See `Dispatch`."""
        plan = self._plan
        delay = plan.delay(self._match.key) if plan is not None else None
        if delay is None:
            return await super().forward()
        self._timer = asyncio.get_running_loop().call_later(delay, self._hedge)
        try:
            return await self._race()
        finally:
            self._timer.cancel()
            second, self._second = self._second, None
            if second is not None:
                outcome = "won" if self._is_adopted else "failed" if second.has_failed else "lost"
                self._book.count(outcome)
                second.stop()

    async def wait(self) -> None:
        """See `Dispatch`.

        Raises:
            BeatenError: the second attempt has its answer.
        """
        await super().wait()
        self._look_at_second()

    def note_second(self) -> None:
        """Go on: the second attempt is over."""
        if self._second is None:
            return  # too late
        if self._connecting is not None and self._second.head is not None:
            self._connecting.cancel()
        self._down.wakes.wake()

    @property
    def _book(self) -> HedgeBook:
        assert self._services.hedges is not None
        return self._services.hedges

    def _hedge(self) -> None:
        """Begin the second attempt, if there is a place for it and the budgets allow it."""
        plan, shared = self._plan, self._services.budget
        assert plan is not None
        if self._down.is_lost or (self.up is not None and self.up.reads):
            return  # nobody waits, or an answer comes just now
        if not plan.budget.take():
            self._book.count("denied")
            return
        if not shared.take():
            plan.budget.give_back()
            self._book.count("denied")
            return
        second = SecondAttempt(self)
        if second.find_place() is None:
            plan.budget.give_back()
            shared.give_back()
            return
        self._second = second
        self._record.attempts += 1
        second.start(self)

    async def _race(self) -> ResponseHead:
        try:
            return await super().forward()
        except BeatenError:
            pass
        except UpstreamError:
            if self._second is None or not await self._is_answered_by(self._second):
                raise
        return self._adopt()

    async def _connect(self) -> None:
        if self._timer is None:
            await super()._connect()
            return
        # A slow connect must not hold back an answer that is there.
        connecting = asyncio.get_running_loop().create_task(super()._connect())
        self._connecting = connecting
        try:
            await asyncio.wait((connecting,))
        finally:
            self._connecting = None
            connecting.cancel()
        if connecting.cancelled():
            raise BeatenError
        connecting.result()
        self._look_at_second()

    def _look_at_second(self) -> None:
        if self._second is not None and self._second.head is not None:
            raise BeatenError

    async def _is_answered_by(self, second: SecondAttempt) -> bool:
        """Wait for the second attempt once the first one has failed."""
        down, services = self._down, self._services
        deadline = services.clock.now() + services.settings.read_timeout
        while second.head is None:
            if down.is_lost:
                raise DownstreamError("client closed the connection", kind=Kind.RESET)
            if second.has_failed:
                return False
            if not await down.wait_until(min(deadline, self._record.ends_at)):
                return False
        return True

    def _adopt(self) -> ResponseHead:
        """Go on with the second attempt's answer as if it were the first one's."""
        second, record = self._second, self._record
        assert second is not None
        assert second.head is not None
        assert second.up is not None
        self.drop()
        self.up, self._pool, self._choice = second.up, second._pool, second._choice
        second.up = second._pool = None
        self.up.waker = self._down.events
        self._is_sent, self._is_adopted, self._patience = True, True, None
        for name in _TOLD:
            setattr(record, name, getattr(second._record, name))
        self._note_latency()
        return second.head

    def _accept(self, head: ResponseHead, choice: Choice) -> ResponseHead:
        head = super()._accept(head, choice)
        self._note_latency()
        return head

    def _note_latency(self) -> None:
        record = self._record
        if self._plan is not None:
            self._plan.note(self._match.key, record.first_byte_at - record.started_at)
