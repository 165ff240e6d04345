"""Flip counters: any byte split gives the same counts, any bytes are taken, nothing is kept."""

import sys
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from onetrip.model.catalog import BackendKind
from onetrip.wire.flip_setup import flips_for
from onetrip.wire.flips import Tally
from support.transcripts import MYSQL, POSTGRES, REDIS, TALKS, Turn, count

kinds = st.sampled_from([POSTGRES, MYSQL, REDIS, BackendKind.TCP])
sides = st.sampled_from(["client", "server"])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[BackendKind, list[Turn]]:
    """A conversation that is valid, damaged, or of another protocol."""
    talk = draw(st.sampled_from(TALKS))
    turns = list(talk.turns)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(turns) - 1))
        data = bytearray(turns[at][1])
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        turns[at] = (turns[at][0], bytes(data[: draw(st.integers(1, len(data)))]))
    noise = draw(st.lists(st.tuples(sides, st.binary(min_size=1, max_size=40)), max_size=6))
    return draw(st.sampled_from([talk.kind, draw(kinds)])), turns + noise


@given(conversations(), st.data())
@settings(max_examples=400, deadline=None)
def test_any_split_gives_the_same_counts(
    conversation: tuple[BackendKind, list[Turn]], data: st.DataObject
) -> None:
    kind, turns = conversation
    whole = count(kind, turns)
    tally = Tally()
    counter = flips_for(kind, tally)
    for index, (side, sent) in enumerate(turns):
        feed = counter.client_data if side == "client" else counter.server_data
        cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=4)))
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            feed(sent[start:end], index * 0.001)
    assert tally == whole


@given(kinds, st.lists(st.tuples(sides, st.binary(max_size=64)), max_size=40))
@settings(max_examples=300, deadline=None)
def test_the_total_is_the_number_of_flips_whatever_the_bytes(
    kind: BackendKind, turns: list[Turn]
) -> None:
    tally = count(kind, turns)
    spoken = [side for side, data in turns if data]
    flips = sum(pair == ("client", "server") for pair in pairwise(spoken))
    assert tally.trips + tally.setup_trips == flips


@given(kinds, sides, st.binary(min_size=1, max_size=16))
@settings(max_examples=100, deadline=None)
def test_what_is_kept_does_not_grow(kind: BackendKind, side: str, piece: bytes) -> None:
    counter = flips_for(kind, Tally())
    feed = counter.client_data if side == "client" else counter.server_data
    for index in range(2000):
        feed(piece, index * 0.001)
    held = [value for value in vars(counter).values() if isinstance(value, bytearray)]
    held += [each._held for each in vars(counter).values() if hasattr(each, "_held")]
    assert sum(map(sys.getsizeof, held)) < 1024
