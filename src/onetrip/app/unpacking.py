"""Unpacking a bundle of files: a gzipped tar of one folder.

It comes from outside, so it is unpacked by hand: regular files and folders only, plain relative
names, bounded in number and size while it is read.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from onetrip.errors import ApiError
from onetrip.proxy.asset_paths import MAX_DEPTH, MAX_NAME, MAX_PATH

MAX_FILES = 20_000
"""Files of a bundle, as many as Cloudflare Pages takes
(https://developers.cloudflare.com/pages/platform/limits/)."""

MAX_UNPACKED = 256 * 1024 * 1024
"""Bytes of all files of a bundle."""

_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was kept.

    Attributes:
        size: of its files, bytes.
    """

    digest: str
    files: int
    size: int


def unpack(folder: Path, data: bytes, ending: str) -> Bundle:
    """Check a bundle, and unpack it into a folder of its name.

    Args:
        ending: of the file beside that folder, which gets the bundle as it is.

    Raises:
        ApiError: it is no bundle, or too large; nothing stays.
        OSError: the disk refused it.
    """
    digest = sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix="new-", dir=folder))
    try:
        files, size = _write_all(data, scratch)
        (folder / f"{digest}{ending}").write_bytes(data)
        scratch.chmod(0o755)
        try:
            scratch.rename(folder / digest)
        except OSError:
            # It is there already; the same bytes give the same files.
            if not (folder / digest).is_dir():
                raise
        return Bundle(digest, files, size)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_all(data: bytes, folder: Path) -> tuple[int, int]:
    files = size = 0
    for parts, source, length in _members(data):
        files, size = files + 1, size + length
        if files > MAX_FILES:
            raise _refuse(f"bundle of {files} files exceeds limit of {MAX_FILES}")
        if size > MAX_UNPACKED:
            raise _refuse(f"files of {size} bytes exceed limit of {MAX_UNPACKED}")
        place = folder.joinpath(*parts)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise _refuse(f"{'/'.join(parts)} is in the bundle twice") from error
        with os.fdopen(fd, "wb") as target:
            shutil.copyfileobj(source, target, _PIECE)
    if not files:
        raise _refuse("the bundle has no files")
    return files, size


def _members(data: bytes) -> Iterator[tuple[tuple[str, ...], IO[bytes], int]]:
    """Yield the path, content and size of each file."""
    try:
        with tarfile.open(fileobj=_Bounded(data), mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                name = member.name[:80]
                if not member.isreg():
                    raise _refuse(f"{name!r} is neither a file nor a folder")
                source = archive.extractfile(member)
                assert source is not None, "a regular file has content"
                yield _plain(member.name), source, member.size
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _refuse(f"bundle of {len(data)} bytes is no gzipped tar: {error}") from error


def _plain(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    is_odd = any(
        part == ".." or len(os.fsencode(part)) > MAX_NAME or not part.isprintable()
        for part in parts
    )
    if not parts or name.startswith("/") or is_odd or "\\" in name:
        raise _refuse(f"{name[:80]!r} is no plain relative path")
    if len(parts) > MAX_DEPTH or len(os.fsencode(name)) > MAX_PATH:
        raise _refuse(f"path of {len(parts)} parts and {len(name)} characters is too long")
    return parts


def _refuse(message: str) -> ApiError:
    return ApiError(message, field="body")


class _Bounded(gzip.GzipFile):
    """Unpacks gzip and gives up beyond a limit: what a header claims is not to be believed."""

    def __init__(self, data: bytes) -> None:
        super().__init__(fileobj=BytesIO(data))
        # Headers and padding of each file come on top of its content.
        self._left = MAX_UNPACKED + MAX_FILES * 2048

    def read(self, size: int | None = -1) -> bytes:
        most = self._left + 1
        data = super().read(most if size is None or size < 0 else min(size, most))
        self._left -= len(data)
        if self._left < 0:
            raise _refuse(f"bundle unpacks to more than {MAX_UNPACKED} bytes")
        return data
