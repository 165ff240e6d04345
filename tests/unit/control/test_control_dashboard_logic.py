"""The dashboard's logic in Node.js: what its modules compute without a page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "dashboard"
TIMEOUT = 120.0
"""Longest run, s; it takes one."""


@pytest.mark.needs_server("node")
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_logic(tmp_path: Path) -> None:
    with (tmp_path / "package.json").open("w") as file:
        json.dump({"type": "module"}, file)
    for module in files("onetrip.control").joinpath("dashboard").iterdir():
        if module.name.endswith(".js"):
            (tmp_path / module.name).write_bytes(module.read_bytes())
    done = subprocess.run(
        ["node", "--test", str(HERE / "logic.test.mjs")],
        env={**os.environ, "DASHBOARD": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
