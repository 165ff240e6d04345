"""PostgreSQL v3 message formats: reading fields, writing replies. Pure.

Source: PostgreSQL documentation, section 55.7 "Message Formats"; type OIDs from pg_type.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

Value = int | float | str | bytes | None
"""What a row may hold; also what SQLite knows."""

_OID_INT8, _OID_FLOAT8, _OID_TEXT, _OID_BYTEA = 20, 701, 25, 17


class SqlError(Exception):
    """A statement that failed; becomes an ErrorResponse.

    Attributes:
        code: SQLSTATE, five characters.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement returned. `columns` is None for one that returns no rows."""

    columns: tuple[str, ...] | None
    rows: Sequence[Sequence[Value]]
    tag: str
    """Command tag, such as `SELECT 3`."""


@dataclass(slots=True)
class Reader:
    """Takes fields from a message body.

    Raises:
        SqlError: a field is missing or over-long (08P01), or a string is not UTF-8 (22021).
    """

    data: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size < 0 or self.at + size > len(self.data):
            raise SqlError("08P01", f"message of {len(self.data)} bytes ends inside a field")
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        """Return the next zero-terminated string."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise SqlError("08P01", "string in message is not terminated")
        raw = self.take(end - self.at)
        self.at += 1
        return decode(raw)

    def short(self) -> int:
        """Return the next Int16, unsigned: it is only ever a count or a format."""
        return int.from_bytes(self.take(2), "big")

    def long(self) -> int:
        """Return the next Int32, signed."""
        return int.from_bytes(self.take(4), "big", signed=True)


def decode(raw: bytes) -> str:
    """Return client text."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise SqlError("22021", "string in message is not UTF-8") from None


def message(code: bytes, body: bytes = b"") -> bytes:
    """Return one backend message."""
    return code + struct.pack("!i", len(body) + 4) + body


def error_response(error: SqlError, severity: str = "ERROR") -> bytes:
    """Return the ErrorResponse for `error`."""
    fields = {"S": severity, "V": severity, "C": error.code, "M": str(error)}
    body = b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items())
    return message(b"E", body + b"\0")


def row_description(columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> bytes:
    """Return the RowDescription of a result; types come from its values."""
    body = bytearray(struct.pack("!h", len(columns)))
    for index, name in enumerate(columns):
        oid = _oid([row[index] for row in rows])
        body += name.encode() + b"\0" + struct.pack("!ihihih", 0, 0, oid, -1, -1, 0)
    return message(b"T", bytes(body))


def _oid(values: Sequence[Value]) -> int:
    """Return a type that fits every value; text when none is known yet."""
    kinds = {type(v) for v in values if v is not None}
    if kinds == {int}:
        return _OID_INT8
    if kinds and kinds <= {int, float}:
        return _OID_FLOAT8
    return _OID_BYTEA if kinds == {bytes} else _OID_TEXT


def data_row(row: Sequence[Value]) -> bytes:
    """Return one DataRow in text format."""
    body = bytearray(struct.pack("!h", len(row)))
    for value in row:
        if value is None:
            body += struct.pack("!i", -1)
            continue
        text = _text(value)
        body += struct.pack("!i", len(text)) + text
    return message(b"D", bytes(body))


def _text(value: int | float | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    return str(value).encode()
