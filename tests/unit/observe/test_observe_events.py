"""The page of events is what the code logs, and its names follow one form."""

from __future__ import annotations

import re
from pathlib import Path

import events_page
import pytest

import onetrip

ROOT = Path(__file__).parents[3]
PACKAGES = {path.name for path in Path(onetrip.__file__).parent.iterdir() if path.is_dir()}


def test_page_is_up_to_date() -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert text == events_page.page(), "run `make docs`"


def test_each_event_is_explained_and_only_those() -> None:
    found = set(events_page.events())
    assert found == set(events_page.MEANINGS), "tell its meaning in scripts/events_page.py"


@pytest.mark.parametrize("name", events_page.events())
def test_name_is_a_package_and_what_happened(name: str) -> None:
    package, _, what = name.partition(".")
    assert package in PACKAGES
    assert re.fullmatch(r"[a-z0-9_*]+", what)


def test_fields_have_one_name_for_one_thing() -> None:
    # One word for each: what went wrong is `reason`, who asked is `client`.
    other = {"message", "msg", "exception", "exc", "cause_text", "ip", "addr", "peer", "host"}
    for name, event in events_page.events().items():
        allowed = {"message"} if name == "app.worker_message_refused" else set()  # a message's name
        assert not event.fields & (other - allowed), name
        assert not event.fields & {"ts", "level", "event", "region_name"}, name


def test_names_are_found_wherever_they_are_written() -> None:
    found = events_page.events()
    assert found["place.moved"].is_told
    assert found["place.moved"].levels == {"info"}
    assert {"domain", "reason"} <= found["acme.order_failed"].fields  # over several lines
    assert {"app.draining", "app.undrained"} <= set(found)  # either of two
    assert "estimate.*_changed" in found  # made of parts
