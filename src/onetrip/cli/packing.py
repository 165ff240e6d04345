"""What `onetrip deploy` takes from the machine it runs on: a folder's files, and what git says."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from onetrip.errors import ConfigError

GIT_TIMEOUT = 5.0
"""Longest wait for git, s."""


def pack(folder: Path) -> bytes:
    """Return a folder as a gzipped tar; the same files give the same bytes, anywhere.

    Names that begin with a dot are left out, except `.well-known`: they are never sent to anybody.

    Raises:
        ConfigError: it is no folder, has no files, or something in it is neither file nor folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    packed = io.BytesIO()
    count = 0
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _files(folder):
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            info.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(info, content)
            count += 1
    if not count:
        raise ConfigError(f"{folder} has no files")
    return packed.getvalue()


def git_fact(folder: Path, *arguments: str) -> str:
    """Return what git says about the folder's repository; "" without git or a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and path.name != ".well-known":
            continue
        if path.is_symlink():
            raise ConfigError(f"{path} is a symbolic link; nodes take files and folders only")
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path
        else:
            raise ConfigError(f"{path} is neither a file nor a folder")
