"""Messages behind their lengths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrip.errors import LimitError
from onetrip.wire.frames import FrameReader, frame


@given(st.lists(st.binary(max_size=40)), st.data())
def test_any_split_gives_the_same_messages(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(payload, 40) for payload in payloads)
    reader, found, start = FrameReader(40), [], 0
    while start < len(stream):
        end = data.draw(st.integers(start + 1, len(stream)))
        found += reader.receive(stream[start:end])
        start = end
    assert found == payloads


def test_length_above_the_limit_is_refused_before_its_bytes_arrive() -> None:
    reader = FrameReader(10)
    assert reader.receive(frame(b"x" * 10, 10)) == [b"x" * 10]
    with pytest.raises(LimitError, match="message of 11 bytes exceeds limit of 10"):
        reader.receive(b"\0\0\0\x0b")


def test_message_above_the_limit_is_not_sent() -> None:
    with pytest.raises(LimitError, match="message of 3 bytes exceeds limit of 2"):
        frame(b"abc", 2)
