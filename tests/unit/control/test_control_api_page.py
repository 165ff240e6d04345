"""docs/api.md against the routes that exist and the parameters they take."""

from __future__ import annotations

import re
from pathlib import Path

from onetrip.control.api import build_admin
from onetrip.control.openapi import refusals_of
from onetrip.control.operations import OPERATIONS
from onetrip.observe.logs import silent_log
from support.fake_view import FakeView

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")

ROW = re.compile(r"^\| `(?P<method>[A-Z]+) (?P<path>/\S+)` \| (?P<query>[^|]*)\|", re.MULTILINE)


def rows() -> dict[tuple[str, str], set[str]]:
    """Return the query parameters that the page lists, by route."""
    return {
        (row["method"], row["path"]): set(re.findall(r"`(\w+)`", row["query"]))
        for row in ROW.finditer(PAGE)
    }


def test_every_operation_is_in_the_table_and_every_row_is_an_operation() -> None:
    listed = [(row["method"], row["path"]) for row in ROW.finditer(PAGE)]
    assert listed == [(each.method, each.path) for each in OPERATIONS]


def test_every_operation_has_its_route() -> None:
    app = build_admin(FakeView(), token=None, log=silent_log())
    routes = {
        (each.method, each.resource.canonical) for each in app.router.routes() if each.resource
    }
    assert {(each.method, each.path) for each in OPERATIONS} <= routes


def test_table_names_the_query_parameters_that_each_operation_takes() -> None:
    for each in OPERATIONS:
        assert rows()[each.method, each.path] == set(each.query or ()), each.path


def test_every_status_of_a_refusal_is_told() -> None:
    told = {int(code) for code in re.findall(r"\b[45]\d\d\b", PAGE)}
    assert {405, 417}.union(*(refusals_of(each) for each in OPERATIONS)) <= told
