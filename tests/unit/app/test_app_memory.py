"""Memory over restarts: what was learned comes back with its age; damaged bytes do not."""

from __future__ import annotations

import pytest

from onetrip.app import memory
from onetrip.estimate.flips import FlipsBook, Relayed
from onetrip.estimate.traffic import TrafficBook
from onetrip.estimate.windows import MAX_AGE
from onetrip.model.catalog import EnvironmentId
from onetrip.model.measure import Arm, MethodClass, Observation, RouteKey, TripEvidence
from onetrip.model.topology import RegionId
from onetrip.place.hysteresis import RouteState
from onetrip.place.placer import Placer

DEN, BOM = RegionId("den"), RegionId("bom")
ENV = EnvironmentId("shop", "production")
KEY = RouteKey(ENV, "/orders/{id}", MethodClass.READ)


def learned() -> tuple[TrafficBook, Placer]:
    book, placer = TrafficBook(DEN), Placer(DEN)
    for i in range(80):
        seen = Observation(KEY, DEN, DEN, Arm.DEFAULT, 2.5, 2.4, False, False, 900.0 + i)
        book.observe(seen, {"db": 0.229})
    placer.restore({KEY: RouteState(BOM, 950.0, 1, 1200.0, DEN)})
    return book, placer


def test_learning_and_placements_survive_a_restart() -> None:
    data = memory.dump(*learned(), FlipsBook(), now=1000.0, wall=5000.0)
    book, placer = TrafficBook(DEN), Placer(DEN)
    assert memory.load(data, book, placer, FlipsBook(), now=20.0, wall=5010.0) == 1
    ((row,),) = book.services(20.0).values()
    assert row.count == memory.ROWS_KEPT
    assert row.mean == pytest.approx(2.4)
    assert row.rtts["db"] == pytest.approx(0.229)
    state = placer.states()[KEY]
    assert state.region == BOM
    assert state.moved_at == pytest.approx(20.0 - 60.0)
    assert state.blocked_until == pytest.approx(20.0 + 190.0)
    assert state.reverted_from == DEN


def test_time_spent_down_counts_as_age() -> None:
    data = memory.dump(*learned(), FlipsBook(), now=1000.0, wall=5000.0)
    book = TrafficBook(DEN)
    memory.load(data, book, Placer(DEN), FlipsBook(), now=20.0, wall=5000.0 + 8 * 86_400.0)
    assert book.services(20.0) == {}


def test_what_relays_counted_survives_a_restart_and_grows_old() -> None:
    flips, found = FlipsBook(), TripEvidence("orders", 11.0, 0.2, 40, "relay")
    flips.update({ENV: ("orders",)})
    flips.restore([Relayed("orders", "", 4990.0, ((KEY, found),))], 5000.0)
    data = memory.dump(*learned(), flips, now=1000.0, wall=5000.0)
    again = FlipsBook()
    again.update({ENV: ("orders",)})
    memory.load(data, TrafficBook(DEN), Placer(DEN), again, now=20.0, wall=5060.0)
    assert again.evidence(5060.0) == {KEY: [found]}
    assert again.evidence(4990.0 + MAX_AGE + 1.0) == {}
    again.forget(KEY)
    assert again.evidence(5060.0) == {}


@pytest.mark.parametrize("data", [b"", b"\x00\x01", b"\x93\x01\x02\x03"])
def test_damaged_memory_is_refused_whole(data: bytes) -> None:
    book, placer = TrafficBook(DEN), Placer(DEN)
    with pytest.raises(ValueError, match=r"."):
        memory.load(data, book, placer, FlipsBook(), 0.0, 0.0)
    assert not list(book.routes())
    assert not placer.states()
