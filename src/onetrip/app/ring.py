"""The newest events of a node, in memory, and word of each new one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from onetrip.model.status import Event
from onetrip.timing import Clock

MAX_EVENTS = 1000
"""Events kept in memory; the store keeps more."""


class EventRing:
    """The newest events.

    An event's id is its Unix time in ms, or one more than the last one's: so ids grow over restarts
    without being kept.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._last = 0
        self.news = asyncio.Event()
        """Set by the next event; each wait takes the one of its moment."""
        self.listeners: list[Callable[[Event], None]] = []
        """Called with each new event; must be quick."""

    def add(self, name: str, subject: str, detail: str) -> Event:
        """Record an event of this moment."""
        at = self._clock.wall()
        self._last = max(self._last + 1, int(at * 1000))
        event = Event(at, name, subject, detail, self._last)
        self._events.append(event)
        self.news.set()
        self.news = asyncio.Event()
        for listener in self.listeners:
            listener(event)
        return event

    def restore(self, events: list[Event]) -> None:
        """Put kept events (newest first) before what happened since the start."""
        below = self._events[0].id if self._events else int(self._clock.wall() * 1000)
        for event in events[: MAX_EVENTS - len(self._events)]:
            below = min(below - 1, int(event.at * 1000))
            self._events.appendleft(replace(event, id=below))
        self._last = max(self._last, self._events[-1].id if self._events else 0)

    def newest(self, limit: int) -> list[Event]:
        """Return at most `limit` events, newest first."""
        return list(reversed(self._events))[:limit]

    def after(self, id: int) -> tuple[bool, list[Event]]:
        """Return the events after an id, oldest first, and whether some of them may be gone."""
        if not self._events or self._events[-1].id <= id:
            return False, []
        found = [event for event in self._events if event.id > id]
        return 0 < id < self._events[0].id, found
