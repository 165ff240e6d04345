"""Starts a node, what `onetrip run` becomes: `python -m onetrip.cli.launch CONFIG [REGION]`.

With `--advise` after these it takes no traffic.

A node starts its workers by it, too: `python -m onetrip.cli.launch --worker DESCRIPTOR`.

A process of its own image, because the command-line framework would otherwise stay in the node's
memory for as long as it runs (about 9 MB of the 60 MB that an idle node may take).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from onetrip.errors import ConfigError, OnetripError


def main(arguments: list[str]) -> int:
    """Run a node, or one of its workers, until it is told to stop; return its exit code."""
    try:
        if arguments[0] == "--worker":
            from onetrip.app.worker import run as run_worker

            return run_worker(int(arguments[1]))
        _compile_first()
        from onetrip.app.process import ADVISE, run

        config, *rest = [each for each in arguments if each != ADVISE]
        return run(Path(config), rest[0] if rest else None, advise=ADVISE in arguments)
    except KeyboardInterrupt:
        return 130
    except (OnetripError, OSError) as error:
        print(f"onetrip: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


def _compile_first() -> None:
    """Let another process compile the node's modules where that was not done yet.

    CPython keeps a second copy of all bytecode that it writes to a file (`code.co_code` is made
    once, and stays): 4 MB of a node's memory at its first start after an installation.
    """
    spec = importlib.util.find_spec("onetrip.app.process")
    cached = Path(spec.cached) if spec is not None and spec.cached is not None else None
    if sys.dont_write_bytecode or cached is None or cached.exists():
        return
    if os.access(_first_existing(cached), os.W_OK):
        flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
        command = [sys.executable, *flags, "-c", "import onetrip.app.process"]
        subprocess.run(command, check=False)


def _first_existing(path: Path) -> Path:
    return path if path.exists() else _first_existing(path.parent)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
