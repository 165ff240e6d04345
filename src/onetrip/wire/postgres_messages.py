"""PostgreSQL v3 messages in both directions, after the start: framing, building, a few fields.

Every message is a type byte, a length that counts itself, and a body. A client's messages are
handed out whole, because a router reads them; a server's are handed out whole only where they
steer something, and everything between (rows above all) as the bytes that came, so that a row of a
gigabyte is never held. Source: PostgreSQL documentation, "Message Formats" and "Message Flow".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from onetrip.errors import Kind, LimitError, ProtocolError

MAX_REQUEST = 64 * 1024 * 1024
"""Largest message of a client, bytes; the server itself takes 1 GiB, which nobody should hold."""

MAX_REPLY = 4 * 1024 * 1024
"""Largest message of a server that is held whole, bytes: an error with all its context."""

HEAD = struct.Struct("!BI")
_INT = struct.Struct("!I")

RUN = 0
"""Kind of a reply that stands for bytes to be passed on as they are."""

WHOLE_REPLIES = frozenset(b"ZESGHWACNR13K")
"""Replies that steer: ready, error, parameter, copy, notification, completion, notice, login,
statement parsed and closed, key."""

ROWS = frozenset(b"D")


class Message(NamedTuple):
    """One message, or a run of them (`kind` is `RUN`).

    Attributes:
        kind: its type byte.
        data: the whole message, head included.
    """

    kind: int
    data: bytes

    @property
    def body(self) -> bytes:
        """What follows the head."""
        return self.data[5:]


class RequestReader:
    """Splits what a client sends into messages.

    Args:
        limit: largest message, bytes.
    """

    def __init__(self, limit: int = MAX_REQUEST) -> None:
        self.limit = limit
        self._held = bytearray()

    @property
    def is_empty(self) -> bool:
        """Tell whether no part of a message is held."""
        return not self._held

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes.

        Raises:
            LimitError: a message is too large.
            ProtocolError: a length is impossible.
        """
        held = self._held
        held += data
        found, at, size = [], 0, len(held)
        while size - at >= 5:
            kind, length = HEAD.unpack_from(held, at)
            if length < 4:
                raise ProtocolError(f"message {chr(kind)!r} has a length of {length}, below 4")
            if length > self.limit:
                raise LimitError(
                    f"message of {length} bytes exceeds limit of {self.limit}",
                    kind=Kind.BODY_TOO_LARGE,
                )
            end = at + length + 1
            if end > size:
                break
            found.append(Message(kind, bytes(held[at:end])))
            at = end
        if at:
            del held[:at]
        return found


class ReplyReader:
    """Splits what a server sends: whole messages that steer, and runs of bytes between them.

    Args:
        whole: kinds that are handed out whole; every other one may come in pieces.
    """

    def __init__(self, whole: Iterable[int] = WHOLE_REPLIES) -> None:
        self.whole = frozenset(whole)
        self._held = b""
        self._skip = 0

    @property
    def is_between(self) -> bool:
        """Tell whether what was handed out ends where a message does."""
        return not self._skip

    def feed(self, data: bytes) -> list[Message]:
        """Return what `data` brings, in order; joined, it is what came.

        Raises:
            LimitError: a message that must be held is too large.
            ProtocolError: a length is impossible.
        """
        if self._held:
            data, self._held = self._held + data, b""
        out: list[Message] = []
        size = len(data)
        at = min(self._skip, size)
        self._skip -= at
        start = 0
        while size - at >= 5:
            kind, length = HEAD.unpack_from(data, at)
            if length < 4:
                raise ProtocolError(f"reply {chr(kind)!r} has a length of {length}, below 4")
            end = at + length + 1
            if kind in self.whole:
                if length > MAX_REPLY:
                    raise LimitError(f"reply of {length} bytes exceeds limit of {MAX_REPLY}")
                if end > size:
                    break
                if at > start:
                    out.append(Message(RUN, data[start:at]))
                out.append(Message(kind, data[at:end]))
                at = start = end
            elif end > size:
                self._skip, at = end - size, size
            else:
                at = end
        if at > start:
            out.append(Message(RUN, data[start:at]))
        self._held = data[at:]
        return out


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Return one message."""
    return kind + _INT.pack(len(body) + 4) + body


def cstring(text: str) -> bytes:
    """Return a string as it is in messages.

    Raises:
        ProtocolError: it holds a NUL.
    """
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ProtocolError("a string holds a NUL")
    return data + b"\0"


def take_cstring(body: bytes, at: int) -> tuple[bytes, int]:
    """Return the string that begins at `at`, and where the next field does.

    Raises:
        ProtocolError: it does not end.
    """
    end = body.find(b"\0", at)
    if end < 0:
        raise ProtocolError("a string of a message does not end")
    return body[at:end], end + 1


def query(text: str) -> bytes:
    """Return a simple query."""
    return message(b"Q", cstring(text))


def ready(status: bytes) -> bytes:
    """Return ReadyForQuery; `status` is `I`, `T` or `E`."""
    return message(b"Z", status)


def parameter_status(name: str, value: str) -> bytes:
    """Return ParameterStatus."""
    return message(b"S", cstring(name) + cstring(value))


def read_parameter(body: bytes) -> tuple[str, str]:
    """Return name and value of a ParameterStatus.

    Raises:
        ProtocolError: the body is not two strings.
    """
    name, at = take_cstring(body, 0)
    value, _ = take_cstring(body, at)
    return name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")


def error_response(code: str, text: str, *, severity: str = "ERROR", hint: str = "") -> bytes:
    """Return an ErrorResponse; `code` is its SQLSTATE."""
    fields = [("S", severity), ("V", severity), ("C", code), ("M", text)]
    if hint:
        fields.append(("H", hint))
    return message(b"E", b"".join(tag.encode() + cstring(value) for tag, value in fields) + b"\0")


def error_fields(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse by their tags: `C` SQLSTATE, `M` text, `V` severity.

    Raises:
        ProtocolError: a field does not end.
    """
    found, at = {}, 0
    while at < len(body) and body[at]:
        value, end = take_cstring(body, at + 1)
        found[chr(body[at])] = value.decode("utf-8", "replace")
        at = end
    return found


def row_values(body: bytes) -> list[str | None]:
    """Return the values of a DataRow in text format.

    Raises:
        ProtocolError: a length does not fit.
    """
    if len(body) < 2:
        raise ProtocolError("a DataRow has no count")
    values: list[str | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        if at + 4 > len(body):
            raise ProtocolError("a DataRow is shorter than its count says")
        size = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        if size < 0:
            values.append(None)
            continue
        if at + size > len(body):
            raise ProtocolError(f"a value of {size} bytes exceeds its DataRow")
        values.append(body[at : at + size].decode("utf-8", "replace"))
        at += size
    return values
