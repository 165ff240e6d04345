"""What one receiver is still to be told, and when the next attempt is due. Pure.

Two waits are kept apart. A message that failed waits longer each time. A receiver that failed is
left alone for a while, whatever waits for it: many messages must not mean many attempts at a
receiver that is down. Once it answers again, the messages that found it down are due at once; one
that it refused itself keeps its own wait, so it cannot hold up the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from random import Random

MAX_PENDING = 1000
"""Messages kept for a receiver (about 0.5 MB); further ones are dropped."""

WAITS = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 18000.0, 36000.0)
"""Seconds after the first, second, … failure of a message; the last one repeats."""

MAX_PAUSE = 600.0
"""Longest wait between two attempts at a receiver that is down, s."""

JITTER = 0.2
"""Each wait is spread by this ratio, so that nodes do not come all at once."""

MAX_AGE = 3 * 86400.0
"""Seconds after which a message is given up: older news would surprise more than it tells."""

DISABLE_AFTER = 5 * 86400.0
"""Seconds of failures alone after which a receiver is told nothing more."""

MAX_RETRY_AFTER = 3600.0
"""Longest wait that a receiver can ask for, s."""


@dataclass(slots=True)
class Message:
    """One event for one receiver. Instants are Unix time, s.

    Attributes:
        event: its name.
        due_at: of the next attempt.
        is_refused: the receiver answered the last attempt, and that it will not take it.
    """

    id: str
    event: str
    body: bytes
    created_at: float
    attempts: int = 0
    due_at: float = 0.0
    is_refused: bool = False


class Fate(Enum):
    """What becomes of a message whose attempt failed."""

    WAITS = "waits"
    EXPIRED = "expired"
    DISABLED = "disabled"
    """The receiver is told nothing more."""


@dataclass(slots=True)
class Outbox:
    """The messages of one receiver. Instants are Unix time, s.

    Attributes:
        pending: by id, oldest first.
        failures: attempts that failed since the last success.
        failing_since: of the first of them.
        paused_until: no attempt before.
        is_disabled: nothing is taken.
    """

    rng: Random
    pending: dict[str, Message] = field(default_factory=dict)
    failures: int = 0
    failing_since: float | None = None
    paused_until: float = 0.0
    is_disabled: bool = False

    def add(self, message: Message) -> bool:
        """Take a message; False if there is no room, or the receiver is disabled."""
        if self.is_disabled or len(self.pending) >= MAX_PENDING:
            return False
        self.pending[message.id] = message
        return True

    def due(self, now: float) -> Message | None:
        """Return the message to try now, or None."""
        if self.is_disabled or now < self.paused_until:
            return None
        found = min(self.pending.values(), key=lambda each: each.due_at, default=None)
        return found if found is not None and found.due_at <= now else None

    def next_at(self) -> float | None:
        """Return when the next attempt is due; None if nothing waits."""
        if self.is_disabled or not self.pending:
            return None
        return max(self.paused_until, min(each.due_at for each in self.pending.values()))

    def succeeded(self, message: Message, now: float) -> None:
        """Note that the receiver took a message, also one that is not among the pending."""
        self.pending.pop(message.id, None)
        self.is_disabled = False
        if self.failing_since is not None:
            for other in self.pending.values():
                if not other.is_refused:
                    other.due_at = min(other.due_at, now)
        self.failures, self.failing_since, self.paused_until = 0, None, 0.0

    def failed(
        self,
        message: Message,
        now: float,
        *,
        is_refused: bool = False,
        is_gone: bool = False,
        retry_after: float | None = None,
    ) -> Fate:
        """Note that an attempt failed.

        Args:
            is_refused: the receiver itself answered that it will not take it.
            is_gone: it answered that it will never take anything again (410).
            retry_after: how long it wants to be left alone, s.
        """
        self.failures += 1
        self.failing_since = now if self.failing_since is None else self.failing_since
        if is_gone or now - self.failing_since >= DISABLE_AFTER:
            self.is_disabled = True
            self.pending.clear()
            return Fate.DISABLED
        asked = min(retry_after or 0.0, MAX_RETRY_AFTER)
        self.paused_until = now + max(asked, min(MAX_PAUSE, self._wait(self.failures)))
        message.attempts += 1
        message.is_refused = is_refused
        if now - message.created_at >= MAX_AGE:
            self.pending.pop(message.id, None)
            return Fate.EXPIRED
        message.due_at = now + max(asked, self._wait(message.attempts))
        return Fate.WAITS

    def _wait(self, failures: int) -> float:
        base = WAITS[min(failures, len(WAITS)) - 1]
        return base * (1 + JITTER * (2 * self.rng.random() - 1))
