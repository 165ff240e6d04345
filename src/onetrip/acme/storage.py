"""Keys and certificates on disk, so that a restart orders nothing anew.

A certificate and its key are one file: replacing it is one rename, so a crash at any moment leaves
the old pair or the new one, never half of each. Files are readable by their owner alone. Each
directory of an authority has a folder of its own, so that a test authority's certificates are not
taken for real ones after the switch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from onetrip.errors import AcmeError

MAX_FILE_SIZE = 256 * 1024
"""Bytes of a key with its chain; a long chain has 10 kB."""

MAX_WRITE_TIME = 60.0
"""A half-written file that is older than this was left by a crash, s."""

_ACCOUNT = "account.key"
_PARTIAL = ".partial-"

T = TypeVar("T")


class Storage:
    """The files of one authority.

    Args:
        parent: made when absent.
        directory: the authority's URL.
    """

    def __init__(self, parent: Path, directory: str) -> None:
        host = urlsplit(directory).hostname or "unknown"
        digest = hashlib.sha256(directory.encode()).hexdigest()[:12]
        self.folder = parent / f"{host.replace(':', '_')}-{digest}"

    def open(self, now: float) -> None:
        """Make the folder, and remove what a crash left half-written.

        Args:
            now: Unix time, s. What is being written just now may belong to another process: that
                of a node which this one is about to relieve.

        Raises:
            AcmeError: it cannot be used.
        """
        with self._translated("cannot be made"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file in self.folder.glob(f"{_PARTIAL}*"):
                if file.stat().st_mtime < now - MAX_WRITE_TIME:
                    file.unlink(missing_ok=True)

    def path(self, domain: str) -> Path:
        """Return where a domain's key and certificate are."""
        return self.folder / f"{domain}.pem"

    def load(self, domain: str) -> bytes | None:
        """Return a domain's key and chain, or None.

        Raises:
            AcmeError: it cannot be read.
        """
        return self._read(self.path(domain))

    def save(self, domain: str, pair: bytes, check: Callable[[Path], T]) -> T:
        """Replace a domain's key and chain, once `check` has found the new file usable.

        Raises:
            AcmeError: it cannot be written. What `check` raises leaves the old file in place.
        """
        return self._replace(self.path(domain), pair, check)

    def load_account(self) -> bytes | None:
        """Return the account's key, PEM, or None.

        Raises:
            AcmeError: it cannot be read.
        """
        return self._read(self.folder / _ACCOUNT)

    def save_account(self, key: bytes) -> None:
        """Keep the account's key.

        Raises:
            AcmeError: it cannot be written.
        """
        self._replace(self.folder / _ACCOUNT, key, lambda path: None)

    def _read(self, path: Path) -> bytes | None:
        with self._translated("cannot be read"):
            try:
                with path.open("rb") as file:
                    data = file.read(MAX_FILE_SIZE + 1)
            except FileNotFoundError:
                return None
        if len(data) > MAX_FILE_SIZE:
            raise AcmeError(f"{path} exceeds limit of {MAX_FILE_SIZE} bytes", reason="storage")
        return data

    def _replace(self, path: Path, data: bytes, check: Callable[[Path], T]) -> T:
        partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
        try:
            with self._translated("cannot be written"):
                _write(partial, data)
            checked = check(partial)
            with self._translated("cannot be written"):
                partial.replace(path)
                _sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        return checked

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise AcmeError(f"{self.folder} {what}: {reason}", reason="storage") from error


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
