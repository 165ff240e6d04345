"""The dashboard of relays asks only for metrics and labels that relays export."""

from __future__ import annotations

import json
import re
from pathlib import Path

import grafana_relay
import pytest

from onetrip.observe.relay_metrics import RelayMetrics
from support.queries import exported, faults

ROOT = Path(__file__).parents[3]
EXPORTED = exported(RelayMetrics())


@pytest.mark.parametrize(
    ("expr", "legend"),
    [
        (target["expr"], target.get("legendFormat", ""))
        for panel in grafana_relay.dashboard()["panels"]
        for target in panel.get("targets", ())
    ],
    ids=lambda x: str(x)[:24],
)
def test_query_names_only_what_a_relay_exports(expr: str, legend: str) -> None:
    assert faults(expr, legend, more=EXPORTED) == []
    assert set(re.findall(r"\bonetrip_\w+", expr)) <= EXPORTED.keys()


def test_variables_ask_for_what_is_exported() -> None:
    for variable in grafana_relay.dashboard()["templating"]["list"]:
        assert set(re.findall(r"\bonetrip_\w+", variable["query"])) <= EXPORTED.keys()


def test_each_metric_has_a_panel() -> None:
    text = json.dumps(grafana_relay.dashboard())
    assert [n for n in EXPORTED if n.startswith("onetrip_") and n not in text] == []


def test_file_is_what_the_script_prints() -> None:
    text = (ROOT / "grafana" / "onetrip-relay.json").read_text(encoding="utf-8")
    assert json.loads(text) == grafana_relay.dashboard(), "run `make docs`"
