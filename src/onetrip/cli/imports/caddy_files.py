"""Reads Caddy's configurations: its JSON, or a Caddyfile as `caddy adapt` turns it into JSON.

Without the `caddy` program a Caddyfile is read by `caddyfile`, which knows its common directives.
"""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

from onetrip.cli.imports.caddyfile import adapt_caddyfile
from onetrip.errors import ConfigError

MAX_FILE = 16 * 1024 * 1024
"""Largest file, bytes."""

MAX_ADAPTED = 64 * 1024 * 1024
"""Most bytes of JSON that `caddy adapt` may print."""

ADAPT_TIMEOUT = 30.0
"""Longest time of `caddy adapt`, s; it takes some tenths."""


def read_caddy(path: Path, program: str | None = None) -> dict[str, Any]:
    """Return a configuration as Caddy's JSON has it.

    Args:
        program: the `caddy` to ask; None looks for it, "" does without.

    Raises:
        ConfigError: it cannot be read, or is no configuration.
    """
    text = _read(path)
    if path.suffix == ".json" or text.lstrip().startswith('{"'):
        return _object(text, str(path))
    program = shutil.which("caddy") if program is None else program
    if not program:
        return adapt_caddyfile(text, path.name)
    return _object(_adapt(program, path), f"{path}: what caddy made of it")


def _read(path: Path) -> str:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path}: is no file")
        if found.st_size > MAX_FILE:
            raise ConfigError(f"{path}: file of {found.st_size} bytes exceeds limit of {MAX_FILE}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error


def _adapt(program: str, path: Path) -> str:
    command = [program, "adapt", "--adapter", "caddyfile", "--config", str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ADAPT_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{path}: caddy adapt failed: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"{path}: {said[-1] if said else 'caddy adapt failed'}")
    if len(done.stdout) > MAX_ADAPTED:
        raise ConfigError(f"{path}: more than {MAX_ADAPTED} bytes of JSON")
    return done.stdout.decode(errors="replace")


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what}: is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{what}: is no Caddy configuration: not an object")
    return found
