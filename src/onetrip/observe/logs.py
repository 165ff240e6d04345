"""Structured logs: one JSON object a line on stderr, an event name and its keys.

Event names are past tense and dotted by package (`place.moved`). Levels: debug = per request,
info = state changed, warning = degraded, error = a person is needed. The access log has its own
writer, because a request must never wait for a disk.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO, Any, Protocol

import msgspec

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

MAX_PENDING_LINES = 10_000
"""Access lines kept while the sink is slow (about 4 MB); further ones are counted and dropped."""


class Log:
    """An immutable logger bound to key/values.

    Args:
        stream: text stream lines go to.
        level: least level written.
        wall: Unix time source, s.
    """

    __slots__ = ("_bound", "_encoder", "_least", "_stream", "_wall")

    def __init__(self, stream: IO[str] | None, level: str, wall: Any, **bound: Any) -> None:
        self._stream = stream
        self._least = LEVELS[level]
        self._wall = wall
        self._bound = bound
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def bind(self, **more: Any) -> Log:
        """Return a logger that also writes `more` on each line."""
        clone = Log.__new__(Log)
        clone._stream, clone._least, clone._wall = self._stream, self._least, self._wall
        clone._bound, clone._encoder = self._bound | more, self._encoder
        return clone

    def debug(self, event: str, **fields: Any) -> None:
        """Log a per-request detail."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log a change of state."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log a degradation."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log something a person must look at."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] < self._least or self._stream is None:
            return
        line = {"ts": round(self._wall(), 3), "level": level, "event": event}
        text = self._encoder.encode(line | self._bound | fields).decode()
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk or a closed pipe must not take the node down with it.
            return


def stderr_log(level: str, wall: Any, **bound: Any) -> Log:
    """Return a logger that writes to standard error."""
    return Log(sys.stderr, level, wall, **bound)


def silent_log() -> Log:
    """Return a logger that writes nothing, for tests and tools."""
    return Log(None, "error", lambda: 0.0)


class AccessSink(Protocol):
    """Takes the records of finished exchanges.

    Attributes:
        dropped: lines lost because they could not be taken.
    """

    dropped: int

    def write(self, record: dict[str, Any]) -> None:
        """Take one record; never blocks."""


class AccessLog:
    """Writes access lines on a thread of its own; bounded, so a stuck sink drops lines.

    Args:
        sink: unbuffered, or what could not be written would be tried again and again.
        log: told when the sink starts to fail, and when it works again.

    Attributes:
        dropped: lines lost because the sink was too slow or failed.
    """

    def __init__(
        self, sink: IO[bytes], log: Log | None = None, limit: int = MAX_PENDING_LINES
    ) -> None:
        self.dropped = 0
        self._sink = sink
        self._log = log or silent_log()
        self._is_failing = False
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._encoder = msgspec.json.Encoder()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, record: dict[str, Any]) -> None:
        """Queue one line; never blocks."""
        if len(self._lines) >= self._limit:
            self.dropped += 1
            return
        self._lines.append(self._encoder.encode(record))
        if not self._wake.is_set():
            self._wake.set()

    def write_lines(self, lines: Sequence[bytes]) -> None:
        """Queue lines that are encoded already; never blocks."""
        room = max(0, self._limit - len(self._lines))
        self.dropped += max(0, len(lines) - room)
        self._lines.extend(lines[:room])
        self._wake.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued and stop, waiting at most `timeout` s."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not (self._closing and not self._lines):
            self._wake.wait(1.0)
            self._wake.clear()
            self._flush()

    def _flush(self) -> None:
        batch: list[bytes] = []
        while self._lines:
            batch.append(self._lines.popleft())
        if not batch:
            return
        # After a failure a line may end in the middle: what follows starts a new one.
        data = memoryview((b"\n" if self._is_failing else b"") + b"\n".join(batch) + b"\n")
        try:
            while data:
                written = self._sink.write(data)
                if written is None:  # a pipe that does not wait, and is full
                    raise BlockingIOError("sink takes nothing now")
                data = data[written:]
            self._sink.flush()
        except (OSError, ValueError) as error:
            self.dropped += len(batch)
            if not self._is_failing:
                self._is_failing = True
                self._log.error("app.access_log_failed", reason=str(error))
            return
        if self._is_failing:
            self._is_failing = False
            self._log.info("app.access_log_recovered", dropped=self.dropped)
