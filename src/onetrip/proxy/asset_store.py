"""The files of one environment as the request path sees them: looked up once, then remembered.

The disk may be slow, so it is asked in threads only. What was found is trusted for
`CHECK_INTERVAL`; the next request after that has it checked against the disk before it is used.
The names in the root are known as well: where an application shares its paths with its files, a
request such as `/api/orders/17` must not cost a look at the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from onetrip.model.edge import DEFAULT_CACHE_CONTROL, Assets
from onetrip.proxy.asset_folder import CODINGS, RACY, Folder, StoredFile
from onetrip.proxy.asset_paths import AssetPath
from onetrip.timing import Clock
from onetrip.wire.media_types import media_type_of

P = ParamSpec("P")
T = TypeVar("T")

CHECK_INTERVAL = 1.0
"""Longest time that a change on the disk goes unseen, s; nginx trusts for 60."""

MAX_ENTRIES = 4096
"""Paths remembered, those without a file included: about 2 MB."""

MAX_CONTENT = 16 * 1024 * 1024
"""Bytes of small files kept in memory, over all codings of one environment."""

MAX_NAMES = 10_000
"""Names known of the root; a larger one is asked every time."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file with its precompressed siblings.

    Attributes:
        files: by content coding; b"" is the plain one and always there.
        parts: where it is, for opening it again.
    """

    parts: tuple[str, ...]
    files: dict[bytes, StoredFile]
    media_type: bytes
    cache_control: bytes

    @property
    def size(self) -> int:
        """Bytes it takes in memory."""
        return sum(len(f.content) for f in self.files.values() if f.content is not None)

    def place_of(self, coding: bytes) -> tuple[str, ...]:
        """Return where the file of one coding is."""
        return _sibling(self.parts, CODINGS[coding]) if coding else self.parts


class AssetFolder:
    """Stands for a folder that has an index: its path ends with a slash."""


FOLDER = AssetFolder()

Found = Asset | AssetFolder | None


@dataclass(slots=True)
class _Entry:
    found: Found
    checked_at: float


class AssetStore:
    """Finds the assets of one environment.

    Args:
        pool: threads that may wait for the disk.
        on_error: told (directory, reason) when the disk fails; the request goes on without it.
    """

    def __init__(
        self,
        assets: Assets,
        clock: Clock,
        pool: Executor,
        on_error: Callable[[str, str], None],
    ) -> None:
        self.assets = assets
        self._clock = clock
        self._pool = pool
        self._on_error = on_error
        self._rules = [(rule.compile(), rule.value) for rule in assets.rules]
        self._root: Folder | None = None
        self._root_checked_at = float("-inf")
        self._root_check: asyncio.Future[None] | None = None
        self._names: frozenset[str] | None = frozenset()
        self._names_stamp = 0
        self._entries: dict[AssetPath, _Entry] = {}
        self._loading: dict[AssetPath, asyncio.Future[Found]] = {}
        self._size = 0

    async def find(self, path: AssetPath, *, is_fresh: bool = False) -> Found:
        """Return what is at `path`: a file, `FOLDER` to be asked with a slash, or nothing.

        Args:
            is_fresh: ask the disk, whatever is known.
        """
        now = self._clock.now()
        if is_fresh or now - self._root_checked_at >= CHECK_INTERVAL:
            self._root_checked_at = now
            self._root_check = asyncio.ensure_future(self._run(self._check_root))
        if self._root_check is not None and not self._root_check.done():
            await asyncio.shield(self._root_check)
        names = self._names
        if names is not None and path.parts and path.parts[0] not in names:
            return None
        entry = self._entries.get(path)
        if entry is not None and not is_fresh and now - entry.checked_at < CHECK_INTERVAL:
            return entry.found
        loading = self._loading.get(path)
        if loading is None:
            loading = asyncio.ensure_future(self._load(path, entry.found if entry else None))
            self._loading[path] = loading
            loading.add_done_callback(lambda _: self._loading.pop(path, None))
        return await asyncio.shield(loading)

    async def open(self, asset: Asset, coding: bytes) -> int | None:
        """Return a descriptor of exactly the version that `asset` tells of, else None."""
        return await self._run(self._open, asset.place_of(coding), asset.files[coding])

    async def _load(self, path: AssetPath, known: Found) -> Found:
        found = await self._run(self._look_up, path, known)
        now = self._clock.now()
        self._forget(path)
        while len(self._entries) >= MAX_ENTRIES or self._size > MAX_CONTENT:
            self._forget(next(iter(self._entries)))
        self._entries[path] = _Entry(found, now)
        if isinstance(found, Asset):
            self._size += found.size
        return found

    def _forget(self, path: AssetPath) -> None:
        entry = self._entries.pop(path, None)
        if entry is not None and isinstance(entry.found, Asset):
            self._size -= entry.found.size

    # --- in a thread ------------------------------------------------------------------------

    async def _run(
        self, work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs
    ) -> T | None:
        call = partial(work, *arguments, **keywords)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except OSError as error:
            self._on_error(self.assets.directory, error.strerror or type(error).__name__)
            return None

    def _check_root(self) -> None:
        root = self._root
        if root is None or not root.is_current():
            self._root, self._names = None, frozenset()
            root = Folder(self.assets.directory)
            self._names_stamp = -1
            self._root = root
        stamp = root.stamp()
        if stamp != self._names_stamp:
            self._names = root.names(MAX_NAMES)
            is_settled = self._clock.wall() - stamp / 1e9 >= RACY
            self._names_stamp = stamp if is_settled else -1

    def _look_up(self, path: AssetPath, known: Found) -> Found:
        root, index = self._root, self.assets.index
        if root is None:
            return None
        kept = known if isinstance(known, Asset) else None
        if path.is_folder or not path.parts:
            return self._read(root, (*path.parts, index), kept) if index else None
        asset = self._read(root, path.parts, kept)
        if asset is not None or not index:
            return asset
        return FOLDER if self._read(root, (*path.parts, index), None) is not None else None

    def _read(self, root: Folder, parts: tuple[str, ...], known: Asset | None) -> Asset | None:
        now = self._clock.wall()
        kept = known.files if known is not None else {}
        plain = root.read(parts, kept.get(b""), now)
        if plain is None:
            return None
        files = {b"": plain}
        for coding, ending in CODINGS.items():
            file = root.read(_sibling(parts, ending), kept.get(coding), now)
            if file is not None and file.size < plain.size:
                files[coding] = file
        if known is not None and all(files.get(c) is f for c, f in kept.items()):
            if len(files) == len(kept):
                return known
        return Asset(parts, files, media_type_of(parts[-1]), self._cache_control("/".join(parts)))

    def _open(self, parts: tuple[str, ...], file: StoredFile) -> int | None:
        root = self._root
        return root.open_version(parts, file.stamp) if root is not None else None

    def _cache_control(self, path: str) -> bytes:
        for pattern, value in self._rules:
            if pattern.fullmatch(path):
                return value
        return DEFAULT_CACHE_CONTROL


def _sibling(parts: tuple[str, ...], ending: str) -> tuple[str, ...]:
    return (*parts[:-1], parts[-1] + ending)
