"""The bars of `scripts/replica_bars.py`, on the first worlds of each matrix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "replica_bars.py"


def test_replicas_and_compute_together_come_near_the_optimum_and_beat_either_alone() -> None:
    command = [sys.executable, str(SCRIPT), "--seeds", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("bars met")
