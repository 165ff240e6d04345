"""Tells about refused peers once in a while, not once per attempt: a wrong one tries for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onetrip.observe.logs import Log
from onetrip.timing import Clock

QUIET = 60.0
"""Least time between two events about one address and reason, s."""

MAX_REMEMBERED = 1000
"""Addresses and reasons remembered; a flood from many addresses then tells some of them twice."""


class RefusalLog:
    """Makes events of refused connections between nodes.

    Args:
        tell: makes an event, of an address, a reason and a detail.
    """

    def __init__(self, clock: Clock, tell: Callable[[str, str, str], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._told_at: dict[tuple[str, str], float] = {}

    def note(self, address: str, reason: str, detail: str) -> None:
        """Tell about a refusal, unless the same was told a short time ago."""
        now = self._clock.now()
        key = (address, reason)
        told_at = self._told_at.get(key)
        if told_at is not None and now - told_at < QUIET:
            return
        if len(self._told_at) >= MAX_REMEMBERED:
            self._told_at.clear()
        self._told_at[key] = now
        self._tell(address, reason, detail)


def unraisable_hook(log: Log, clock: Clock) -> Callable[[Any], None]:
    """Return a `sys.unraisablehook` that writes log lines, and not many.

    CPython prints what it cannot raise, among it a TLS server name that is no ASCII: without this
    any client could fill standard error with tracebacks.
    """

    def tell(where: str, error: str, detail: str) -> None:
        log.warning("app.unraisable", error=error, at=where)

    told = RefusalLog(clock, tell)

    def hook(unraisable: Any) -> None:
        told.note(type(unraisable.object).__name__, unraisable.exc_type.__name__, "")

    return hook
