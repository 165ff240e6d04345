"""A store of `cluster/bus` in memory, that several nodes share and that can be out of reach."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field

from onetrip.cluster.bus import Change, OnChange
from onetrip.errors import PeerError


@dataclass
class Stored:
    """What a server holds of one bucket."""

    values: dict[str, Change] = field(default_factory=dict)
    revision: int = 0
    watchers: list[tuple[str, OnChange]] = field(default_factory=list)
    writes: int = 0
    reads: list[str] = field(default_factory=list)

    def write(self, key: str, value: bytes | None) -> None:
        """Write a value and tell who watches."""
        self.revision += 1
        self.writes += 1
        self.values[key] = change = Change(key, value, self.revision)
        for pattern, on_change in list(self.watchers):
            if matches(key, pattern):
                on_change(change)

    def bytes_of(self, key: str) -> bytes:
        """Return a value that is there."""
        value = self.values[key].value
        assert value is not None
        return value


class FakeBucket:
    """One node's access to what a server holds."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.is_down = False
        self.before_swap: Callable[[], None] = lambda: None
        """Called before each `swap`: somebody else may be faster."""
        self._watch: tuple[str, OnChange] | None = None

    async def put(self, key: str, value: bytes) -> None:
        self._check()
        self.stored.write(key, value)

    async def swap(self, key: str, value: bytes, revision: int) -> bool:
        self._check()
        self.before_swap()
        known = self.stored.values.get(key)
        if (known.revision if known is not None else 0) != revision:
            return False
        self.stored.write(key, value)
        return True

    async def delete(self, key: str, revision: int) -> None:
        self._check()
        known = self.stored.values.get(key)
        if known is not None and known.revision == revision:
            self.stored.write(key, None)

    async def get(self, key: str) -> Change | None:
        self._check()
        self.stored.reads.append(key)
        return self.stored.values.get(key)

    async def watch(self, pattern: str, on_change: OnChange) -> None:
        self._check()
        self.leave()
        self._watch = (pattern, on_change)
        for change in sorted(self.stored.values.values(), key=lambda c: c.revision):
            if matches(change.key, pattern):
                on_change(change)
        on_change(None)
        self.stored.watchers.append(self._watch)

    def leave(self) -> None:
        """End the watch, as the end of a connection does."""
        if self._watch in self.stored.watchers:
            self.stored.watchers.remove(self._watch)

    def _check(self) -> None:
        if self.is_down:
            raise PeerError("out of reach")


class FakeBus:
    """The connection of one node to buckets."""

    def __init__(self, *buckets: FakeBucket) -> None:
        self.buckets = buckets
        self.is_down = False
        self.connects = 0
        self.bytes = (0, 0)

    def go(self, is_down: bool) -> None:
        """Put the store out of reach, or back."""
        self.is_down = is_down
        for bucket in self.buckets:
            bucket.is_down = is_down

    async def connect(self) -> None:
        self.connects += 1
        if self.is_down:
            raise PeerError("out of reach")

    def traffic(self) -> tuple[int, int]:
        return self.bytes

    async def close(self) -> None:
        for bucket in self.buckets:
            bucket.leave()


def matches(key: str, pattern: str) -> bool:
    """Tell whether a key fits a pattern of NATS (`*` one word, `>` the rest)."""
    if pattern == ">":
        return True
    same = len(key.split(".")) == len(pattern.split("."))
    return same and fnmatch.fnmatchcase(key, pattern)
