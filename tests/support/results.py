"""What a conformance suite found, kept for docs/conformance.md.

`scripts/conformance.py` names a folder in `ONETRIP_RESULTS`; without it nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import pytest

FOLDER = "ONETRIP_RESULTS"
"""Environment variable: where results go."""


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """One suite's outcome.

    Attributes:
        suite: its name.
        source: where it is from, and which version ran.
        cases, passed, failed: counts.
        skipped: cases that do not apply here.
        note: why they do not, or why nothing ran.
    """

    suite: str
    source: str
    cases: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""


def report(result: SuiteResult) -> None:
    """Keep a suite's outcome."""
    folder = os.environ.get(FOLDER)
    if folder is not None:
        name = "".join(c if c.isalnum() else "-" for c in result.suite.lower())
        Path(folder, f"{name}.json").write_text(json.dumps(asdict(result)))


def report_cases(
    suite: str,
    source: str,
    cases: int,
    wrong: Sequence[object],
    *,
    skipped: int = 0,
    note: str = "",
) -> None:
    """Keep the outcome of a suite whose failures are listed in `wrong`."""
    failed = len(wrong)
    passed = cases - skipped - failed
    report(SuiteResult(suite, source, cases, passed, failed, skipped, note))


def skip_suite(suite: str, source: str, reason: str) -> NoReturn:
    """Skip a suite that is not on this machine."""
    report(SuiteResult(suite, source, note=reason))
    pytest.skip(f"{suite}: {reason}")
