"""The text of `onetrip project versions`."""

from __future__ import annotations

from onetrip.cli.versions import versions_text
from onetrip.control.rollback import VersionRow, VersionsBody


def test_what_stood_as_configured_is_a_dash() -> None:
    rows = [
        VersionRow(3, "den", 1_760_000_000.0, "smart", "", None, 0.0),
        VersionRow(2, "bom", 1_750_000_000.0, None, "fra", 0.05, None),
    ]
    head, newest, older = versions_text(VersionsBody("shop", rows, None)).splitlines()
    assert head.split() == ["VERSION", "TIME", "BY", "PLACEMENT", "HINT", "CONTROL", "EXPLORE"]
    assert newest.split()[-5:] == ["den", "smart", "none", "-", "0"]
    assert older.split()[-5:] == ["bom", "-", "fra", "0.05", "-"]
