"""Runs the conformance suites and the fault tests, and writes docs/conformance.md.

    python scripts/conformance.py [OUTPUT]

Suites that are not on this machine are listed with the reason. Exit code 1 when anything failed;
the page is written all the same and says what.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
FAULTS = "integration/faults"
SUITES = "conformance"
PAGE_TEST = "conformance/test_requirements.py::test_page_has_every_requirement_and_every_fault"
"""Asks about the page as it is before this has written it."""

TIMEOUT = 3600
"""Bound on the whole run, s; with every suite there it takes about ten minutes."""

sys.path.insert(0, str(TESTS))

from support.requirements import REQUIREMENTS, Requirement  # noqa: E402
from support.results import FOLDER, SuiteResult  # noqa: E402

INTRO = """# Conformance and faults

Written by `make conformance`; do not edit.

Suites from outside run against a real node or listener on loopback. `tests/conformance` says where
each comes from and how it is found; one that is not on the machine is skipped, with its name.
"""

Outcomes = dict[str, Counter[str]]
"""Outcomes of the tests of each `file::function` and `file::function[case]`."""


def main(output: Path) -> int:
    """Run everything, write the page and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="onetrip-conformance-") as name:
        folder = Path(name)
        code = run(folder)
        results = [SuiteResult(**json.loads(f.read_text())) for f in sorted(folder.glob("*.json"))]
        outcomes = read_outcomes(folder / "junit.xml")
    results += [count(outcomes, *suite) for suite in OWN_SUITES]
    page = [INTRO, *suite_table(results), *requirement_table(outcomes), *fault_table(outcomes)]
    output.write_text("\n".join(page) + "\n")
    print(f"wrote {output}")
    return code


OWN_SUITES = (
    (
        "Cases of RFC 9110 and RFC 9112",
        "the classes of github.com/MDA2AV/Http11Probe, made here",
        "conformance/test_http1_cases.py",
    ),
    (
        "WebSocket frames, right and wrong, byte for byte",
        "60 conversations made by hypothesis",
        "conformance/test_websocket_relay.py",
    ),
)


def run(folder: Path) -> int:
    """Run the tests; results of suites and `junit.xml` go to `folder`."""
    named = {test.partition("::")[0] for r in REQUIREMENTS for test in r.tests}
    targets = sorted({SUITES, FAULTS, *(f for f in named if not f.startswith(SUITES))})
    command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={folder / 'junit.xml'}"]
    command += [str(TESTS / target) for target in targets]
    command += ["--deselect", f"tests/{PAGE_TEST}"]
    environment = {**os.environ, FOLDER: str(folder), "ONETRIP_FULL": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, timeout=TIMEOUT, check=False
    ).returncode


def read_outcomes(path: Path) -> Outcomes:
    """Return the outcomes in a JUnit file."""
    outcomes: Outcomes = {}
    for case in ElementTree.parse(path).iter("testcase"):
        parts = case.get("classname", "").split(".")[1:]
        modules = [part for part in parts if not part.startswith("Test")]
        file = "/".join(modules) + ".py"
        names = [part for part in parts if part.startswith("Test")] + [case.get("name", "")]
        kinds = {child.tag for child in case}
        outcome = (
            "failed"
            if kinds & {"failure", "error"}
            else "skipped"
            if "skipped" in kinds
            else "passed"
        )
        test = f"{file}::" + "::".join(names)
        for name in {test, test.partition("[")[0]}:
            outcomes.setdefault(name, Counter())[outcome] += 1
    return outcomes


def count(outcomes: Outcomes, suite: str, source: str, file: str) -> SuiteResult:
    """Return the result of a suite whose cases are tests of one file."""
    total: Counter[str] = Counter()
    for name, counts in outcomes.items():
        if name.startswith(f"{file}::") and "[" not in name:
            total += counts
    return SuiteResult(
        suite, source, total.total(), total["passed"], total["failed"], total["skipped"]
    )


def suite_table(results: list[SuiteResult]) -> Iterator[str]:
    """Return the lines of the table of suites."""
    yield "## Suites\n"
    yield "| suite | source | cases | passed | failed | skipped | remark |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for r in sorted(results, key=lambda result: result.suite.lower()):
        counts = f"{r.cases:,} | {r.passed:,} | {r.failed} | {r.skipped}"
        yield f"| {r.suite} | {r.source} | {counts} | {r.note} |"
    yield ""


def requirement_table(outcomes: Outcomes) -> Iterator[str]:
    """Return the lines of the table of what the RFCs demand."""
    yield "## RFC 9110 and RFC 9112\n"
    yield "What they demand of an intermediary and of a recipient, in our words, and what shows it."
    yield "\n| section | level | demand | shown by | outcome |"
    yield "| --- | --- | --- | --- | --- |"
    for requirement in REQUIREMENTS:
        tests = "<br>".join(f"`{test}`" for test in short(requirement))
        demand = f"{requirement.section} | {requirement.level} | {requirement.text}"
        yield f"| {demand} | {tests} | {verdict_of(requirement, outcomes)} |"
    yield ""


def short(requirement: Requirement) -> Iterator[str]:
    """Return the tests of a requirement without their folders."""
    for test in requirement.tests:
        path, _, name = test.partition("::")
        case = name.removeprefix("test_case[").removesuffix("]")
        is_case = name.startswith("test_case[")
        yield f"case {case}" if is_case else f"{Path(path).name}::{name}"


def verdict_of(requirement: Requirement, outcomes: Outcomes) -> str:
    """Return whether everything that shows a requirement passed."""
    found = [outcomes.get(test, outcomes.get(test.partition("[")[0])) for test in requirement.tests]
    if any(counts is None or counts["failed"] for counts in found):
        return "**failed**"
    return "passed" if all(counts and counts["passed"] for counts in found) else "not run"


def faults() -> Iterator[tuple[str, list[str]]]:
    """Return the fault tests with the cells of their docstrings."""
    for path in sorted((TESTS / FAULTS).glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
                cells = (ast.get_docstring(node) or "").split(" | ")
                yield f"{FAULTS}/{path.name}::{node.name}", cells


def fault_table(outcomes: Outcomes) -> Iterator[str]:
    """Return the lines of the table of faults."""
    yield "## Faults\n"
    yield "Each is made for real: processes are killed and stopped, limits set, disks filled. None"
    yield "of them may hang, crash or leak anything."
    yield "\n| fault | what a client sees | how it shows | outcome |"
    yield "| --- | --- | --- | --- |"
    for name, cells in faults():
        counts = outcomes.get(name, Counter())
        verdict = "**failed**" if counts["failed"] else "passed" if counts["passed"] else "not run"
        yield f"| {' | '.join(cells)} | {verdict} |"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "conformance.md"
    sys.exit(main(target))
