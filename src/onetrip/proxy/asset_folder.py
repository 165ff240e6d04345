"""A folder of files as the disk has it now; blocking, so only ever used in a thread.

Every file is opened from the root, name by name, without following links (the way of `openat2`
with RESOLVE_BENEATH): what is opened is below the root, whatever is moved meanwhile. A link is
resolved first, and where it leads is opened the same way; one that leads out names no file.
"""

from __future__ import annotations

import errno
import os
import stat
from hashlib import blake2b
from typing import NamedTuple

SMALL = 1024 * 1024
"""Bytes up to which a file is read whole: its entity tag is then made of its content, equal on
every node, and not of its modification time, which copying to several nodes changes."""

RACY = 2.0
"""A file changed less than this before it was read may change again without a new time stamp, s."""

CODINGS = {b"br": ".br", b"zstd": ".zst", b"gzip": ".gz"}
"""Content coding to the ending of the file that holds it, beside the plain one."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = _FOLDER | os.O_NOFOLLOW
# NONBLOCK: the opening of a FIFO must not wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG, errno.ENXIO)


class Stamp(NamedTuple):
    """What changes when a file does."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class StoredFile(NamedTuple):
    """One version of one file.

    Attributes:
        modified: Unix time, s.
        content: its bytes, None for a large one.
        is_racy: it changed so lately that its stamp proves nothing yet.
    """

    stamp: Stamp
    size: int
    modified: int
    etag: bytes
    content: bytes | None
    is_racy: bool


class Folder:
    """An open root.

    Args:
        path: of the folder; links on the way to it are followed.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, _FOLDER)
        info = os.fstat(self._fd)
        self.identity = (info.st_dev, info.st_ino)

    def __del__(self) -> None:
        # Threads may still be using it when it is replaced: the last user closes it.
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)

    def is_current(self) -> bool:
        """Tell whether its path still leads to it."""
        try:
            info = os.stat(self.path)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self.identity

    def stamp(self) -> int:
        """Return what changes when a name is added or removed in the root, ns."""
        return os.fstat(self._fd).st_mtime_ns

    def names(self, limit: int) -> frozenset[str] | None:
        """Return the names in the root, or None when there are more than `limit`."""
        names = os.listdir(self._fd)
        return frozenset(names) if len(names) <= limit else None

    def open(self, parts: tuple[str, ...]) -> int | None:
        """Return a descriptor of the regular file at `parts`, to be closed; None without one.

        Raises:
            OSError: the disk failed.
        """
        try:
            return self._open(parts)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            # O_NOFOLLOW gives ELOOP for a link, and with O_DIRECTORY ENOTDIR.
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                return None
        target = self._resolve(parts)
        if target is None or target == parts:
            return None
        try:
            return self._open(target)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            return None

    def read(
        self, parts: tuple[str, ...], known: StoredFile | None, now: float
    ) -> StoredFile | None:
        """Return the file at `parts`: `known` itself while it has not changed; None without one.

        Args:
            now: Unix time, s.

        Raises:
            OSError: the disk failed.
        """
        fd = self.open(parts)
        if fd is None:
            return None
        try:
            info = os.fstat(fd)
            stamp = stamp_of(info)
            if known is not None and known.stamp == stamp and not known.is_racy:
                return known
            content = _read_whole(fd, info.st_size) if info.st_size <= SMALL else None
            return StoredFile(
                stamp,
                info.st_size if content is None else len(content),
                int(info.st_mtime),
                _etag_of(info, content),
                content,
                now - info.st_mtime < RACY,
            )
        finally:
            os.close(fd)

    def open_version(self, parts: tuple[str, ...], stamp: Stamp) -> int | None:
        """Return a descriptor of the file at `parts` while it is the version of `stamp`.

        Raises:
            OSError: the disk failed.
        """
        fd = self.open(parts)
        if fd is not None and stamp_of(os.fstat(fd)) != stamp:
            os.close(fd)
            return None
        return fd

    def _open(self, parts: tuple[str, ...]) -> int | None:
        at, opened = self._fd, -1
        try:
            for name in parts[:-1]:
                step = os.open(name, _STEP, dir_fd=at)
                if opened >= 0:
                    os.close(opened)
                at = opened = step
            fd = os.open(parts[-1], _FILE, dir_fd=at)
        finally:
            if opened >= 0:
                os.close(opened)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def _resolve(self, parts: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return where a path with links leads below the root; None if it leads out."""
        root = os.path.realpath(self.path)
        found = os.path.realpath(os.path.join(root, *parts))
        inner = found.removeprefix(root.rstrip("/") + "/")
        if inner == found:
            return None
        target = tuple(inner.split("/"))
        # A link must not open what its own name would not: .git, .env.
        hidden = any(part.startswith(".") for part in target[1:])
        if hidden or (target[0].startswith(".") and target[0] != ".well-known"):
            return None
        return target


def stamp_of(info: os.stat_result) -> Stamp:
    """Return what changes when the file of `info` does."""
    return Stamp(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _read_whole(fd: int, size: int) -> bytes:
    data = b""
    while len(data) <= size:
        # One byte more than expected: a file that grows meanwhile is noticed.
        more = os.read(fd, size + 1 - len(data))
        if not more:
            return data
        data += more
    raise OSError(errno.EIO, "file grew while it was read")


def _etag_of(info: os.stat_result, content: bytes | None) -> bytes:
    """Return a strong entity tag (RFC 9110 section 8.8.3).

    Of a large file it is size and modification time, in ns where nginx and Caddy take seconds.
    """
    if content is None:
        return b'"%x-%x"' % (info.st_mtime_ns, info.st_size)
    return b'"%b"' % blake2b(content, digest_size=12).hexdigest().encode()
