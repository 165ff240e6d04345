"""Delay queue and links, on times that are just numbers."""

from __future__ import annotations

from random import Random

import pytest

from onetrip_lab.delay import DelayQueue, Links, Mark
from onetrip_lab.topology import INTRA_RTT, default_matrix


def test_chunk_is_held_until_its_due_time() -> None:
    queue = DelayQueue()
    queue.push(b"hello", due=10.0)
    assert queue.next_due == 10.0
    assert queue.pop(9.999) is None
    assert queue.pop(10.0) == b"hello"
    assert queue.pop(11.0) is None


def test_chunks_never_overtake_when_the_delay_falls() -> None:
    queue = DelayQueue()
    queue.push(b"slow", due=10.0)
    queue.push(b"fast", due=5.0)
    assert queue.pop(5.0) is None
    assert [queue.pop(10.0), queue.pop(10.0)] == [b"slow", b"fast"]


def test_end_of_stream_waits_for_the_bytes_before_it() -> None:
    queue = DelayQueue()
    queue.push(b"last", due=3.0)
    queue.push(Mark.EOF, due=2.0)
    assert queue.pop(2.5) is None
    assert queue.pop(3.0) == b"last"
    assert queue.pop(3.0) is Mark.EOF


def test_queue_is_full_at_its_limit_and_has_room_again_at_half() -> None:
    queue = DelayQueue(limit=100)
    queue.push(bytes(60), due=1.0)
    assert not queue.is_full
    queue.push(bytes(40), due=1.0)
    assert queue.is_full
    assert not queue.has_room
    queue.pop(1.0)
    assert queue.size == 40
    assert queue.has_room


def test_cleared_queue_holds_nothing() -> None:
    queue = DelayQueue()
    queue.push(b"x", due=1.0)
    queue.clear()
    assert (len(queue), queue.size, queue.next_due) == (0, 0, None)


def test_one_way_delay_is_half_the_rtt_both_ways() -> None:
    links = Links(default_matrix())
    assert links.one_way("den", "bom") == links.one_way("bom", "den") == pytest.approx(0.1145)
    assert links.one_way("den", "den") == INTRA_RTT / 2


def test_jitter_only_adds_and_is_seeded() -> None:
    first, second = (Links(default_matrix(), 0.01, Random(3)) for _ in range(2))
    delays = [first.one_way("den", "fra") for _ in range(50)]
    assert delays == [second.one_way("den", "fra") for _ in range(50)]
    assert all(0.068 <= d <= 0.078 for d in delays)
    assert len(set(delays)) > 10


def test_changed_rtt_takes_effect_in_both_directions() -> None:
    links = Links(default_matrix())
    links.set_rtt("fra", "den", 0.3)
    assert links.rtt("den", "fra") == 0.3
    assert links.rtt("den", "bom") == 0.229


@pytest.mark.parametrize("rtt", [-0.001, float("nan")])
def test_impossible_rtt_is_refused(rtt: float) -> None:
    with pytest.raises(ValueError, match="below 0"):
        Links(default_matrix()).set_rtt("den", "fra", rtt)


def test_unknown_region_is_refused() -> None:
    with pytest.raises(KeyError):
        Links(default_matrix()).set_rtt("den", "nyc", 0.1)


def test_cut_path_heals() -> None:
    links = Links(default_matrix())
    links.cut("den", "bom")
    assert links.is_cut("bom", "den")
    assert not links.is_cut("den", "fra")
    links.heal("bom", "den")
    assert not links.is_cut("den", "bom")
