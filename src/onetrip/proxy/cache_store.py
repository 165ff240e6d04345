"""Stored responses of one project, bounded in bytes; which ones stay is decided by SIEVE.

SIEVE keeps objects in the order they came. A hand walks from the oldest to the newest: what was
used since it last passed is spared, the first that was not is evicted. A hit only sets a mark, a
flood of objects that are used once passes through without displacing the used ones, and there is
nothing to tune.

Source: Zhang, Yang, Yue, Vigfusson, Rashmi: SIEVE is Simpler than LRU, NSDI 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from onetrip.wire.cache_rules import Request, Stored

OVERHEAD = 1024
"""Bytes counted for an object beside its fields and body."""

MAX_VARIANTS = 16
"""Responses kept per key; the oldest goes. Clients choose the values that a response varies on."""


class Key(NamedTuple):
    """What a response is stored under: all that an application is told of where a request goes.

    Attributes:
        told: what a trusted proxy told of the client's own URL (`X-Forwarded-Host` and the like).
    """

    scheme: bytes
    authority: bytes
    target: bytes
    told: bytes = b""


class Node:
    """One stored response in the queue.

    Attributes:
        is_refreshing: somebody is asking for a newer one.
    """

    __slots__ = ("_newer", "_older", "_was_used", "is_refreshing", "key", "size", "stored")

    def __init__(self, key: Key, stored: Stored) -> None:
        self.key = key
        self.stored = stored
        self.size = size_of(key, stored)
        self.is_refreshing = False
        self._was_used = False
        self._newer: Node | None = None
        self._older: Node | None = None


class CacheStore:
    """The responses of one project.

    Args:
        max_size: bytes of all objects.
        on_evicted: called for each object that had to go for another.
    """

    def __init__(self, max_size: int, on_evicted: Callable[[], None]) -> None:
        self.max_size = max_size
        self.size = 0
        self.count = 0
        self._on_evicted = on_evicted
        self._variants: dict[Key, list[Node]] = {}
        self._places: dict[tuple[bytes, bytes], set[Key]] = {}
        self._newest: Node | None = None
        self._oldest: Node | None = None
        self._hand: Node | None = None

    def find(self, key: Key, request: Request) -> Node | None:
        """Return the newest response that fits a request, fresh or not."""
        for node in reversed(self._variants.get(key, ())):
            if node.stored.fits(request):
                node._was_used = True
                return node
        return None

    def has(self, key: Key) -> bool:
        """Tell whether anything is stored under a key, for whatever request."""
        return key in self._variants

    def holds(self, node: Node) -> bool:
        """Tell whether a response is still stored."""
        return node in self._variants.get(node.key, ())

    def put(self, key: Key, stored: Stored) -> bool:
        """Store a response in place of those that were chosen by the same values.

        Returns:
            False when it is too large for the whole store.
        """
        node = Node(key, stored)
        for old in list(self._variants.get(key, ())):
            if old.stored.vary == stored.vary:
                self.remove(old)
        if node.size > self.max_size:
            return False
        while self.size + node.size > self.max_size:
            self._evict()
        variants = self._variants.setdefault(key, [])
        if len(variants) >= MAX_VARIANTS:
            self.remove(variants[0])
            variants = self._variants.setdefault(key, [])
        self._places.setdefault((key.authority, key.target), set()).add(key)
        variants.append(node)
        self._push(node)
        return True

    def remove(self, node: Node) -> None:
        """Forget one response; again does nothing."""
        variants = self._variants.get(node.key, [])
        if node not in variants:
            return
        variants.remove(node)
        if not variants:
            del self._variants[node.key]
            place = (node.key.authority, node.key.target)
            self._places[place].discard(node.key)
            if not self._places[place]:
                del self._places[place]
        self._unlink(node)

    def remove_key(self, key: Key) -> int:
        """Forget every response under a key; return how many there were."""
        nodes = list(self._variants.get(key, ()))
        for node in nodes:
            self.remove(node)
        return len(nodes)

    def remove_place(self, authority: bytes, target: bytes) -> int:
        """Forget every response of one place, whatever its scheme; return how many."""
        keys = list(self._places.get((authority, target), ()))
        return sum(self.remove_key(key) for key in keys)

    def remove_where(self, is_meant: Callable[[Key], bool]) -> int:
        """Forget every response whose key is meant; return how many there were."""
        return sum(self.remove_key(key) for key in list(self._variants) if is_meant(key))

    def shrink(self, max_size: int) -> None:
        """Use another bound from now on."""
        self.max_size = max_size
        while self.size > max_size:
            self._evict()

    def __iter__(self) -> Iterator[Node]:
        node = self._oldest
        while node is not None:
            yield node
            node = node._newer

    def _evict(self) -> None:
        node = self._hand or self._oldest
        assert node is not None
        while node._was_used:
            node._was_used = False
            node = node._newer or self._oldest
            assert node is not None
        self._hand = node  # `remove` moves it on
        self.remove(node)
        self._on_evicted()

    def _push(self, node: Node) -> None:
        node._older = self._newest
        if self._newest is not None:
            self._newest._newer = node
        else:
            self._oldest = node
        self._newest = node
        self.size += node.size
        self.count += 1

    def _unlink(self, node: Node) -> None:
        newer, older = node._newer, node._older
        if self._hand is node:
            self._hand = newer
        if newer is not None:
            newer._older = older
        else:
            self._newest = older
        if older is not None:
            older._newer = newer
        else:
            self._oldest = newer
        node._newer = node._older = None
        self.size -= node.size
        self.count -= 1


def size_of(key: Key, stored: Stored) -> int:
    """Return the bytes that a stored response is counted as."""
    fields = sum(len(name) + len(value) + 64 for name, value in stored.fields)
    return OVERHEAD + sum(map(len, key)) + fields + len(stored.body)
