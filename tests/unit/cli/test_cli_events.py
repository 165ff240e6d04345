"""A stream of server-sent events as lines of text."""

from __future__ import annotations

import pytest

from onetrip.cli.events import line_of, messages

STREAM = """event: status
data: {"a": 1}

:

event: event
id: 7
data: {"b": 2}

event: missed
data: null

event: event
data: cut off"""


def test_messages_are_told_when_they_are_whole() -> None:
    found = list(messages(STREAM.splitlines()))
    assert found == [("status", '{"a": 1}'), ("event", '{"b": 2}'), ("missed", "null")]


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        (
            "event",
            '{"at": 0, "name": "place.moved", "subject": "shop", "detail": "to\\u001b[1m bom"}',
            "place.moved  shop  to",
        ),
        ("missed", "null", "some events were missed"),
        ("something newer", "{}", ""),
    ],
)
def test_message_is_one_line(name: str, data: str, line: str) -> None:
    found = line_of(name, data)
    assert line in found
    assert "\x1b" not in found
