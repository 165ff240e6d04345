"""The demo's options, its timetable, and the configuration it writes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.model.catalog import Mode
from onetrip_lab.acts import schedule
from onetrip_lab.demo import main, parse_duration
from onetrip_lab.topology import AddressPlan, default_matrix
from onetrip_lab.world import configuration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60.0), ("60", 60.0), ("2m", 120.0), ("1h", 3600.0), ("40.5s", 40.5)],
)
def test_duration_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "60x", "-60s", "39s", "25h", "1e9", "nan"])
def test_bad_duration_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=repr(text)):
        parse_duration(text)


@pytest.mark.parametrize("total", [40.0, 60.0, 120.0])
def test_acts_leave_time_to_start_and_stop(total: float) -> None:
    times = schedule(total)
    acts = times.before + times.decide + times.after + times.back
    assert total * 0.7 < acts <= total - 8
    assert min(times.before, times.back) >= 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users", "0"], "--users 0 is not in 1-12"),
        (["--users", "13"], "--users 13 is not in 1-12"),
        (["--database", "oracle"], "invalid choice"),
        (["--for", "1s"], "not within 40 to 86400 s"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_matrix_file_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id,a,b\na,0,x\nb,1,0\n")
    assert main(["--rtt-file", str(bad)]) == 2
    assert main(["--rtt-file", str(tmp_path / "none.csv")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("bad.csv: a to b: 'x' is no number of ms")
    assert lines[1].endswith("none.csv cannot be read: No such file or directory")


@pytest.mark.parametrize("region", ["den", "bom", "fra"])
def test_written_configuration_is_accepted_by_every_node(tmp_path: Path, region: str) -> None:
    matrix = default_matrix()
    (tmp_path / "cluster.secret").write_text("a secret of enough bytes")
    path = tmp_path / "onetrip.yaml"
    addresses = AddressPlan(matrix.regions)
    path.write_text(yaml.safe_dump(configuration(matrix, addresses, "bom", tmp_path)))
    settings = load_settings(path, region)
    assert settings.listen.host == settings.source_address == addresses.source(region)
    assert settings.catalog.projects["shop"].policy.mode is Mode.OFF
    assert len(settings.topology.regions) == 3
