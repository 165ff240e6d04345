"""What a client of a routed session sent until it waits, and what is passed on to it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from onetrip.relay.client_link import QUEUE_LIMIT, ClientLink
from onetrip.wire.postgres_messages import Message
from onetrip.wire.sql_intent import EMPTY, Intent

HOLD_LIMIT = 16 * 1024
"""Bytes of a replica's first answer that are held back: two of the server's own buffers."""

QUERY, SYNC, FLUSH, CALL, END = (ord(kind) for kind in "QSHFX")
ENDS = frozenset((QUERY, SYNC, FLUSH, CALL, END))
COPY = frozenset(b"dcf")


@dataclass(slots=True)
class Batch:
    """What a client sent until it waits.

    Attributes:
        ends: ReadyForQuery follows.
    """

    messages: list[Message] = field(default_factory=list)
    ends: bool = False
    intent: Intent = EMPTY

    @property
    def last(self) -> int:
        """Kind of the last message."""
        return self.messages[-1].kind


def next_batch(client: ClientLink, *, is_copying: bool) -> Batch | None:
    """Take the next batch from a client's queue, once all of it is there.

    One that would not fit in the queue is taken in parts, like one with a Flush; so is COPY data.
    """
    queue: deque[Message] = client.queue
    is_whole = is_copying or client.queued >= QUEUE_LIMIT
    if not queue or not (is_whole or any(each.kind in ENDS or each.kind in COPY for each in queue)):
        return None
    found: list[Message] = []
    while queue:
        found.append(client.take())
        if found[-1].kind in ENDS:
            break
    return Batch(found, ends=found[-1].kind in (QUERY, SYNC, CALL))


class Outlet:
    """Passes answers on to a client, or holds them back while they may still be taken back."""

    def __init__(self, client: ClientLink) -> None:
        self._client = client
        self._out: list[bytes] = []
        self._held: list[bytes] | None = None
        self._held_size = 0

    @property
    def is_held(self) -> bool:
        """Tell whether nothing was passed on yet."""
        return self._held is not None

    def hold(self) -> None:
        """Hold back what comes from now on, up to `HOLD_LIMIT`."""
        self._held, self._held_size = [], 0

    def discard(self) -> None:
        """Forget what is held."""
        self._held = None

    def release(self) -> None:
        """Pass on what is held, and what comes from now on."""
        if self._held is not None:
            self._out += self._held
            self._held = None

    def write(self, data: bytes) -> None:
        """Pass on at the next `flush`, unless it is held back."""
        if self._held is None:
            self._out.append(data)
            return
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > HOLD_LIMIT:
            self.release()

    def flush(self) -> None:
        """Send what is passed on."""
        if self._out:
            self._client.write(b"".join(self._out))
            self._out.clear()
