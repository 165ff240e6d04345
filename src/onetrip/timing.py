"""Time comes in through the constructor; this module is the only reader of the real clock.

`Clock.now` is monotonic (s, arbitrary zero) and is what durations and deadlines are made of.
`Clock.wall` is Unix time (s) and serves only people, files and other machines.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """A source of time; tests pass a virtual one."""

    def now(self) -> float:
        """Return monotonic time, s."""

    def wall(self) -> float:
        """Return Unix time, s."""

    async def sleep(self, duration: float) -> None:
        """Wait for `duration`, s; 0 yields once."""


class MonotonicClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return monotonic time, s."""
        return time.monotonic()

    def wall(self) -> float:
        """Return Unix time, s."""
        return time.time()

    async def sleep(self, duration: float) -> None:
        """Wait for `duration`, s."""
        await asyncio.sleep(duration)


@dataclass(frozen=True, slots=True)
class Deadline:
    """An absolute clock value passed down a call chain; a timeout becomes one at the edge."""

    at: float

    @classmethod
    def after(cls, timeout: float, clock: Clock) -> Deadline:
        """Return the deadline `timeout` s from now."""
        return cls(clock.now() + timeout)

    def remaining(self, clock: Clock) -> float:
        """Return the time left, s; never negative."""
        return max(0.0, self.at - clock.now())


def pause(duration: float) -> None:
    """Block this thread for `duration`, s; for commands, never in an event loop."""
    time.sleep(duration)
