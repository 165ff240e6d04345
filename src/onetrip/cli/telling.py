"""Tells a node in advise mode what another proxy's access log says, batch by batch."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from onetrip.cli.access_log import IDLE, lines_of, read_line
from onetrip.cli.client import Client
from onetrip.control.served import ServedBody
from onetrip.errors import ApiError, ConfigError, Kind
from onetrip.model.access import ServedRequest
from onetrip.timing import Clock, MonotonicClock

BATCH = 500
"""Requests told at once."""

PAUSE = 1.0
"""Wait after a refusal because of too many calls, s."""


@dataclass(slots=True)
class Told:
    """What became of a log's lines.

    Attributes:
        taken: of requests that belong to an environment; unknown: that belong to none.
        unread: lines that were not understood.
        untimed: requests without a time.
    """

    taken: int = 0
    unknown: int = 0
    unread: int = 0
    untimed: int = 0
    waiting: list[dict[str, Any]] = field(default_factory=list)

    def text(self) -> str:
        """Return it in one line."""
        parts = [f"{self.taken:,} requests taken"]
        parts += [f"{self.unknown:,} of no environment"] if self.unknown else []
        parts += [f"{self.unread:,} lines not understood"] if self.unread else []
        parts += [f"{self.untimed:,} without a time"] if self.untimed else []
        return ", ".join(parts)


def tell(client: Client, log: str, host: str) -> Told:
    """Tell a node about every request of a log; `-` is standard input, as it comes.

    Raises:
        ConfigError: the log cannot be read.
        OnetripError: the node refused, or did not answer.
    """
    clock = MonotonicClock()
    if log == "-":
        return tell_lines(client, lines_of(sys.stdin.fileno()), host, clock)
    try:
        descriptor = os.open(log, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"--log: {log} cannot be read: {error.strerror}") from error
    try:
        return tell_lines(client, lines_of(descriptor), host, clock)
    finally:
        os.close(descriptor)


def tell_lines(client: Client, lines: Iterable[str | None], host: str, clock: Clock) -> Told:
    """As `tell`, of lines; None among them tells that no line came for a while."""
    told, sent_at = Told(), clock.now()
    for line in lines:
        if line is not None and not _note(told, line, host):
            continue
        is_late = clock.now() - sent_at > IDLE
        if told.waiting and (line is None or is_late or len(told.waiting) >= BATCH):
            _send(client, told, clock)
            sent_at = clock.now()
    if told.waiting:
        _send(client, told, clock)
    return told


def _note(told: Told, line: str, host: str) -> bool:
    request = read_line(line, host)
    if request is None:
        told.unread += 1
        return False
    told.untimed += request.duration is None
    told.waiting.append(_row(request))
    return True


def _send(client: Client, told: Told, clock: Clock) -> None:
    while True:
        try:
            body = client.post(("requests",), ServedBody, {"requests": told.waiting})
            break
        except ApiError as error:
            if error.kind is not Kind.RATE:
                raise
            asyncio.run(clock.sleep(PAUSE))
    told.waiting = []
    told.taken += body.taken
    told.unknown += body.unknown


def _row(request: ServedRequest) -> dict[str, Any]:
    row: dict[str, Any] = {
        "host": request.host,
        "method": request.method,
        "path": request.path,
        "status": request.status,
    }
    if request.duration is not None:
        row["duration_ms"] = min(86_400_000.0, request.duration * 1e3)
    if request.ended_at is not None:
        row["ended_at"] = request.ended_at
    return row
