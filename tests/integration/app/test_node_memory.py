"""Memory of an idle node, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.ports import free_ports
from support.waits import BOUND, soon

LIMIT = 60 * 1024
"""KiB of resident memory of a node without traffic."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("compiles", [False, True], ids=["as installed", "first start"])
def test_idle_node_stays_small(tmp_path: Path, compiles: bool) -> None:
    environment = dict(os.environ)
    if compiles:  # into a folder of its own, which is empty
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(tmp_path / "bytecode")
    proxy, admin = free_ports(2)
    config = tmp_path / "onetrip.yaml"
    config.write_text(
        f"listen: 127.0.0.1:{proxy}\n"
        f"admin: {{listen: '127.0.0.1:{admin}'}}\n"
        "regions: {here: {}}\n"
    )
    command = [sys.executable, "-m", "onetrip.cli.main", "run", "--config", str(config)]
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(command, stderr=log, env=environment)
        try:
            log_file = tmp_path / "log"
            soon(lambda: "app.started" in log_file.read_text(), log_file.read_text)
            time.sleep(1.0)
            # It gives memory back half a second after its start, or later on a busy machine.
            soon(lambda: resident(node.pid) < LIMIT, lambda: f"{resident(node.pid)} KiB")
        finally:
            os.kill(node.pid, signal.SIGTERM)
            assert node.wait(BOUND) == 0


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
