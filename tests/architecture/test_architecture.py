"""Rules of the code base that a review should not have to look for."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SRC = ROOT / "src"
MODULES = sorted(SRC.rglob("*.py"))

MAX_LINES = 350
LONG_MODULES = {
    # The composition root names every part once; splitting it would hide the order.
    "onetrip/app/node.py",
}

MAX_FUNCTION = 60
LONG_CONSTRUCTORS = {
    # Lists of parts, and of metrics, that belong in one place.
    "onetrip/app/node.py",
    "onetrip/observe/metrics.py",
}
REFUSED_NAMES = {"utils", "util", "helpers", "common", "manager", "misc"}

REAL_CLOCK = {
    ("time", "monotonic"),
    ("time", "time"),
    ("time", "perf_counter"),
    ("time", "sleep"),
    ("asyncio", "sleep"),
    ("datetime", "now"),
}


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def test_import_contracts_hold() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_a_docstring_and_a_bounded_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "module without docstring"
    if name_of(path) not in LONG_MODULES:
        assert text.count("\n") <= MAX_LINES
    assert path.stem not in REFUSED_NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION
        and not (name_of(path) in LONG_CONSTRUCTORS and node.name == "__init__")
    ]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.name for node in public(tree) if not ast.get_docstring(node)]


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node


def test_ignored_checks_name_their_code() -> None:
    bare = re.compile(r"#\s*(?:type:\s*ignore(?!\[)|noqa(?!:\s*[A-Z]))")
    found = [
        f"{path}:{number}"
        for folder in (SRC, ROOT / "tests")
        for path in folder.rglob("*.py")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line)
    ]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_shells_read_the_real_clock(path: Path) -> None:
    if name_of(path).startswith(("onetrip/timing", "onetrip/net/", "onetrip/app/", "onetrip_lab/")):
        return
    calls = [c for c in real_clock_calls(path) if c[0] == "time"]
    assert not calls, "time comes in through the constructor"


@pytest.mark.parametrize("folder", ["unit", "property", "simulation"])
def test_pure_tests_wait_for_nothing(folder: str) -> None:
    found = {
        str(path): calls
        for path in (ROOT / "tests" / folder).rglob("*.py")
        if (calls := [c for c in real_clock_calls(path) if c != ("asyncio", "sleep", 0)])
    }
    assert not found


def real_clock_calls(path: Path) -> list[tuple[object, ...]]:
    out: list[tuple[object, ...]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        if isinstance(owner, ast.Name) and (owner.id, node.func.attr) in REAL_CLOCK:
            first = node.args[0] if node.args else None
            value = first.value if isinstance(first, ast.Constant) else None
            out.append((owner.id, node.func.attr, value))
    return out


def test_metrics_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("page", ROOT / "scripts" / "metrics_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == module.page(), "run `make docs`"


def test_optional_and_heavy_packages_stay_where_they_belong() -> None:
    allowed = {
        "typer": ("onetrip/cli/",),
        "prometheus_client": ("onetrip/observe/", "onetrip/control/"),
        "pg8000": ("onetrip_lab/",),
        "openfeature": ("onetrip_openfeature/",),
        "yaml": (
            "onetrip/app/config",
            "onetrip/cli/simulate",
            "onetrip/cli/importing",
            "onetrip_lab/",
        ),
        "uvloop": (
            "onetrip/app/process",
            "onetrip/app/worker",
            "onetrip/relay/run",
            "onetrip_lab/",
        ),
    }
    found = [
        f"{name_of(path)} imports {package}"
        for path in MODULES
        for package, places in allowed.items()
        if re.search(rf"^\s*(?:import|from) {package}\b", path.read_text("utf-8"), re.M)
        and not name_of(path).startswith(places)
    ]
    assert not found
