"""A node as `onetrip run` starts it, whose clock or reports can be wrong.

    python -m support.faulty_node FAULTS FILE REGION

FAULTS is a JSON file that is read anew while the node runs: `clock` is added to the wall clock (s);
`claims` are RTTs (s), by target (`backend:db`), that replace what the node measured in its reports.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from onetrip.app import node as node_module
from onetrip.app import process
from onetrip.app.reports import ReportMaker
from onetrip.cluster.messages import Report
from onetrip.model.measure import EstimateState
from onetrip.timing import MonotonicClock


class Faults:
    """What is wrong now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = -1
        self._now: dict[str, Any] = {}

    def get(self, name: str, default: Any) -> Any:
        """Return one fault, or what is right."""
        changed_at = self._path.stat().st_mtime_ns
        if changed_at != self._read_at:
            self._now, self._read_at = json.loads(self._path.read_text()), changed_at
        return self._now.get(name, default)


def inject(faults: Faults) -> None:
    """Let every part of a node that is made from now on see the faults."""

    class SkewedClock(MonotonicClock):
        def wall(self) -> float:
            return super().wall() + float(faults.get("clock", 0.0))

    class LyingReports(ReportMaker):
        def make(self) -> Report:
            report, claims = super().make(), faults.get("claims", {})
            told = [
                replace(e, rtt=claims[str(e.target)], state=EstimateState.FRESH)
                if str(e.target) in claims
                else e
                for e in report.rtts
            ]
            return msgspec.structs.replace(report, rtts=told)

    for module in (node_module, process):
        module.MonotonicClock = SkewedClock  # type: ignore[attr-defined]
    node_module.ReportMaker = LyingReports  # type: ignore[attr-defined]


if __name__ == "__main__":
    inject(Faults(Path(sys.argv[1])))
    _, _, config, region = sys.argv
    sys.exit(process.run(Path(config), region))
