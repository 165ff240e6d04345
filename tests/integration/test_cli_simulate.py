"""`onetrip simulate`: files in, table and files out, one line for each mistake."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from onetrip.cli.simulate import Options, simulate
from onetrip.errors import ConfigError

SCENARIO = """
backends: {db: bom}
edges: {den: 1, fra: 1}
routes:
  - {route: /orders, trips: {db: 8}}
  - {route: /assets}
duration: 60
warm_up: 30
requests: 600
score_interval: 1
events:
  - {at: 40, move: db, to: den}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def test_table_names_every_policy_and_ends_at_the_oracle(scenario: Path) -> None:
    lines = simulate(Options(scenario=scenario)).splitlines()
    assert lines[0].split() == ["policy", "mean", "p50", "p99", "vs", "oracle", "steady"]
    names = [" ".join(word for word in line.split() if word[0].isalpha()) for line in lines[1:8]]
    assert names == [
        "onetrip",
        "edge execution",
        "static primary",
        "round robin",
        "p2c peak-ewma",
        "single best region",
        "oracle",
    ]
    assert lines[7].split()[-2:] == ["1.000", "1.000"]
    assert any(line.startswith("all right again") for line in lines)


def test_json_holds_the_same_numbers(scenario: Path) -> None:
    found = json.loads(simulate(Options(scenario=scenario, as_json=True)))
    assert found["policies"][0]["policy"] == "onetrip"
    assert found["requests"] == 600
    assert found["policies"][-1]["ratio"] == 1.0


def test_seeds_run_in_processes_and_keep_their_order(scenario: Path) -> None:
    one = json.loads(simulate(Options(scenario=scenario, as_json=True)))
    two = json.loads(simulate(Options(scenario=scenario, seeds=2, as_json=True)))
    assert two["seeds"] == 2
    assert two["requests"] == 2 * one["requests"]


def test_out_gets_tables_and_plots(scenario: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "deep" / "out"
    simulate(Options(scenario=scenario, out=out))
    with (out / "routes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["edge"], row["route"]) for row in rows][:2] == [
        ("den", "/orders"),
        ("den", "/assets"),
    ]
    with (out / "policies.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 7
    assert (out / "distribution.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (out / "over_time.svg").read_bytes()


def test_log_is_replayed(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "access.jsonl"
    row = {"method": "GET", "region": "den", "arm": "default"}
    lines = [json.dumps({"ts": 5 + i, "route": "/orders", **row}) for i in range(40)]
    lines.append(json.dumps({"ts": 9, "route": "/else", **row}))
    log.write_text("\n".join(lines), encoding="utf-8")
    found = json.loads(simulate(Options(scenario=scenario, log=log, as_json=True)))
    assert found["requests"] == 40
    assert "1 access lines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("backends: [", "not YAML"),
        ("colour: 1", "unknown field `colour`"),
        (SCENARIO.replace("bom", "mars"), "mars"),
        ("matrix: none.csv\n" + SCENARIO, "none.csv: cannot be read"),
        ("[" * 3000, "not YAML"),
    ],
)
def test_bad_scenario_is_one_line_with_its_file(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason) as caught:
        simulate(Options(scenario=path))
    assert str(tmp_path) in str(caught.value)


def test_bad_options_are_refused(tmp_path: Path, scenario: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        simulate(Options(scenario=scenario, matrix=tmp_path / "m.csv"))
    with pytest.raises(ConfigError, match="--log needs --scenario"):
        simulate(Options(log=tmp_path / "log"))
    with pytest.raises(ConfigError, match="seeds of 0"):
        simulate(Options(seeds=0))
    with pytest.raises(ConfigError, match="cannot be read"):
        simulate(Options(matrix=tmp_path / "none.csv"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        simulate(Options(matrix=tmp_path / "binary.csv"))


def test_missing_matplotlib_is_one_clear_line(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None in sys.modules makes Python raise ImportError: what a bare machine does.
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'onetrip\[plot\]'"):
        simulate(Options(scenario=scenario, out=tmp_path))
