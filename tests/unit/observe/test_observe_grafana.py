"""The Grafana dashboard asks only for metrics and labels that onetrip exports."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.queries import exported, faults

ROOT = Path(__file__).parents[3]


def script() -> Any:
    spec = importlib.util.spec_from_file_location("grafana", ROOT / "scripts" / "grafana.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def queries() -> list[tuple[str, str, str, tuple[str, ...]]]:
    found = []
    for panel in script().dashboard()["panels"]:
        for target in panel.get("targets", ()):
            fields = tuple(
                t["options"][name]
                for t in panel.get("transformations", ())
                for name in ("rowField", "columnField")
            )
            found.append((panel["title"], target["expr"], target.get("legendFormat", ""), fields))
    return found


@pytest.mark.parametrize(
    ("title", "expr", "legend", "fields"), queries(), ids=lambda x: str(x)[:24]
)
def test_query_names_only_what_is_exported(
    title: str, expr: str, legend: str, fields: tuple[str, ...]
) -> None:
    assert faults(expr, legend, fields) == []


@pytest.mark.parametrize(
    ("expr", "legend", "fault"),
    [
        ("rate(onetrip_proxy_request_total[1m])", "", "no metric onetrip_proxy_request_total"),
        ('onetrip_place_routes{state="placed"}', "", "onetrip_place_routes has no label state"),
        ('onetrip_place_routes{status="moved"}', "", "status is never moved"),
        ("sum by (arms) (onetrip_proxy_forwarded_total)", "", "nothing has the label arms"),
        (
            "sum by (arm) (onetrip_proxy_forwarded_total)",
            "{{region}}",
            "region is not in the result",
        ),
        ("sum(onetrip_place_routes", "", "it is no query"),
    ],
)
def test_wrong_query_is_found(expr: str, legend: str, fault: str) -> None:
    assert fault in faults(expr, legend)


def test_variables_ask_for_what_is_exported() -> None:
    for variable in script().dashboard()["templating"]["list"]:
        for name in re.findall(r"\bonetrip_\w+", variable["query"]):
            assert name in exported()


def test_file_is_what_the_script_prints() -> None:
    text = (ROOT / "grafana" / "onetrip.json").read_text(encoding="utf-8")
    assert json.loads(text) == script().dashboard(), "run `make docs`"


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = script().dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for place in (panel["gridPos"] for panel in panels):
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


def test_each_metric_has_a_panel() -> None:
    text = json.dumps(script().dashboard())
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    assert [name for name in names if name.startswith("onetrip_") and name not in text] == []
