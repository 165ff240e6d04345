"""Compiles the request path with mypyc, for wheels that ask for it.

    ONETRIP_COMPILE=1 pip wheel .           # or pip install .: needs a C compiler
    python hatch_build.py FOLDER            # a compiled copy of src in FOLDER, for tests

Without `ONETRIP_COMPILE` a wheel holds the same Python and nothing else, and installs everywhere.
The compiled modules are those a request passes through; they keep their source beside them.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, outside a build
    BuildHookInterface = object

ROOT = Path(__file__).parent
TOOLS = ["mypy[mypyc]>=1.13", "setuptools>=70", "types-PyYAML"]
COMPILED = [
    "timing",
    "estimate/drift",
    "estimate/traffic",
    "estimate/windows",
    "place/arms",
    "proxy/admission",
    "proxy/balance",
    "proxy/dispatch",
    "proxy/ejection",
    "proxy/exchange",
    "proxy/headers",
    "proxy/hedged",
    "proxy/consistent",
    "proxy/hop",
    "proxy/ledger",
    "proxy/outliers",
    "proxy/pick",
    "proxy/pool",
    "proxy/pool_http2",
    "proxy/replies",
    "proxy/retry",
    "proxy/router",
    "proxy/turns",
    "wire/http1",
    "wire/http1_body",
    "wire/http1_head",
    "wire/http2_upstream",
    "wire/server_timing",
    "wire/trace_context",
]
"""What a request passes through. A class that inherits from one of these has to be here as well.

Channels are left out: mypyc has no multiple inheritance, which their streams are made with."""

_TRACEBACK = re.compile(r'CPy_AddTraceback\("([^"]+)", "[^"]*", ([0-9]+),')
_SETUP = """
from setuptools import setup
from mypyc.build import mypycify
modules = mypycify({files!r}, opt_level="3", debug_level="0", group_name="onetrip")
setup(name="onetrip", ext_modules=modules, packages=[], script_args=["build_ext", "--inplace"])
"""


def compile_into(folder: Path) -> list[Path]:
    """Copy the sources into `folder`, compile them there, and return the extension modules."""
    shutil.copytree(ROOT / "src", folder, dirs_exist_ok=True)
    files = [f"onetrip/{name}.py" for name in COMPILED]
    subprocess.run([sys.executable, "-c", _SETUP.format(files=files)], cwd=folder, check=True)
    lost = find_lost_raises(folder, files)
    if lost:
        raise SystemExit("the compiler took these for unreachable: " + ", ".join(lost))
    shutil.rmtree(folder / "build")
    return sorted(folder.rglob("*.so")) + sorted(folder.rglob("*.pyd"))


def find_lost_raises(folder: Path, files: list[str]) -> list[str]:
    """Return every `raise` of an exception that the generated C does not hold.

    mypy believes that `self.x = None` still holds after a call of another method, takes a check of
    `self.x` behind it for unreachable and keeps silent about it where the check raises; mypyc then
    leaves it out. The checks that a parser raises for are what it is there for.
    """
    made: dict[str, set[int]] = {}
    for source in (folder / "build").rglob("*.c"):
        for name, line in _TRACEBACK.findall(source.read_text()):
            made.setdefault(name, set()).add(int(line))
    return [
        f"{name}:{node.lineno}"
        for name in files
        for node in ast.walk(ast.parse((folder / name).read_text()))
        if isinstance(node, ast.Raise)
        and node.exc is not None
        and made.get(name, set()).isdisjoint(range(node.lineno, (node.end_lineno or 0) + 1))
    ]


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the extension modules to a wheel; see hatchling's custom build hooks."""

    def dependencies(self) -> list[str]:
        """Return what a build needs besides hatchling."""
        return TOOLS if os.environ.get("ONETRIP_COMPILE") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before a wheel is made; an editable install stays as it is."""
        if version == "editable" or not os.environ.get("ONETRIP_COMPILE"):
            return
        self._folder = tempfile.TemporaryDirectory()
        root = Path(self._folder.name)
        for module in compile_into(root):
            build_data["force_include"][str(module)] = str(module.relative_to(root))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]))
