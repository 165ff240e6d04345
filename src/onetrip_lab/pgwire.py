"""The server side of the PostgreSQL v3 protocol, without I/O: bytes in, bytes out.

Enough of it for real clients to query a small database: SSLRequest (refused), start-up with trust
authentication, simple queries, and the extended messages with text parameters. No transactions,
no COPY, no cancel. Errors are typed: what a client did wrong ends in an ErrorResponse with an
SQLSTATE, what breaks the framing also ends the connection.

Source: PostgreSQL documentation, chapter 55 "Frontend/Backend Protocol", sections 55.2 (message
flow) and 55.7 (formats); appendix A for the SQLSTATE codes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from onetrip_lab.pgmessages import (
    Reader,
    Result,
    SqlError,
    data_row,
    decode,
    error_response,
    message,
    row_description,
)

MAX_STARTUP = 10_000
"""Bytes of a start-up packet; PostgreSQL's own limit (MAX_STARTUP_PACKET_LENGTH)."""
MAX_MESSAGE = 1 << 20
"""Bytes of any other message; the shop's largest is under 200."""
MAX_STATEMENTS = 256
"""Prepared statements, and likewise portals, per connection."""

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST, VERSION_3 = 80877103, 80877104, 80877102, 196608


class Engine(Protocol):
    """Runs SQL."""

    def run(self, sql: str, params: Sequence[str | None]) -> Result:
        """Run one statement; `params` stand for $1, $2, …

        Raises:
            SqlError: it failed.
        """

    def describe(self, sql: str) -> tuple[str, ...] | None:
        """Return the column names the statement will return, None for no rows.

        Raises:
            SqlError: the statement is wrong.
        """


@dataclass(slots=True)
class _Portal:
    result: Result
    position: int = 0


_READY = message(b"Z", b"I")


@dataclass(slots=True)
class Session:
    """One client connection.

    Attributes:
        is_closing: the shell should close after sending what it was given.
    """

    engine: Engine
    is_closing: bool = False
    _buffer: bytearray = field(default_factory=bytearray)
    _has_started: bool = False
    _skips_to_sync: bool = False
    _statements: dict[str, str] = field(default_factory=dict)
    _portals: dict[str, _Portal] = field(default_factory=dict)

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes from the client and return the bytes to send."""
        self._buffer += data
        out = bytearray()
        while not self.is_closing and (step := self._next()) is not None:
            out += step
        return bytes(out)

    def _next(self) -> bytes | None:
        try:
            return self._next_message() if self._has_started else self._next_startup()
        except SqlError as error:
            self.is_closing = True
            return error_response(error, "FATAL")

    def _next_startup(self) -> bytes | None:
        if len(self._buffer) < 8:
            return None
        size, code = struct.unpack_from("!ii", self._buffer)
        if not 8 <= size <= MAX_STARTUP:
            raise SqlError("08P01", f"start-up packet of {size} bytes is not in 8-{MAX_STARTUP}")
        if len(self._buffer) < size:
            return None
        body = bytes(self._buffer[8:size])
        del self._buffer[:size]
        if code in (SSL_REQUEST, GSS_REQUEST):
            return b"N"
        if code == CANCEL_REQUEST:
            self.is_closing = True
            return b""
        if code != VERSION_3:
            raise SqlError("0A000", f"protocol {code >> 16}.{code & 0xFFFF} is not 3.0")
        return self._start(body)

    def _start(self, body: bytes) -> bytes:
        reader, names = Reader(body), set()
        while name := reader.text():
            names.add(name)
            reader.text()
        if "user" not in names:
            raise SqlError("28000", "no user named at start-up")
        self._has_started = True
        facts = {
            "server_version": "15.0 (onetrip lab)",
            "server_encoding": "UTF8",
            "client_encoding": "UTF8",
            "DateStyle": "ISO, MDY",
            "TimeZone": "UTC",
            "integer_datetimes": "on",
            "standard_conforming_strings": "on",
        }
        statuses = b"".join(message(b"S", f"{k}\0{v}\0".encode()) for k, v in facts.items())
        return message(b"R", bytes(4)) + statuses + message(b"K", bytes(8)) + _READY

    def _next_message(self) -> bytes | None:
        if len(self._buffer) < 5:
            return None
        code, size = struct.unpack_from("!ci", self._buffer)
        if not 4 <= size <= MAX_MESSAGE:
            raise SqlError("08P01", f"message of {size} bytes is not in 4-{MAX_MESSAGE}")
        if len(self._buffer) < size + 1:
            return None
        body = bytes(self._buffer[5 : size + 1])
        del self._buffer[: size + 1]
        return self._dispatch(code, body)

    def _dispatch(self, code: bytes, body: bytes) -> bytes:
        if code == b"X":
            self.is_closing = True
            return b""
        if code == b"S":
            self._skips_to_sync = False
            self._portals.clear()  # the implicit transaction ends (55.2.3)
            return _READY
        if code == b"Q":
            return self._query(body)
        handler = self._handlers().get(code)
        if handler is None:
            raise SqlError("08P01", f"message type {code!r} is not supported")
        if self._skips_to_sync:
            return b""
        try:
            return handler(Reader(body))
        except SqlError as error:
            # Everything up to the next Sync is read and discarded (55.2.3).
            self._skips_to_sync = True
            return error_response(error)

    def _handlers(self) -> dict[bytes, Callable[[Reader], bytes]]:
        return {
            b"P": self._parse,
            b"B": self._bind,
            b"D": self._describe,
            b"E": self._execute,
            b"C": self._close,
            b"H": lambda _: b"",  # Flush: every reply is sent at once anyway
        }

    def _query(self, body: bytes) -> bytes:
        try:
            sql = Reader(body).text()
            if not sql.strip().strip(";"):
                return message(b"I") + _READY
            result = self.engine.run(sql, ())
        except SqlError as error:
            return error_response(error) + _READY
        head = b"" if result.columns is None else row_description(result.columns, result.rows)
        rows = b"".join(map(data_row, result.rows))
        return head + rows + message(b"C", result.tag.encode() + b"\0") + _READY

    def _parse(self, reader: Reader) -> bytes:
        name, sql = reader.text(), reader.text()
        if name and name in self._statements:
            raise SqlError("42P05", f"prepared statement {name!r} already exists")
        if len(self._statements) >= MAX_STATEMENTS and name not in self._statements:
            raise SqlError("53000", f"more than {MAX_STATEMENTS} prepared statements")
        self.engine.describe(sql)
        self._statements[name] = sql
        return message(b"1")

    def _bind(self, reader: Reader) -> bytes:
        portal, name = reader.text(), reader.text()
        sql = self._statement(name)
        if any(reader.short() for _ in range(reader.short())):
            raise SqlError("0A000", "binary parameters are not supported")
        params: list[str | None] = []
        for _ in range(reader.short()):
            size = reader.long()
            params.append(None if size == -1 else decode(reader.take(size)))
        if any(reader.short() for _ in range(reader.short())):
            raise SqlError("0A000", "binary results are not supported")
        if len(self._portals) >= MAX_STATEMENTS and portal not in self._portals:
            raise SqlError("53000", f"more than {MAX_STATEMENTS} portals")
        # Running at Bind and not at Execute can be told apart only by a client that never
        # executes, and keeps a portal's result in one place.
        self._portals[portal] = _Portal(self.engine.run(sql, params))
        return message(b"2")

    def _describe(self, reader: Reader) -> bytes:
        kind, name = reader.take(1), reader.text()
        if kind == b"P":
            result = self._portal(name).result
            columns, rows = result.columns, result.rows
            head = b""
        else:
            columns, rows = self.engine.describe(self._statement(name)), ()
            head = message(b"t", bytes(2))
        return head + (message(b"n") if columns is None else row_description(columns, rows))

    def _execute(self, reader: Reader) -> bytes:
        portal, limit = self._portal(reader.text()), reader.long()
        rows = portal.result.rows[portal.position :]
        if 0 < limit < len(rows):
            portal.position += limit
            return b"".join(map(data_row, rows[:limit])) + message(b"s")
        portal.position += len(rows)
        return b"".join(map(data_row, rows)) + message(b"C", portal.result.tag.encode() + b"\0")

    def _close(self, reader: Reader) -> bytes:
        kind, name = reader.take(1), reader.text()
        if kind == b"P":
            self._portals.pop(name, None)
        else:
            self._statements.pop(name, None)
        return message(b"3")

    def _statement(self, name: str) -> str:
        if name not in self._statements:
            raise SqlError("26000", f"prepared statement {name!r} does not exist")
        return self._statements[name]

    def _portal(self, name: str) -> _Portal:
        if name not in self._portals:
            raise SqlError("34000", f"portal {name!r} does not exist")
        return self._portals[name]
