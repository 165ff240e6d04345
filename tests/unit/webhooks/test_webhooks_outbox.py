"""When a receiver is tried again, and what becomes of its messages."""

from __future__ import annotations

from random import Random

import pytest

from onetrip.webhooks.outbox import (
    DISABLE_AFTER,
    JITTER,
    MAX_AGE,
    MAX_PAUSE,
    MAX_PENDING,
    WAITS,
    Fate,
    Message,
    Outbox,
)


def outbox(*ids: str) -> Outbox:
    made = Outbox(Random(7))
    for id in ids:
        assert made.add(message(id))
    return made


def message(id: str, at: float = 0.0) -> Message:
    return Message(id, "place.moved", b"{}", at, due_at=at)


def near(wait: float, wanted: float) -> bool:
    return wanted * (1 - JITTER) <= wait <= wanted * (1 + JITTER)


def test_messages_go_in_order_and_are_gone_once_delivered() -> None:
    box = outbox("a", "b")
    for id in ("a", "b"):
        found = box.due(1.0)
        assert found is not None
        assert found.id == id
        box.succeeded(found, 1.0)
    assert box.due(1.0) is None
    assert box.next_at() is None


def test_a_message_waits_longer_after_each_failure() -> None:
    box, now = outbox("a"), 0.0
    for wanted in (*WAITS, WAITS[-1]):
        found = box.due(now)
        assert found is not None
        fate = box.failed(found, now)
        assert near(found.due_at - now, wanted)
        if fate is Fate.EXPIRED:
            break
        assert fate is Fate.WAITS
        assert box.due(found.due_at - 0.001) is None
        now = max(found.due_at, box.paused_until)


def test_many_messages_do_not_mean_many_attempts_at_a_receiver_that_is_down() -> None:
    box, now, attempts = outbox(*map(str, range(500))), 0.0, 0
    while now < 3600.0:
        found = box.due(now)
        if found is not None:
            attempts += 1
            box.failed(found, now)
        else:
            next_at = box.next_at()
            assert next_at is not None
            now = next_at
    # 5 s, 30 s, 2 min, and then every 10 min.
    assert attempts <= 4 + 3600 / (MAX_PAUSE * (1 - JITTER))


def test_once_a_receiver_is_back_what_found_it_down_is_due_at_once() -> None:
    box = outbox("a", "b", "c")
    first = box.due(0.0)
    assert first is not None
    box.failed(first, 0.0)
    first.due_at = 5000.0
    second = box.due(700.0)
    assert second is not None
    assert second.id != first.id
    box.succeeded(second, 700.0)
    assert first.due_at == 700.0
    assert (box.failures, box.failing_since) == (0, None)


def test_a_message_that_is_refused_holds_up_no_other() -> None:
    box = outbox("bad", "good")
    bad = box.due(0.0)
    assert bad is not None
    box.failed(bad, 0.0, is_refused=True)
    good = box.due(100.0)
    assert good is not None
    bad_due = bad.due_at = 9000.0
    assert box.due(100.0) is good
    box.succeeded(good, 100.0)
    assert bad.due_at == bad_due


def test_a_receiver_can_ask_to_be_left_alone_but_not_for_ever() -> None:
    box = outbox("a")
    found = box.due(0.0)
    assert found is not None
    box.failed(found, 0.0, retry_after=120.0)
    assert box.due(119.0) is None
    box = outbox("a")
    found = box.due(0.0)
    assert found is not None
    box.failed(found, 0.0, retry_after=1e9)
    assert box.next_at() == 3600.0


def test_old_news_is_given_up() -> None:
    box = outbox("a")
    found = box.due(MAX_AGE)
    assert found is not None
    assert box.failed(found, MAX_AGE) is Fate.EXPIRED
    assert box.pending == {}


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_receiver_that_fails_for_days_or_is_gone_is_told_nothing_more(is_gone: bool) -> None:
    box = outbox("a", "b")
    found = box.due(0.0)
    assert found is not None
    fate = box.failed(found, 0.0, is_gone=is_gone)
    if not is_gone:
        assert fate is Fate.WAITS
        fate = box.failed(found, DISABLE_AFTER)
    assert fate is Fate.DISABLED
    assert (box.is_disabled, box.pending) == (True, {})
    assert not box.add(message("c"))
    box.succeeded(message("test"), 1.0)  # by hand
    assert box.add(message("d", 1.0))


def test_no_more_messages_wait_than_the_limit() -> None:
    box = outbox(*map(str, range(MAX_PENDING)))
    assert not box.add(message("one more"))
