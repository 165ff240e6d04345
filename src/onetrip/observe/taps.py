"""Taps: what gets the node's events besides standard error, before anybody's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class LogTap(Protocol):
    """Takes events as they are logged, from any thread.

    Attributes:
        takes_access: whether it wants access lines, too.
    """

    takes_access: bool

    def take(self, record: Mapping[str, Any], cause: BaseException | None) -> None:
        """Take one event, with the exception it is about if there is one; never blocks.

        Args:
            record: `ts`, `level`, `event` and the event's fields.
        """

    def take_lines(self, lines: Sequence[bytes]) -> None:
        """Take access lines as they are written, JSON objects; never blocks."""

    def close(self) -> None:
        """Send what is left within a bounded time, and stop."""


@dataclass(frozen=True, slots=True)
class SentrySettings:
    """Where errors are reported.

    Attributes:
        dsn: address with its key; never logged.
        environment: what Sentry calls the kind of installation, or "".
        level: least level of an event that is reported, `warning` or `error`.
    """

    dsn: str
    environment: str = ""
    level: str = "error"

    def __repr__(self) -> str:
        return f"SentrySettings(environment={self.environment!r}, level={self.level!r})"
