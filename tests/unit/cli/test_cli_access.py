"""The texts of `onetrip token` and `onetrip audit`, and lengths of time."""

from __future__ import annotations

import pytest

from onetrip.cli.access import ScopeName, audit_text, seconds, tokens_text
from onetrip.control.access import AuditBody, ChangeRow, TokenRow, TokensBody
from onetrip.control.tokens import Scope
from onetrip.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("45m", 2700), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_time_is_read_with_its_unit(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "1w", "9999999d", "30d "])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="30d, 12h, 45m or 90s"):
        seconds(text)


def test_command_knows_every_scope() -> None:
    assert [each.value for each in ScopeName] == [each.value for each in Scope]


def test_tokens_are_listed_with_their_end_and_last_use() -> None:
    rows = [
        TokenRow("ci", "write", "shop", 1_760_000_000.0, 1_761_000_000.0, None),
        TokenRow("wall", "read", "", 1_760_000_000.0, None, 1_760_000_060.0),
    ]
    _, ci, wall = tokens_text(TokensBody(rows)).splitlines()
    assert ci.split()[:3] == ["ci", "write", "shop"]
    assert ci.split()[-1] == "never"
    assert wall.split()[:3] == ["wall", "read", "-"]
    assert " never " in wall


def test_change_is_one_line_without_control_characters() -> None:
    change = ChangeRow(1.0, "ci", "::1", "id", "drain", "den", False, {"x": "\x1b[31m"})
    head, line, more = audit_text(AuditBody([change], "7")).splitlines()
    assert head.split()[:2] == ["TIME", "CALLER"]
    assert "false ->" in line
    assert "\x1b" not in line
    assert more == "more: --cursor 7"
