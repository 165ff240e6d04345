"""Who accepts next, among processes that share a listening socket.

The kernel wakes all of them, and whoever runs first could take a whole burst: its connections stay
with it, and the others have nothing to do for as long as they last. So each process posts how many
connections it has, in memory that all of them share, and one that is ahead of another lets the next
connection be for a moment. Nobody waits for anybody: after that moment it takes what is still
there, because the other may be busy, or hang.
"""

from __future__ import annotations

import mmap
import os

SLOT_SIZE = 8
ABSENT = -1
"""Posted for a process that does not accept."""

SLACK = 8
"""A process may be ahead by one connection, and by one more for each so many that it has."""

_AT_NO_ONE = 1 << 60


class Board:
    """Numbers of connections, one for each process.

    Args:
        descriptor: of the memory, from `make_memory`; it is not needed any more afterwards.
        size: number of processes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._slots = memoryview(mmap.mmap(descriptor, size * SLOT_SIZE)).cast("q")

    def post(self, index: int, count: int) -> None:
        """Tell how many connections a process has, or `ABSENT`."""
        self._slots[index] = count

    def is_ahead(self, index: int) -> bool:
        """Tell whether another process should take the next connection."""
        slots = self._slots
        own = slots[index]
        least = min((count for count in slots if count >= 0), default=_AT_NO_ONE)
        return own - least > 1 + own // SLACK


def make_memory(size: int) -> int:
    """Return a descriptor of memory for the board of so many processes, none of which accepts."""
    descriptor = os.memfd_create("onetrip-board")
    os.write(descriptor, ABSENT.to_bytes(SLOT_SIZE, "little", signed=True) * size)
    return descriptor
