"""The text of `onetrip project versions`."""

from __future__ import annotations

from onetrip.cli.versions import versions_text
from onetrip.control.rollback import VersionRow, VersionsBody


def test_what_stood_as_configured_is_a_dash() -> None:
    rows = [
        VersionRow(3, "den", 1_760_000_000.0, "smart", "", None, 0.0),
        VersionRow(2, "bom", 1_750_000_000.0, None, "fra", 0.05, None, 0.25),
    ]
    head, newest, older = versions_text(VersionsBody("shop", rows, None)).splitlines()
    heads = ["VERSION", "TIME", "BY", "PLACEMENT", "HINT", "CONTROL", "EXPLORE", "SHARE"]
    assert head.split() == heads
    assert newest.split()[-6:] == ["den", "smart", "none", "-", "0", "-"]
    assert older.split()[-6:] == ["bom", "-", "fra", "0.05", "-", "0.25"]
