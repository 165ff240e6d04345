"""A region that is cut off, with clients at the others.

The first line of each test is a row of docs/conformance.md: fault | what a client sees | sign. The
script behind docs/reliability.md makes this fault for longer, and more of them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "reliability.py"

CANNOT = 2
"""Exit code of the script where the system lets nobody make faults."""


def made(folder: Path, fault: str) -> dict[str, Any]:
    """Make a fault; return what it did. Skips where the system lets nobody make any."""
    found = folder / "results.json"
    command = [sys.executable, str(SCRIPT), "--brief", "--only", fault, "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    assert found.exists(), done.stderr
    (row,) = json.loads(found.read_text())
    assert isinstance(row, dict)
    return row


async def test_region_is_cut_off(tmp_path: Path) -> None:
    """No packet passes between a region and the others | idempotent requests through the others \
are answered, those that were in progress there after some seconds | `cluster.peer_lost`, \
`probe.target_lost`"""
    row = await asyncio.to_thread(made, tmp_path, "partition")
    assert row["verdict"] == "passed", row
    assert row["sent"] > 20
    assert (row["failed_idempotent"], row["lost"]) == (0, 0)
