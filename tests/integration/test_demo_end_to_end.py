"""The README's main command, whole: real nodes, real applications, real distances."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waits import BOUND


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "onetrip.cli.main", "demo", *options]


@pytest.fixture
def own_temp() -> Iterator[dict[str, str]]:
    """An environment whose temporary folder is the test's own, to see what is left in it."""
    with tempfile.TemporaryDirectory(prefix="onetrip-test-") as folder:
        yield os.environ | {"TMPDIR": folder}


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()]


def test_demo_keeps_its_promises_and_cleans_up(own_temp: dict[str, str]) -> None:
    ran = subprocess.run(
        command("--database", "embedded", "--for", "45s", "--json"),
        env=own_temp,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    outcome = json.loads(ran.stdout)
    assert outcome["kept"] is True
    assert all(promise["kept"] for promise in outcome["promises"])
    assert re.search(r"p50 [\d,]+ -> [\d.]+ ms, \d+\.\dx, remote-bom", ran.stderr)
    assert "\x1b" not in ran.stderr
    assert os.listdir(own_temp["TMPDIR"]) == []


def test_interrupted_demo_leaves_no_process_and_no_file(own_temp: dict[str, str]) -> None:
    demo = subprocess.Popen(
        command("--database", "embedded", "--no-color"),
        env=own_temp,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("1  Measure"):
                break
        children = children_of(demo.pid)
        assert len(children) >= 7  # database, three applications, three nodes
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=BOUND)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 128 + signal.SIGTERM
    deadline = time.monotonic() + BOUND
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert os.listdir(own_temp["TMPDIR"]) == []
