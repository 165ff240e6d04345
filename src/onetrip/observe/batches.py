"""Batches sent by a thread of its own: bounded, counted, and never in anybody's way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

BATCH = 512
"""Items an export; as many as OpenTelemetry's own default."""

EXPORT_INTERVAL = 1.0
"""Longest time an item waits for others, s."""


class Batches(Generic[T]):
    """Queues items and sends them in batches.

    Args:
        name: of the thread.
        export: sends a batch on that thread, and tells whether it arrived.
        outcomes: counter with a label `exported`, `failed` or `dropped`.
        limit: most items kept; further ones are dropped.
        timeout: longest time of one export, s.
    """

    def __init__(
        self,
        name: str,
        export: Callable[[list[T]], bool],
        outcomes: Any,
        limit: int,
        timeout: float,
    ) -> None:
        self._export = export
        self._exported = outcomes.labels("exported")
        self._failed = outcomes.labels("failed")
        self._dropped = outcomes.labels("dropped")
        self._limit = limit
        self._timeout = timeout
        self._items: deque[T] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Queue one item, or count it as dropped; never blocks."""
        if len(self._items) >= self._limit:
            self._dropped.inc()
            return
        self._items.append(item)
        if len(self._items) >= BATCH and not self._wake.is_set():
            self._wake.set()

    def extend(self, items: Iterable[T]) -> None:
        """Queue several items."""
        for item in items:
            self.put(item)

    def close(self) -> None:
        """Send what is left, for twice an export's time at most, and stop."""
        self._closing.set()
        self._wake.set()
        self._thread.join(2 * self._timeout)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(EXPORT_INTERVAL)
            self._wake.clear()
            while self._items:
                if not self._send() and self._closing.is_set():
                    return  # a collector that is away must not keep the node

    def _send(self) -> bool:
        batch = [self._items.popleft() for _ in range(min(BATCH, len(self._items)))]
        is_done = self._export(batch)
        (self._exported if is_done else self._failed).inc(len(batch))
        return is_done
