"""Webhooks: who is told about which events, and how that went."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Webhook:
    """One receiver of events.

    Attributes:
        name: unique at a node.
        url: where events are posted; its path may be a secret, so it is not shown.
        events: patterns of event names; `*` stands for any text.
        keys: to sign with, the newest first; each makes a signature, so that a receiver can change
            over from one to the next.
    """

    name: str
    url: str
    events: tuple[str, ...]
    keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Webhook(name={self.name!r}, url={self.origin!r}, events={self.events!r})"

    @property
    def origin(self) -> str:
        """The URL without its path, fit for people to see."""
        found = re.match(r"https?://[^/?#]+", self.url)
        return found[0] if found is not None else ""

    def wants(self, event: str) -> bool:
        """Tell whether the receiver is told about an event of this name."""
        return any(_matches(pattern, event) for pattern in self.events)


class WebhookState(Enum):
    """How a receiver is."""

    OK = "ok"
    FAILING = "failing"
    """The last attempt failed; it is tried again."""
    DISABLED = "disabled"
    """It failed for days, or said that it is gone: it is told nothing until a test succeeds."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver a message.

    Attributes:
        id: of the message, the same in each attempt.
        at: Unix time, s.
        attempt: 1 for the first.
        status: of the answer, or 0 without one.
        error: why it failed, "" if it did not.
        duration: s.
    """

    id: str
    event: str
    at: float
    attempt: int
    status: int
    error: str
    duration: float

    @property
    def is_delivered(self) -> bool:
        """Tell whether the receiver took it."""
        return not self.error


@dataclass(frozen=True, slots=True)
class WebhookStatus:
    """A receiver and its queue. Instants are Unix time, s; None where there is none.

    Attributes:
        url: its origin only.
        pending: messages that wait.
        failing_since: of the first failure since the last success.
        next_at: of the next attempt.
        last: the latest attempt.
    """

    name: str
    url: str
    events: tuple[str, ...]
    state: WebhookState
    pending: int
    failing_since: float | None = None
    next_at: float | None = None
    last: Delivery | None = None


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
