"""Bundles of files that were uploaded: unpacked once, and found by the hash of their bytes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path

from onetrip.control.view import KeptAssets
from onetrip.errors import ApiError, Kind, OnetripError, PeerError
from onetrip.release.records import DIGEST

LEAST_AGE = 3600.0
"""Seconds that a bundle is kept without a deployment that needs it."""

ARCHIVE = ".tar.gz"
"""Ending of the file that has a bundle as it was uploaded."""


class Bundles:
    """The bundles of one node.

    Args:
        folder: where they are kept; None keeps none.
        max_size: largest bundle, packed, bytes.
        wall: Unix time, s.
    """

    def __init__(self, folder: Path | None, max_size: int, wall: Callable[[], float]) -> None:
        self._folder = folder
        self._wall = wall
        self.max_size = max_size
        self._known: dict[str, float] = {}

    async def open(self) -> None:
        """Find out what is there; what was left half unpacked goes."""
        if self._folder is not None and self._folder.is_dir():
            self._known = await asyncio.to_thread(_scan, self._folder)

    def find(self, digest: str) -> str | None:
        """Return the folder of a bundle's files; None when it is not here."""
        if self._folder is None or digest not in self._known:
            return None
        return str(self._folder.absolute() / digest)

    async def keep(self, data: bytes) -> KeptAssets:
        """Check a bundle, unpack and keep it.

        Raises:
            ApiError: it is none, too large, or the disk refused it; nothing was kept.
        """
        if self._folder is None:
            raise ApiError(
                "files are kept on disk: set data_dir in the configuration", kind=Kind.CONFLICT
            )
        if len(data) > self.max_size:
            raise ApiError(
                f"bundle of {len(data)} bytes exceeds limit of {self.max_size}",
                kind=Kind.BODY_TOO_LARGE,
                limit=f"{self.max_size} bytes",
            )
        from onetrip.app.unpacking import unpack  # most nodes never do

        try:
            bundle = await asyncio.to_thread(unpack, self._folder, data, ARCHIVE)
        except OSError as error:
            raise ApiError(
                f"the bundle cannot be kept: {error.strerror}", kind=Kind.UNAVAILABLE
            ) from error
        self._known[bundle.digest] = self._wall()
        return bundle

    async def bring(
        self, digest: str, holders: Iterable[tuple[str, Awaitable[bytes | None]]]
    ) -> None:
        """Keep a bundle of the first of `holders`, by name, that has it.

        Raises:
            PeerError: none has it, or what they have cannot be kept.
        """
        failure = PeerError("no other node has them")
        for name, asked in holders:
            try:
                data = await asked
                bundle = await self.keep(data) if data is not None else None
            except OnetripError as error:
                failure = PeerError(str(error))
                continue
            if bundle is not None and bundle.digest == digest:
                return
            failure = PeerError(f"{name} has none, or other files under that name")
        raise failure

    async def packed(self, digest: str) -> bytes | None:
        """Return a bundle as it was uploaded, for another node."""
        if self._folder is None or digest not in self._known:
            return None
        return await asyncio.to_thread((self._folder / f"{digest}{ARCHIVE}").read_bytes)

    async def prune(self, wanted: Collection[str], wall: float) -> list[str]:
        """Delete every bundle but these, and those that came lately: they may be wanted soon.

        Returns:
            Those that were deleted.
        """
        folder = self._folder
        if folder is None:
            return []
        gone = [d for d, at in self._known.items() if d not in wanted and wall - at > LEAST_AGE]
        for digest in gone:
            del self._known[digest]
            await asyncio.to_thread(_delete, folder, digest)
        return gone


def _scan(folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in folder.iterdir():
        if DIGEST.fullmatch(entry.name) and (folder / f"{entry.name}{ARCHIVE}").is_file():
            found[entry.name] = entry.stat().st_mtime
        elif entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
    return found


def _delete(folder: Path, digest: str) -> None:
    (folder / f"{digest}{ARCHIVE}").unlink(missing_ok=True)
    shutil.rmtree(folder / digest, ignore_errors=True)
