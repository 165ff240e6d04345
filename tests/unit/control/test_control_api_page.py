"""docs/api.md against the routes that exist and the parameters they take."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from aiohttp import web

from onetrip.control.handlers import Handlers
from onetrip.control.problems import STATUS_OF
from support.fake_view import FakeView

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")

ROW = re.compile(r"^\| `(?P<method>[A-Z]+) (?P<path>/\S+)` \| (?P<query>[^|]*)\|", re.MULTILINE)


def rows() -> dict[tuple[str, str], set[str]]:
    """Return the query parameters that the page lists, by route."""
    return {
        (row["method"], row["path"]): set(re.findall(r"`(\w+)`", row["query"]))
        for row in ROW.finditer(PAGE)
    }


def routes() -> list[web.RouteDef]:
    view = FakeView()
    return Handlers(view, view.wall).routes()


def test_every_route_is_in_the_table_and_every_row_is_a_route() -> None:
    existing = [(route.method, route.path) for route in routes()]
    listed = [(row["method"], row["path"]) for row in ROW.finditer(PAGE)]
    assert listed == existing


def test_table_names_the_query_parameters_that_each_route_takes() -> None:
    for route in routes():
        source = inspect.getsource(route.handler)
        # `query_of(..., ("edge", "limit"))` is how every handler says what it takes.
        call = re.search(r"query_of\(\s*request\.query\.items\(\), \(([^)]*)\)", source)
        taken = set(re.findall(r'"(\w+)"', call[1])) if call else set()
        assert rows()[route.method, route.path] == taken, route.path


def test_every_status_of_a_refusal_is_told() -> None:
    told = {int(code) for code in re.findall(r"\b[45]\d\d\b", PAGE)}
    assert set(STATUS_OF.values()) | {401, 412, 405, 500} <= told
