"""Which endpoints may be read from, round after round, and who the primary is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.estimate.freshness import BELIEVED_FOR, LEAST_ABSENCE, FreshnessBook
from onetrip.model.catalog import Backend, BackendKind
from onetrip.model.replica import Replica, ReplicationAccess
from onetrip.model.replication import EndpointState, Role
from onetrip.model.topology import Endpoint

HERE = Endpoint("127.0.0.1", 1)
ACCESS = ReplicationAccess("u", "p", interval=1.0, max_lag=4.0)
DB = Backend(
    "db",
    BackendKind.POSTGRES,
    HERE,
    replicas=(Replica("db/a", HERE), Replica("db/b", HERE)),
    replication=ACCESS,
)
PRIMARY = EndpointState(Role.PRIMARY, lag=0.0, timeline=1)


def replica(lag: float, *, age: float = 0.0, is_replicating: bool = True) -> EndpointState:
    return EndpointState(Role.REPLICA, lag=lag, age=age, is_replicating=is_replicating)


def kinds(book: FreshnessBook, now: float, **states: EndpointState) -> list[str]:
    """Take a round in; `a` and `b` are the replicas, `db` the declared primary."""
    known = {"db": PRIMARY} | {(n if n == "db" else f"db/{n}"): s for n, s in states.items()}
    return [f"{c.endpoint} {c.kind}" for c in book.update(DB, known, now)]


def test_a_replica_too_far_behind_is_left_out_at_once_and_told_once() -> None:
    book = FreshnessBook()
    assert kinds(book, 0, a=replica(3.9), b=replica(4.1)) == ["db/b lagging"]
    assert book.lagging == {"db/b"}
    assert kinds(book, 1, a=replica(3.9), b=replica(9.0)) == []


def test_it_returns_after_a_while_at_half_the_limit() -> None:
    book = FreshnessBook()
    kinds(book, 0, a=replica(5))
    assert kinds(book, 1, a=replica(2)) == []
    assert kinds(book, 1 + LEAST_ABSENCE - 0.1, a=replica(2)) == []
    assert kinds(book, 1 + LEAST_ABSENCE, a=replica(2)) == ["db/a fresh"]
    assert book.lagging == frozenset()


def test_a_lag_between_starts_the_wait_anew() -> None:
    book = FreshnessBook()
    kinds(book, 0, a=replica(5))
    kinds(book, 1, a=replica(1))
    kinds(book, 4, a=replica(3))
    assert kinds(book, 7, a=replica(1)) == []
    assert kinds(book, 7 + LEAST_ABSENCE, a=replica(1)) == ["db/a fresh"]


@given(st.lists(st.floats(0, 8), min_size=2, max_size=60))
def test_whatever_the_lags_an_endpoint_is_out_for_a_while_at_least(lags: list[float]) -> None:
    book = FreshnessBook()
    left_at, now = -math.inf, 0.0
    for lag in lags:
        now += 0.5
        for change in kinds(book, now, a=replica(lag)):
            if change == "db/a lagging":
                left_at = now
            else:
                assert now - left_at >= LEAST_ABSENCE
        assert lag <= ACCESS.max_lag or "db/a" in book.lagging


@pytest.mark.parametrize(
    ("state", "is_out"),
    [
        (replica(0.0, is_replicating=False), False),  # it has all there is
        (replica(0.5, is_replicating=False), True),
        (replica(math.nan, is_replicating=False), True),
        (replica(math.nan), False),
        (EndpointState(Role.UNKNOWN, problem="refused"), False),
        (PRIMARY, True),  # of something else
        (replica(9.0, age=BELIEVED_FOR + 0.1), False),  # too old to be believed
    ],
)
def test_what_is_said_against_an_endpoint(state: EndpointState, is_out: bool) -> None:
    book = FreshnessBook()
    kinds(book, 0, a=state)
    assert ("db/a" in book.lagging) is is_out


def test_what_is_not_known_changes_nothing() -> None:
    book = FreshnessBook()
    kinds(book, 0, a=replica(9))
    assert kinds(book, 60, a=EndpointState(Role.UNKNOWN)) == []
    assert kinds(book, 61) == []
    assert book.lagging == {"db/a"}


def test_a_promoted_replica_is_the_primary_once_the_old_one_is_silent() -> None:
    book = FreshnessBook()
    promoted = EndpointState(Role.PRIMARY, lag=0.0, timeline=2)
    lost = EndpointState(Role.UNKNOWN, problem="no answer")
    kinds(book, 0, a=replica(9))
    assert kinds(book, 1, db=lost, a=promoted) == ["db/a promoted"]
    assert book.moved == {"db": "db/a"}
    assert book.lagging == frozenset()
    # The old one comes back as a replica, then takes over again.
    assert kinds(book, 2, db=replica(9), a=promoted) == ["db lagging"]
    again = EndpointState(Role.PRIMARY, lag=0.0, timeline=3)
    assert kinds(book, 3, db=again, a=replica(0)) == ["db promoted"]
    assert book.moved == {}


def test_of_two_primaries_the_one_promoted_later_leads_else_the_present_one() -> None:
    book = FreshnessBook()
    assert kinds(book, 0, a=EndpointState(Role.PRIMARY, timeline=1)) == ["db/a lagging"]
    later = EndpointState(Role.PRIMARY, timeline=2)
    assert kinds(book, 1, a=later) == ["db/a promoted", "db lagging"]


def test_a_backend_that_is_gone_is_forgotten() -> None:
    book = FreshnessBook()
    kinds(book, 0, db=replica(0), a=EndpointState(Role.PRIMARY, timeline=2), b=replica(9))
    assert (book.moved, book.lagging) == ({"db": "db/a"}, {"db/b"})
    book.keep([])
    assert (book.moved, book.lagging) == ({}, frozenset())
