"""Structured logs: one JSON object a line on stderr, an event name and its keys.

A terminal gets plain text instead, for the person who looks at it.

Event names are past tense and dotted by package (`place.moved`). Levels: debug = per request,
info = state changed, warning = degraded, error = a person is needed. The access log has its own
writer, because a request must never wait for a disk.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

import msgspec

from onetrip.observe.taps import LogTap

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

MAX_PENDING_LINES = 10_000
"""Access lines kept while the sink is slow (about 4 MB); further ones are counted and dropped."""


class Log:
    """An immutable logger bound to key/values.

    Args:
        stream: text stream lines go to.
        level: least level written.
        wall: Unix time source, s.

    Attributes:
        taps: get each event as well; shared with every logger bound from this one.
    """

    __slots__ = ("_bound", "_encoder", "_is_terminal", "_least", "_stream", "_wall", "taps")

    def __init__(self, stream: IO[str] | None, level: str, wall: Any, **bound: Any) -> None:
        self.taps: list[LogTap] = []
        self._stream = stream
        self._is_terminal = is_terminal(stream)
        self._least = LEVELS[level]
        self._wall = wall
        self._bound = bound
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def bind(self, **more: Any) -> Log:
        """Return a logger that also writes `more` on each line."""
        clone = Log.__new__(Log)
        clone._stream, clone._least, clone._wall = self._stream, self._least, self._wall
        clone._bound, clone._encoder = self._bound | more, self._encoder
        clone._is_terminal, clone.taps = self._is_terminal, self.taps
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

    def error(self, event: str, *, cause: BaseException | None = None, **fields: Any) -> None:
        """Log something a person must look at.

        Args:
            cause: the exception behind it, for taps that report its stack.
        """
        self._write("error", event, fields, cause)

    def _write(
        self, level: str, event: str, fields: dict[str, Any], cause: BaseException | None = None
    ) -> None:
        if LEVELS[level] < self._least or (self._stream is None and not self.taps):
            return
        line = {"ts": round(self._wall(), 3), "level": level, "event": event}
        record = line | self._bound | fields
        for tap in self.taps:
            tap.take(record, cause)
        if self._stream is None:
            return
        if self._is_terminal:
            text = plain_line(record)
        else:
            text = self._encoder.encode(record).decode()
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # A full disk or a closed pipe must not take the node down with it.
            return


def is_terminal(stream: Any) -> bool:
    """Tell whether a person looks at what is written to a stream."""
    try:
        return bool(stream is not None and stream.isatty())
    except (OSError, ValueError, AttributeError):
        return False


def plain_line(record: Mapping[str, Any]) -> str:
    """Return a record as a person reads it: time of day (UTC), level, event, `key=value`."""
    seconds = record["ts"] % 86400
    clock = f"{seconds // 3600:02.0f}:{seconds // 60 % 60:02.0f}:{seconds % 60:06.3f}"
    fields = " ".join(
        f"{key}={_plain(value)}"
        for key, value in record.items()
        if key not in ("ts", "level", "event") and value not in (None, "")
    )
    return f"{clock} {record.get('level', 'info'):<7} {record['event']} {fields}".rstrip()


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    # Nothing that a client sent may move the cursor of a terminal.
    is_bare = text.isprintable() and not any(c in text for c in ' "=')
    return text if is_bare else msgspec.json.encode(_printable(text)).decode()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


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
        sink: unbuffered, or what could not be written would be tried again and again; None for
            one whose lines only go to taps.
        taps: get the lines as well, on the thread that writes them.
        log: told when the sink starts to fail, and when it works again.

    Attributes:
        dropped: lines lost because the sink was too slow or failed.
    """

    def __init__(
        self,
        sink: IO[bytes] | None,
        log: Log | None = None,
        limit: int = MAX_PENDING_LINES,
        taps: Sequence[LogTap] = (),
    ) -> None:
        self.dropped = 0
        self._sink = sink
        self._taps = taps
        self._is_terminal = is_terminal(sink)
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
        for tap in self._taps:
            tap.take_lines(batch)
        if self._sink is not None:
            self._write_out(batch, self._sink)

    def _write_out(self, batch: list[bytes], sink: IO[bytes]) -> None:
        if self._is_terminal:
            batch = [plain_line(msgspec.json.decode(line)).encode() for line in batch]
        # After a failure a line may end in the middle: what follows starts a new one.
        data = memoryview((b"\n" if self._is_failing else b"") + b"\n".join(batch) + b"\n")
        try:
            while data:
                written = sink.write(data)
                if written is None:  # a pipe that does not wait, and is full
                    raise BlockingIOError("sink takes nothing now")
                data = data[written:]
            sink.flush()
        except (OSError, ValueError) as error:
            self.dropped += len(batch)
            if not self._is_failing:
                self._is_failing = True
                self._log.error("app.access_log_failed", reason=str(error))
            return
        if self._is_failing:
            self._is_failing = False
            self._log.info("app.access_log_recovered", dropped=self.dropped)


def open_access_log(sink: IO[bytes] | None, log: Log) -> AccessLog | None:
    """Return the log of access lines, or None when nobody wants them."""
    taps = [tap for tap in log.taps if tap.takes_access]
    return AccessLog(sink, log, taps=taps) if sink is not None or taps else None
