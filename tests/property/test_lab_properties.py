"""Properties of the lab's pure parts: whatever arrives, order holds and nothing escapes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import ConfigError
from onetrip_lab.delay import DelayQueue, Mark
from onetrip_lab.embedded import seeded_engine
from onetrip_lab.pgwire import VERSION_3, Session
from onetrip_lab.topology import parse_matrix

ENGINE = seeded_engine()
STARTUP = struct.pack("!ii", 19, VERSION_3) + b"user\0shop\0\0"

messages = st.builds(
    lambda code, body: code + struct.pack("!i", len(body) + 4) + body,
    st.sampled_from([b"Q", b"P", b"B", b"D", b"E", b"C", b"S", b"H", b"X", b"z"]),
    st.binary(max_size=60) | st.just(b"SELECT 1\0") | st.just(b"\0SELECT $1\0\0\0"),
)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.floats(0, 10)), max_size=30))
def test_bytes_come_out_complete_in_order_and_never_early(sent: list[tuple[bytes, float]]) -> None:
    queue = DelayQueue()
    for chunk, due in sent:
        queue.push(chunk, due)
    queue.push(Mark.EOF, 0.0)
    received, earliest = [], 0.0
    while (due := queue.next_due) is not None:
        assert queue.pop(due - 1e-6) is None
        assert due >= earliest
        earliest = due
        received.append(queue.pop(due))
    assert received == [*(chunk for chunk, _ in sent), Mark.EOF]
    assert queue.size == 0


@given(st.binary(max_size=200))
def test_any_bytes_at_startup_end_in_a_reply_or_a_wait(data: bytes) -> None:
    Session(ENGINE).receive_data(data)


@given(st.lists(messages, max_size=12), st.integers(1, 40))
def test_any_messages_are_answered_alike_however_they_are_split(
    sent: list[bytes], size: int
) -> None:
    stream = STARTUP + b"".join(sent)
    whole, split = Session(ENGINE), Session(ENGINE)
    expected = whole.receive_data(stream)
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert b"".join(split.receive_data(p) for p in pieces) == expected
    assert split.is_closing == whole.is_closing


@given(st.text(max_size=120))
def test_any_text_is_a_matrix_or_a_config_error(text: str) -> None:
    try:
        matrix = parse_matrix(text, "f")
    except ConfigError as error:
        is_named, regions = str(error).startswith("f: "), 2
    else:
        is_named, regions = True, len(matrix.regions)
    assert is_named
    assert regions >= 2
