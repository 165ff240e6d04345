"""Writes the admin API's OpenAPI document: where nodes serve it from, and into docs/."""

from __future__ import annotations

from pathlib import Path

from onetrip.control.openapi import text

ROOT = Path(__file__).parent.parent
PLACES = (ROOT / "src" / "onetrip" / "control" / "openapi.json", ROOT / "docs" / "openapi.json")


if __name__ == "__main__":
    for place in PLACES:
        place.write_text(text(), encoding="utf-8")
