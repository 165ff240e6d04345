"""Every test that the table of requirements names exists, and the page has all its rows."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from support.requirements import REQUIREMENTS

TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parent / "docs" / "conformance.md"

sys.path.insert(0, str(TESTS / "conformance"))


def functions(file: str) -> set[str]:
    """Return the tests of a file, those of classes as `Class::test`."""
    found = set()
    for node in ast.parse((TESTS / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inner = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}::{function.name}" for function in inner}
    return found


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: f"{r.section}: {r.text[:40]}")
def test_named_tests_exist(requirement):
    from test_http1_cases import CASES

    assert requirement.tests
    for test in requirement.tests:
        file, _, name = test.partition("::")
        name, _, case = name.partition("[")
        assert name in functions(file), test
        if name == "test_case":
            assert case.removesuffix("]") in CASES, test


def test_page_has_every_requirement_and_every_fault():
    page = PAGE.read_text()
    for requirement in REQUIREMENTS:
        assert f"| {requirement.section} | {requirement.level} | {requirement.text} |" in page
    for path in sorted((TESTS / "integration" / "faults").glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
                row = ast.get_docstring(node) or ""
                assert row.count(" | ") == 2, node.name
                assert row in page, node.name
    assert "**failed**" not in page
