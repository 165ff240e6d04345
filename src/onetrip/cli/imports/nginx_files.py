"""Reads nginx configurations: `crossplane` for the syntax, bounds and includes here.

The files are a stranger's: their sizes, number, nesting and circles are bounded, and only regular
files are read.
"""

from __future__ import annotations

import glob
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onetrip.cli.imports.report import Place
from onetrip.errors import ConfigError

MAX_FILE = 4 * 1024 * 1024
"""Largest file, bytes; the largest configurations in use are a tenth of it."""

MAX_TOTAL = 32 * 1024 * 1024
"""Bytes of all files together."""

MAX_FILES = 2000
MAX_DEPTH = 16
"""Includes within includes; nginx's own packages use three."""

MAX_DIRECTIVES = 200_000


@dataclass(slots=True)
class Directive:
    """One directive.

    Attributes:
        block: what stands in its braces, or None without.
        is_told: the report has it.
    """

    name: str
    args: tuple[str, ...]
    place: Place
    block: list[Directive] | None = None
    is_told: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return " ".join((self.name, *self.args))

    def walk(self) -> Iterator[Directive]:
        """Yield it and everything inside."""
        yield self
        for each in self.block or ():
            yield from each.walk()


def read_nginx(path: Path) -> list[Directive]:
    """Return the directives of a configuration, with those of included files in their places.

    Raises:
        ConfigError: a file that cannot be read or is no configuration, or a bound was exceeded.
    """
    try:
        import crossplane  # noqa: F401
    except ImportError as error:
        raise ConfigError("reading nginx needs crossplane; install onetrip[import]") from error
    try:
        return _Reader(path).read(path, ())
    except RecursionError as error:
        raise ConfigError(f"{path}: blocks are nested too deeply") from error


class _Reader:
    def __init__(self, path: Path) -> None:
        self._folder = path.absolute().parent
        self._files = self._size = self._directives = 0

    def read(self, path: Path, within: tuple[Path, ...]) -> list[Directive]:
        real = path.absolute()
        if real in within:
            raise ConfigError(f"{path}: includes itself")
        if len(within) >= MAX_DEPTH:
            raise ConfigError(f"{path}: includes are nested deeper than limit of {MAX_DEPTH}")
        self._count(path)
        return list(self._directives_of(_parse(path), str(path), (*within, real)))

    def _count(self, path: Path) -> None:
        try:
            found = path.stat()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path}: is no file")
        if found.st_size > MAX_FILE:
            raise ConfigError(f"{path}: file of {found.st_size} bytes exceeds limit of {MAX_FILE}")
        self._files, self._size = self._files + 1, self._size + found.st_size
        if self._files > MAX_FILES or self._size > MAX_TOTAL:
            raise ConfigError(
                f"{path}: more than {MAX_FILES} files or {MAX_TOTAL} bytes are included"
            )

    def _directives_of(
        self, parsed: list[Any], file: str, within: tuple[Path, ...]
    ) -> Iterator[Directive]:
        for each in parsed:
            self._directives += 1
            if self._directives > MAX_DIRECTIVES:
                raise ConfigError(f"{file}: more than {MAX_DIRECTIVES} directives")
            place = Place(file, each["line"])
            if each["directive"] == "include" and len(each["args"]) == 1:
                yield from self._include(each["args"][0], place, within)
                continue
            block = each.get("block")
            yield Directive(
                each["directive"],
                tuple(each["args"]),
                place,
                None if block is None else list(self._directives_of(block, file, within)),
            )

    def _include(self, pattern: str, place: Place, within: tuple[Path, ...]) -> Iterator[Directive]:
        # nginx resolves relative names from the folder of its main file, at every depth.
        full = str(self._folder / pattern)
        paths = sorted(glob.glob(full)) if glob.has_magic(full) else [full]
        if not glob.has_magic(full) and not Path(full).exists():
            # Nothing to read is a fact for the report: mime.types is often not at hand.
            yield Directive("include", (pattern,), place)
        for each in paths:
            if Path(each).exists():
                yield from self.read(Path(each), within)


def _parse(path: Path) -> list[Any]:
    import crossplane

    try:
        found = crossplane.parse(
            str(path), single=True, catch_errors=False, check_ctx=False, check_args=False
        )
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    failed = found["errors"]
    if failed:
        if "recursion" in str(failed[0]["error"]):
            raise ConfigError(f"{path}: blocks are nested too deeply")
        line = failed[0]["line"]
        reason = str(failed[0]["error"]).partition(" in /")[0].partition(f" in {path}")[0]
        raise ConfigError(f"{path}:{line or '?'}: not an nginx configuration: {reason}")
    config: list[Any] = found["config"][0]["parsed"]
    return config
