"""The pool's decisions, and what holds whatever happens in which order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onetrip.errors import Kind, UpstreamError
from onetrip.relay.pool import Pool
from onetrip.relay.route_settings import PoolLimits

LIMITS = PoolLimits(size=2, waiting=2, idle=10.0, lifetime=100.0)


def pool(gone: set[str] | None = None) -> Pool[str, str]:
    return Pool(LIMITS, lambda waiter: waiter not in (gone or set()))


def opened(made: Pool[str, str], *names: str, at: float = 0.0) -> None:
    for name in names:
        assert made.reserve()
        made.opened(name, at)


def test_the_connection_used_last_is_used_first() -> None:
    made = pool()
    opened(made, "a", "b")
    assert made.give("a", 1.0) is made.give("b", 2.0) is None
    assert (made.take(3.0), made.take(3.0), made.take(3.0)) == ("b", "a", None)


def test_connections_and_those_being_opened_are_bounded() -> None:
    made = pool()
    assert made.reserve()
    opened(made, "a")
    assert not made.reserve()
    assert made.failed() is None
    assert made.reserve()


def test_who_waits_is_served_in_order_and_who_left_is_passed_over() -> None:
    gone: set[str] = set()
    made = pool(gone)
    opened(made, "a", "b")
    made.enqueue("first")
    made.enqueue("second")
    with pytest.raises(UpstreamError) as error:
        made.enqueue("third")
    assert error.value.kind is Kind.QUEUE_LIMIT
    gone.add("first")
    assert made.waiting == 1
    made.enqueue("third")
    assert made.give("a", 1.0) == "second"
    assert made.remove("b") == "third"
    assert not made.reserve()  # the third has the slot


def test_old_and_unused_connections_are_closed() -> None:
    made = pool()
    opened(made, "a", "b")
    made.give("a", 1.0)
    made.give("b", 95.0)
    assert made.expired(10.0) == []
    assert made.expired(11.0) == ["a"]
    assert made.take(100.0) is None  # too old to be used again
    assert made.expired(100.0) == ["b"]
    assert made.size == 2  # until they are gone
    assert made.remove("a") is made.remove("b") is None
    assert made.size == made.idle == 0


def test_one_that_is_too_old_is_not_handed_on() -> None:
    made = pool()
    opened(made, "a", "b")
    made.enqueue("first")
    assert made.give("a", 100.0) is None
    assert made.expired(100.0) == ["a"]
    assert made.remove("a") == "first"


def test_a_stranger_is_not_taken_in() -> None:
    made = pool()
    assert made.give("x", 0.0) is made.remove("x") is None
    assert made.idle == 0


class AnyOrder(RuleBasedStateMachine):
    """Sessions come, wait, leave and go while connections open, fail and break."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.made = 0
        self.used: set[int] = set()
        self.opening = 0
        self.waiting: list[int] = []
        self.pool: Pool[int, int] = Pool(
            PoolLimits(size=3, waiting=4, idle=5.0, lifetime=20.0), lambda w: w in self.waiting
        )

    def serve(self, waiter: int | None, member: int | None) -> None:
        if waiter is not None:
            assert waiter == self.waiting[0], "out of order"
            self.waiting.remove(waiter)
            if member is None:
                self.opening += 1
            else:
                self.used.add(member)

    @rule(step=st.floats(0.0, 8.0))
    def time_passes(self, step: float) -> None:
        self.now += step
        for member in self.pool.expired(self.now):
            assert member not in self.used
            self.serve(self.pool.remove(member), None)

    @rule()
    def somebody_comes(self) -> None:
        member = self.pool.take(self.now)
        self.made += 1
        if member is not None:
            assert member not in self.used
            self.used.add(member)
        elif self.pool.reserve():
            self.opening += 1
        elif len(self.waiting) < 4:
            self.pool.enqueue(self.made)
            self.waiting.append(self.made)

    @precondition(lambda self: self.opening)
    @rule(works=st.booleans())
    def one_opens(self, works: bool) -> None:
        self.opening -= 1
        if works:
            self.made += 1
            self.pool.opened(self.made, self.now)
            self.used.add(self.made)
        else:
            self.serve(self.pool.failed(), None)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def one_is_done(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(sorted(self.used)))
        self.used.remove(member)
        self.serve(self.pool.give(member, self.now), member)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def one_breaks(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(sorted(self.used)))
        self.used.remove(member)
        self.serve(self.pool.remove(member), None)

    @precondition(lambda self: self.waiting)
    @rule()
    def one_leaves(self) -> None:
        self.waiting.pop()

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.pool.size <= 3
        assert self.pool.size == len(self.used) + self.opening + self.pool.idle
        assert self.pool.waiting == len(self.waiting)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
