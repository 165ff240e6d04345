"""What holds for the compiled modules can partly be seen without compiling them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
hatch_build = pytest.importorskip("hatch_build")
sys.path.remove(str(ROOT))

SOURCES = ROOT / "src" / "onetrip"
COMPILED = {f"onetrip.{name.replace('/', '.')}" for name in hatch_build.COMPILED}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts)


def native_classes() -> set[tuple[str, str]]:
    """Classes that the compiler makes: protocols stay Python's own."""
    return {
        (module, node.name)
        for module in COMPILED
        for node in ast.walk(
            ast.parse((SOURCES.parent / f"{module.replace('.', '/')}.py").read_text())
        )
        if isinstance(node, ast.ClassDef) and "Protocol" not in [ast.unparse(b) for b in node.bases]
    }


def inherited(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Yield (class, module of its base, base) for bases imported from elsewhere."""
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if isinstance(base, ast.Name) and base.id in imported:
                    yield node.name, *imported[base.id]


def test_compiled_modules_exist() -> None:
    assert [m for m in hatch_build.COMPILED if not (SOURCES / f"{m}.py").is_file()] == []


def test_what_inherits_from_a_compiled_class_is_compiled() -> None:
    # "interpreted classes cannot inherit from compiled": a TypeError at the first use.
    native, checked = native_classes(), 0
    for path in sorted(SOURCES.rglob("*.py")):
        module = module_name(path)
        for name, *base in inherited(ast.parse(path.read_text())):
            if tuple(base) in native:
                checked += 1
                assert module in COMPILED, f"add {module} to hatch_build.COMPILED for {name}"
    assert checked


def test_compiled_classes_inherit_from_compiled_ones() -> None:
    # From interpreted ones they would be slow, and with __slots__ a TypeError at import.
    for module in sorted(COMPILED):
        path = SOURCES.parent / f"{module.replace('.', '/')}.py"
        for name, home, base in inherited(ast.parse(path.read_text())):
            assert not home.startswith("onetrip.") or home in COMPILED, (
                f"{name}({base}) in {module}"
            )


class TestLostRaises:
    SOURCE = "def check(size):\n  if size > 1:\n    raise ValueError(\n      size\n    )\n"

    def lost(self, folder: Path, lines: list[int]) -> list[str]:
        (folder / "build").mkdir()
        (folder / "parser.py").write_text(self.SOURCE)
        calls = [f'CPy_AddTraceback("parser.py", "check", {n}, CPyStatic_globals);' for n in lines]
        (folder / "build" / "made.c").write_text("\n".join(calls))
        return list(hatch_build.find_lost_raises(folder, ["parser.py"]))

    def test_raise_that_was_left_out_is_found(self, tmp_path: Path) -> None:
        assert self.lost(tmp_path, [2]) == ["parser.py:3"]

    def test_raise_counts_by_any_of_its_lines(self, tmp_path: Path) -> None:
        assert self.lost(tmp_path, [2, 4]) == []
