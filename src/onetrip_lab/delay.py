"""What a long path does to bytes: holds each chunk for the one-way delay and keeps their order.

Pure: no socket and no clock; the relay is the shell around it.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from random import Random

from onetrip_lab.topology import RttMatrix

QUEUE_LIMIT = 4 << 20
"""Bytes in flight per direction. A path of 250 ms at 100 Mbit/s holds 3.1 MB (its bandwidth-delay
product, RFC 7323 section 1.1), so the queue is a path and not a bottleneck."""


class Mark(Enum):
    """A change of a connection that travels in line with its bytes."""

    EOF = "eof"
    """The sender will send no more (FIN)."""
    ABORT = "abort"
    """The connection was reset (RST)."""


class DelayQueue:
    """One direction of a path: chunks in the order they were sent, each with its due time.

    Args:
        limit: bytes held before the sender should pause.
    """

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._limit = limit
        self._items: deque[tuple[float, bytes | Mark]] = deque()
        self._last_due = float("-inf")
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def is_full(self) -> bool:
        """The sender should pause."""
        return self._size >= self._limit

    @property
    def has_room(self) -> bool:
        """A paused sender may go on; half the limit, so that it does not flap."""
        return self._size <= self._limit // 2

    @property
    def next_due(self) -> float | None:
        """When the head is due, or None when nothing is held."""
        return self._items[0][0] if self._items else None

    def push(self, item: bytes | Mark, due: float) -> None:
        """Hold `item` until `due`, but never let it overtake an earlier one.

        TCP delivers in order: after a shorter delay took effect, late bytes still wait for the
        ones before them.
        """
        self._last_due = max(due, self._last_due)
        self._items.append((self._last_due, item))
        if not isinstance(item, Mark):
            self._size += len(item)

    def pop(self, now: float) -> bytes | Mark | None:
        """Return the head if it is due, else None."""
        if not self._items or self._items[0][0] > now:
            return None
        item = self._items.popleft()[1]
        if not isinstance(item, Mark):
            self._size -= len(item)
        return item

    def clear(self) -> None:
        """Forget everything held."""
        self._items.clear()
        self._size = 0


class Links:
    """The state of every path, changeable while traffic flows.

    Args:
        jitter: largest extra one-way delay, s; each chunk draws from 0 to it.
        rng: the only source of chance.
    """

    def __init__(self, matrix: RttMatrix, jitter: float = 0.0, rng: Random | None = None) -> None:
        self._rtts = {
            frozenset((a, b)): matrix.rtt(a, b) for a in matrix.regions for b in matrix.regions
        }
        self._cut: set[frozenset[str]] = set()
        self._jitter = jitter
        self._rng = rng or Random(0)

    def rtt(self, a: str, b: str) -> float:
        """Return the RTT now in force, s, without jitter."""
        return self._rtts[frozenset((a, b))]

    def one_way(self, a: str, b: str) -> float:
        """Return the delay of one chunk from `a` to `b`, s."""
        extra = self._jitter * self._rng.random() if self._jitter else 0.0
        return self._rtts[frozenset((a, b))] / 2 + extra

    def is_cut(self, a: str, b: str) -> bool:
        """Tell whether nothing passes between two regions."""
        return frozenset((a, b)) in self._cut

    def set_rtt(self, a: str, b: str, rtt: float) -> None:
        """Change the RTT of a path, s; bytes already under way keep their delay.

        Raises:
            KeyError: no such regions.
            ValueError: the RTT is negative.
        """
        pair = frozenset((a, b))
        if pair not in self._rtts:
            raise KeyError(f"no path {a} to {b}")
        if not rtt >= 0:
            raise ValueError(f"RTT {rtt} s is below 0")
        self._rtts[pair] = rtt

    def cut(self, a: str, b: str) -> None:
        """Let nothing pass between two regions until `heal`."""
        self._cut.add(frozenset((a, b)))

    def heal(self, a: str, b: str) -> None:
        """Undo `cut`."""
        self._cut.discard(frozenset((a, b)))
