"""Who accepts next among processes that share a socket."""

from __future__ import annotations

import os
import sys

import pytest

from onetrip.net.fairness import ABSENT, Board, make_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a file")


@pytest.mark.parametrize(
    ("counts", "is_ahead"),
    [
        ((0, 0, 0), False),
        ((1, 0, 0), False),  # somebody has to be first
        ((2, 0, 0), True),
        ((2, 2, 1), False),
        ((2, ABSENT, ABSENT), False),  # the only one
        ((100, 90, 95), False),
        ((100, 80, 95), True),
        ((5, 900, 4), False),
    ],
)
def test_process_far_ahead_of_the_last_one_lets_it_accept(
    counts: tuple[int, ...], is_ahead: bool
) -> None:
    memory = make_memory(3)
    writer, reader = Board(memory, 3), Board(memory, 3)
    os.close(memory)
    assert not reader.is_ahead(0)
    for index, count in enumerate(counts):
        writer.post(index, count)
    assert reader.is_ahead(0) is is_ahead


def test_burst_is_split_evenly_when_one_process_runs_all_the_time() -> None:
    memory = make_memory(2)
    board = Board(memory, 2)
    os.close(memory)
    counts = [0, 0]
    board.post(0, 0)
    board.post(1, 0)
    for _ in range(100):
        # Process 0 always comes first, and 1 only when 0 lets a connection be.
        taker = 1 if board.is_ahead(0) else 0
        counts[taker] += 1
        board.post(taker, counts[taker])
    assert min(counts) >= 44
