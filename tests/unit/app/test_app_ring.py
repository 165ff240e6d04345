"""Ids of events, what is told after one, and word of new ones."""

from __future__ import annotations

from onetrip.app import ring
from onetrip.app.ring import EventRing
from onetrip.model.status import Event
from support.clock import VirtualClock


def make() -> tuple[EventRing, VirtualClock]:
    clock = VirtualClock()
    return EventRing(clock), clock


def test_ids_grow_also_at_one_moment_and_when_the_clock_is_set_back() -> None:
    events, _ = make()
    ids = [events.add("place.moved", "shop", "").id for _ in range(5)]
    assert ids == list(range(ids[0], ids[0] + 5))


def test_events_of_earlier_runs_have_smaller_ids_in_their_order() -> None:
    events, _ = make()
    started = events.add("app.started", "den", "")
    now = started.at
    events.restore([Event(at, "place.moved", "shop", "") for at in (now + 9, now - 1, now - 1)])
    found = list(reversed(events.newest(9)))
    assert [e.id for e in found] == sorted({e.id for e in found})
    assert found[-1] == started
    assert [e.at for e in found[:3]] == [now - 1, now - 1, now + 9]


def test_what_follows_an_id_is_told_oldest_first() -> None:
    events, _ = make()
    first, second, third = (events.add("place.moved", str(n), "") for n in range(3))
    assert events.after(first.id) == (False, [second, third])
    assert events.after(third.id) == (False, [])
    assert events.after(0) == (False, [first, second, third])


def test_gap_is_told_when_the_ring_no_longer_holds_what_follows() -> None:
    events, _ = make()
    first = events.add("place.moved", "shop", "")
    for _ in range(ring.MAX_EVENTS):
        events.add("place.moved", "shop", "")
    missed, found = events.after(first.id)
    assert missed
    assert len(found) == ring.MAX_EVENTS


async def test_news_is_told_to_who_waits_already() -> None:
    events, _ = make()
    waited = events.news
    events.add("place.moved", "shop", "")
    assert waited.is_set()
    assert not events.news.is_set()
