"""The common part of the database greetings: one short reply, whole or in pieces.

A probe asks at most one question and reads one reply, then it is done with the bytes. So each
protocol is a small machine that never holds more than its limit, gives at most one event, and
refuses what cannot become a reply at the first byte that proves it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from onetrip.errors import Kind, LimitError

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class ServerRefused:
    """The server answered with an error: a round trip all the same.

    Attributes:
        code: the protocol's own code, such as `1129` or `NOAUTH`; "" when it gave none.
    """

    code: str


class ReplyReader(ABC, Generic[E]):
    """Reads one reply: `receive_data`, then `next_events`; `data_to_send` asks the question."""

    question: bytes = b""
    """What the client sends first; empty when the server speaks first."""

    limit: int = 2048
    """Most bytes a reply may take before it is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._events: list[E] = []
        self._is_done = False
        self._is_clean = True

    @property
    def is_done(self) -> bool:
        """Tell whether the reply is complete."""
        return self._is_done

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing came after the reply, so that the connection can be kept."""
        return self._is_clean

    def data_to_send(self) -> bytes:
        """Return the bytes of the question."""
        return self.question

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the server; those after the reply are dropped.

        Raises:
            ProtocolError: the bytes cannot be, or become, a reply of this protocol.
            LimitError: a reply longer than `limit`.
        """
        if self._is_done:
            self._is_clean = self._is_clean and not data
            return
        self._buffer += data
        if not self._buffer:
            return
        parsed = self._parse(bytes(self._buffer[: self.limit]))
        if parsed is not None:
            event, size = parsed
            self._is_done = True
            self._is_clean = len(self._buffer) == size
            self._events.append(event)
            self._buffer.clear()
        elif len(self._buffer) >= self.limit:
            raise LimitError(
                f"{self._name()} reply of {len(self._buffer)} bytes exceeds limit of {self.limit}",
                kind=Kind.MALFORMED,
            )

    def next_events(self) -> list[E]:
        """Return the events not handed out yet."""
        events, self._events = self._events, []
        return events

    @abstractmethod
    def _parse(self, data: bytes) -> tuple[E, int] | None:
        """Return the event and the bytes it took, or None while the reply is incomplete."""

    @abstractmethod
    def _name(self) -> str:
        """Return the protocol's name for messages."""
