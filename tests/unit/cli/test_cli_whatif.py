"""The what-if text, word for word: it is what people turn the toggle on by."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from onetrip.cli.whatif import sentence, what_if
from onetrip.control.convert import RegionOrder
from onetrip.control.whatif import WhatIfBody, WhatIfTotal, what_if_body
from support.fake_view import FakeView

BLOG = """\
CITY  METHOD  ROUTE        REQUESTS  NOW ms  WOULD RUN IN  THEN ms  SAVING ms  95 % INTERVAL  STATUS
den   read    /posts/{id}       955     548  fra               142        406  402..410       \
would move
bom   read    /posts/{id}       955     472  fra               122        349  346..352       \
would move
den   read    /                 310     956  fra               144        812  804..821       \
would move
bom   read    /                 310     823  fra               124        698  692..705       \
would move
fra   read    /                 310     7.5  fra                 -          0  -              \
at edge: no region can save more than 10 ms
fra   read    /posts/{id}       955     5.5  fra                 -          0  -              \
at edge: no region can save more than 10 ms

blog: 67 % of requests would move, saving 470 ms each (313 ms over all)
95 % interval: 465..475 ms each, 310..317 ms over all 3,795 requests"""


def body_of(project: str, edge: str | None = None, limit: int = 100) -> WhatIfBody:
    view = FakeView()
    mode = view.catalog.projects[project].policy.mode.value
    rows = [row for row in view.what_if(project) if edge in (None, row.edge)]
    return what_if_body(project, mode, rows, RegionOrder(view.topology.regions), limit)


def total(**changes: float | None) -> WhatIfTotal:
    found = WhatIfTotal(
        requests=1000,
        moved_requests=340,
        moved_ratio=0.34,
        saving_ms=410.04,
        low_ms=400.0,
        high_ms=420.0,
        moved_saving_ms=1206.0,
        moved_low_ms=1100.0,
        moved_high_ms=1300.0,
        routes=7,
        unknown_routes=2,
        unknown_requests=12,
    )
    return msgspec.structs.replace(found, **changes)


def test_project_that_is_off_shows_every_city_and_route_and_the_total() -> None:
    assert what_if(body_of("blog")) == BLOG


def test_route_not_known_yet_says_what_is_missing() -> None:
    line = next(x for x in what_if(body_of("shop", "den")).split("\n") if "/search" in x)
    cells = " ".join(line.split()[4:])
    assert cells == "919 den - - - analyzing: needs 14 more requests from den"


@pytest.mark.parametrize(
    ("mode", "changes", "words"),
    [
        (
            "off",
            {},
            "shop: 34 % of requests would move, saving 1,206 ms each (410 ms over all); "
            "2 routes need more traffic",
        ),
        (
            "smart",
            {"unknown_routes": 0},
            "shop (on already): 34 % of requests would move, saving 1,206 ms each "
            "(410 ms over all)",
        ),
        (
            "off",
            {"moved_requests": 0, "moved_ratio": 0.0, "unknown_routes": 1},
            "shop: no request would move; 1 route needs more traffic",
        ),
        (
            "off",
            {"moved_saving_ms": 12.04, "saving_ms": 4.09, "unknown_routes": 0},
            "shop: 34 % of requests would move, saving 12 ms each (4.1 ms over all)",
        ),
    ],
)
def test_total_is_one_sentence(mode: str, changes: dict[str, float], words: str) -> None:
    assert sentence(WhatIfBody("shop", mode, 7, total(**changes), [])) == words


def test_no_interval_is_told_when_nothing_moves() -> None:
    body = body_of("blog", "fra")
    assert what_if(body).endswith("\n\nblog: no request would move")


def test_project_without_requests_says_how_to_learn() -> None:
    empty = what_if_body("shop", "off", [], RegionOrder(()), 10)
    assert what_if(empty).startswith("shop: no request seen yet")


def test_rows_beyond_the_limit_are_counted() -> None:
    assert "\n4 more not shown\n\nblog: 67 %" in what_if(body_of("blog", limit=2))


def test_several_environments_are_told_apart() -> None:
    body = body_of("blog")
    other = msgspec.structs.replace(body.rows[0], environment="preview")
    text = what_if(msgspec.structs.replace(body, rows=[*body.rows, other]))
    assert "preview /posts/{id}" in text
    assert "production /posts/{id}" in text


def test_route_name_cannot_steer_the_terminal() -> None:
    row = FakeView().what_if("blog")[0]
    evil = replace(row, key=row.key._replace(route="/\x1b[2Jx"))
    body = what_if_body("blog", "off", [evil], RegionOrder(()), 10)
    assert "\x1b" not in what_if(body)
