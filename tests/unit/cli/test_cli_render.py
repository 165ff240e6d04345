"""Plain-text tables: aligned, in milliseconds, and safe to print."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onetrip.cli import render
from onetrip.control import convert, schemas
from onetrip.control.projects import ProjectsBody
from onetrip.model.measure import EstimateState
from onetrip.model.status import PeerStatus
from onetrip.model.topology import RegionId
from support.fake_view import FakeView

MATRIX = """\
FROM \\ TO, ms    den    bom    fra  blog-db  orders-db  sessions
den                .  229.0  136.0    136.0      229.0     136.0
bom            229.0      .  117.0    117.0        0.5     117.0
fra            136.0  117.0      .      0.5      117.0       0.5"""


def test_rtts_are_a_matrix_of_regions_then_backends() -> None:
    view = FakeView()
    order = convert.RegionOrder(view.topology.regions)
    shuffled = dict(reversed(view.rtt_rows().items()))
    body = schemas.RttsBody(convert.rtt_rows(shuffled, order))
    assert render.rtts(body) == MATRIX


def test_failing_and_stale_rtts_are_marked_and_explained() -> None:
    rows = {source: dict(row) for source, row in FakeView().rtt_rows().items()}
    first, second = list(rows[RegionId("den")])[:2]
    den = rows[RegionId("den")]
    den[first] = replace(den[first], state=EstimateState.STALE)
    den[second] = replace(den[second], state=EstimateState.FAILING, rtt=math.nan)
    text = render.rtts(schemas.RttsBody(convert.rtt_rows(rows, convert.RegionOrder(rows))))
    assert "229.0*" in text
    assert "-!" in text
    assert text.endswith("* stale  ! failing")


def test_anycast_backends_are_marked_and_explained() -> None:
    rtts = FakeView().rtt_rows()
    rows = convert.rtt_rows(rtts, convert.RegionOrder(rtts), frozenset({"sessions"}))
    lines = render.rtts(schemas.RttsBody(rows)).split("\n")
    assert lines[0].split()[-2:] == ["orders-db", "sessions~"]
    assert lines[-1] == "~ anycast: answered in more than one place"


def test_regions_tell_what_their_nodes_do() -> None:
    regions = FakeView().topology.regions
    states = {"den": (None, True), "bom": (True, True), "fra": (False, False)}
    rows = [
        convert.region_row(
            regions[RegionId(name)],
            own=RegionId("den"),
            peer=None if alive is None else PeerStatus(RegionId(name), alive, 0.5),
            backends=[],
            is_draining=draining,
            instances=(3, 2),
        )
        for name, (alive, draining) in states.items()
    ]
    lines = render.regions(schemas.RegionsBody(rows)).split("\n")
    assert "this node, draining" in lines[1]
    assert "alive, draining" in lines[2]
    assert "silent  " in lines[3]
    assert lines[0].split("  ")[-1] == "NEAREST TO"
    assert all("2 of 3" in line for line in lines[1:])


def test_capacity_is_shown_where_there_is_one() -> None:
    view = FakeView()
    shop = view.catalog.projects["shop"]
    body = convert.project_body(shop, view.catalog.backends)
    assert "capacity" not in render.project(body)
    production = replace(shop.environments["production"], capacity=50)
    limited = replace(shop, environments={"production": production})
    text = render.project(convert.project_body(limited, view.catalog.backends))
    assert "  capacity  50 requests at once an instance, then spill over" in text


def test_right_aligned_columns_end_together() -> None:
    text = render.table(("NAME", ">N"), [("a", "1"), ("long", "12345")])
    assert text == "NAME      N\na         1\nlong  12345"


def test_table_without_rows_is_its_head() -> None:
    assert render.table(("A", "B"), []) == "A  B"


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\x00b"])
def test_characters_that_steer_a_terminal_are_replaced(text: str) -> None:
    assert render.plain(text) == f"a\ufffd{text[2:]}"
    assert len(render.table(("X",), [(text,)]).split("\n")) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (8040, "2 h 14 min"),
        (90_000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations_use_two_units(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


def test_instants_outside_the_calendar_are_a_dash() -> None:
    assert render.instant(0.0) == "1970-01-01 00:00:00"
    assert render.instant(1e20) == "-"


def test_status_names_each_problem() -> None:
    body = schemas.StatusBody(
        version="0.1.0",
        region="den",
        state="degraded",
        problems=["region bom does not answer"],
        started_at=0.0,
        uptime=61.0,
        catalog_version=1,
        snapshot_version=1,
        regions=3,
        regions_alive=2,
        projects=1,
        routes={"placed": 2, "off": 1},
        saving_ms=None,
    )
    assert render.status(body) == (
        "onetrip 0.1.0  node den  up 1 min 1 s  degraded\n"
        "regions   2 of 3 alive\n"
        "projects  1\n"
        "routes    2 placed, 1 off\n"
        "saving    not measured yet\n"
        "problem   region bom does not answer"
    )


def test_projects_show_toggle_pin_and_saving() -> None:
    view = FakeView()
    rows = [
        convert.project_row(p, view.catalog, view.decisions(p.name))
        for p in view.catalog.projects.values()
    ]
    lines = render.projects(ProjectsBody(rows, len(rows), None)).split("\n")
    assert lines[1].split()[:3] == ["shop", "smart", "-"]
    assert lines[1].endswith("1665.4 ms a request, measured")
    assert lines[2].split()[:3] == ["blog", "off", "-"]
    assert lines[3].split()[:3] == ["invoices", "smart", "fra"]
