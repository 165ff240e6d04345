"""What is taken out of a text that leaves, and what stays."""

from __future__ import annotations

import pytest

from onetrip.observe.scrub import MAX_TEXT, REMOVED, scrub


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("cannot reach postgres://app:hunter2@db.example/shop", "hunter2"),
        ("GET https://a.example/x?card=4111&y=1 failed", "4111"),
        ("Authorization: Bearer abc.def.ghi was refused", "abc.def"),
        ("header said bearer abcdefghijkl", "abcdefghijkl"),
        ('{"password": "hunter2"}', "hunter2"),
        ("token=tok_123 expired", "tok_123"),
        ("mail of ann.lee@shop.example bounced", "ann.lee"),
        ("client 203.0.113.77 sent", "203.0.113.77"),
        ("client [2001:db8::7:1]:443 sent", "2001:db8"),
        ("client 2001:db8::7 sent", "2001:db8"),
        ("peer fe80::1%eth0 is gone", "fe80"),
    ],
)
def test_what_identifies_or_opens_is_removed(text: str, secret: str) -> None:
    found = scrub(text)
    assert secret not in found
    assert REMOVED in found


@pytest.mark.parametrize(
    "text",
    [
        "state file /data/den/onetrip.db cannot be written: disk I/O error",
        "backend 'pg' is not one of redis, mysql",
        "version 1.2.3 is newer, at 10:30:15",
        "dict changed size during iteration",
        "score:142",
    ],
)
def test_the_reason_of_a_failure_stays(text: str) -> None:
    assert scrub(text) == text


def test_a_long_text_is_cut() -> None:
    assert len(scrub("x" * 5000)) == MAX_TEXT
