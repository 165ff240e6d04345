"""A session's prepared statements, on whatever server connection it happens to use.

A named statement is known to the servers by a name made of its text, so sessions share it; before
it is bound on a connection that lacks it, it is parsed there again, and the answer to that is kept
from the client. Closing a name that does not exist is no error, so every Parse of ours has a Close
before it and can never meet one that is there already.

Source: PostgreSQL documentation, "Extended Query".
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from onetrip.errors import Kind, LimitError
from onetrip.wire.postgres_messages import Message, message, take_cstring
from onetrip.wire.sql_classifier import Classifier
from onetrip.wire.sql_intent import EMPTY, Act, Intent, joined

MAX_NAMED = 5000
"""Most named statements of a session."""

MAX_NAMED_SIZE = 16 * 1024 * 1024
"""Bytes of their texts together."""

MAX_PREPARED = 500
"""Most statements that a server connection is left with; the oldest one is closed then."""

_NOWHERE = b"onetrip_none"


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A prepared statement.

    Attributes:
        text: the SQL.
        rest: what follows it in Parse: the types of its parameters.
        name: its name at the servers.
    """

    text: bytes
    rest: bytes
    name: bytes
    intent: Intent


class Connection(Protocol):
    """What must be known of a server connection."""

    prepared: dict[bytes, None]
    unnamed: object


@dataclass(slots=True)
class _Parsed:
    """A Parse whose answer is still to come."""

    client_name: bytes | None
    """None where the client must not see the answer."""
    statement: Statement
    server_name: bytes


@dataclass(slots=True)
class Rewritten:
    """A batch as it is sent.

    Attributes:
        intent: of everything that it executes; of what it parses where it executes nothing.
        is_executed: it binds something.
    """

    data: bytes = b""
    intent: Intent = EMPTY
    is_executed: bool = False


@dataclass(slots=True)
class _Batch:
    out: list[bytes] = field(default_factory=list)
    named: dict[bytes, Statement | None] = field(default_factory=dict)
    unnamed: Statement | None = None
    prepared: set[bytes] = field(default_factory=set)
    is_pinned: bool = False


class Statements:
    """The prepared statements of one session."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._named: dict[bytes, Statement] = {}
        self._size = 0
        self._unnamed: Statement | None = None
        self._parses: deque[_Parsed] = deque()
        self._closes: deque[bytes | None] = deque()
        self._read: dict[bytes, tuple[bytes, Statement]] = {}
        """What the Parse messages of the current batch were read as."""

    def own_text(self, text: bytes, intent: Intent, link: Connection, *, is_pinned: bool) -> bytes:
        """Return SQL as it is sent: DEALLOCATE of a statement that the servers call otherwise.

        To drop all that a connection has is always right where no SQL has prepared one: what is
        missing is parsed again.
        """
        name = intent.deallocates
        if name is None:
            return text
        key = name.encode("latin-1")
        if name and key in self._named and intent == Intent(Act.NEUTRAL, deallocates=name):
            own = self._named[key].name
            is_there = is_pinned and own in link.prepared
            text = b"DEALLOCATE " + (own if is_there else b"ALL")
        link.prepared.clear()
        return text

    def intent_of(self, messages: Sequence[Message]) -> Rewritten:
        """Return what a batch would do, without its data."""
        named: dict[bytes, Statement | None] = {}
        bound, parsed = [], []
        self._read.clear()
        for each in messages:
            if each.kind == ord("P"):
                name, statement = self._read_parse(each.body)
                named[name] = statement
                parsed.append(statement.intent)
            elif each.kind == ord("B"):
                _, at = take_cstring(each.body, 0)
                name, _ = take_cstring(each.body, at)
                found = named.get(name) or (self._named.get(name) if name else self._unnamed)
                bound.append(found.intent if found else Intent(Act.WRITE))
            elif each.kind == ord("F"):
                bound.append(Intent(Act.WRITE, pins=True))
        return Rewritten(intent=joined(bound or parsed), is_executed=bool(bound))

    def rewrite(
        self, messages: Sequence[Message], link: Connection, *, is_pinned: bool = False
    ) -> bytes:
        """Return a batch as it is sent on `link`.

        Raises:
            LimitError: the session has too many statements.
            ProtocolError: a message is malformed.
        """
        batch = _Batch(unnamed=self._unnamed, is_pinned=is_pinned)
        for each in messages:
            if each.kind == ord("P"):
                self._parse(each, batch, link)
            elif each.kind == ord("B"):
                self._bind(each, batch, link)
            elif each.kind in b"DC" and each.body[:1] == b"S":
                self._describe_or_close(each, batch, link)
            elif each.kind == ord("C"):
                self._closes.append(b"")
                batch.out.append(each.data)
            else:
                batch.out.append(each.data)
        return b"".join(batch.out)

    def parsed(self, link: Connection) -> bool:
        """A ParseComplete came; tell whether the client waits for it."""
        if not self._parses:
            return True
        done = self._parses.popleft()
        if done.server_name:
            link.prepared.pop(done.server_name, None)
            link.prepared[done.server_name] = None
        else:
            link.unnamed = done.statement
        if done.client_name is None:
            return False
        if done.client_name:
            self._forget(done.client_name)
            self._named[done.client_name] = done.statement
            self._size += len(done.statement.text)
        else:
            self._unnamed = done.statement
        return True

    def closed(self) -> bool:
        """A CloseComplete came; tell whether the client waits for it."""
        if not self._closes:
            return True
        name = self._closes.popleft()
        if name is None:
            return False
        self._forget(name)
        return True

    def failed(self) -> None:
        """An error came: what was still to be answered was skipped."""
        self._parses.clear()
        self._closes.clear()

    def drop(self, name: bytes | None) -> None:
        """Forget a statement, or all of them."""
        if name is None:
            self._named.clear()
            self._size = 0
        else:
            self._forget(name)

    def _forget(self, name: bytes) -> None:
        if (old := self._named.pop(name, None)) is not None:
            self._size -= len(old.text)

    def _read_parse(self, body: bytes) -> tuple[bytes, Statement]:
        if (known := self._read.get(body)) is not None:
            return known
        name, at = take_cstring(body, 0)
        text, at = take_cstring(body, at)
        rest = body[at:]
        # As long as a digest cannot collide by design: the text is a client's.
        digest = hashlib.blake2b(text + b"\0" + rest, digest_size=16).hexdigest()
        server_name = b"onetrip_" + digest.encode() if name else b""
        found = name, Statement(text, rest, server_name, self._classifier.classify(text))
        self._read[body] = found
        return found

    def _parse(self, each: Message, batch: _Batch, link: Connection) -> None:
        name, statement = self._read_parse(each.body)
        if name and (
            len(self._named) >= MAX_NAMED or self._size + len(statement.text) > MAX_NAMED_SIZE
        ):
            raise LimitError(
                f"a session has more than {MAX_NAMED} prepared statements,"
                f" or {MAX_NAMED_SIZE} bytes of them",
                kind=Kind.BODY_TOO_LARGE,
            )
        self._send_parse(name, statement, batch, link)
        if name:
            batch.named[name] = statement
        else:
            batch.unnamed = statement

    def _send_parse(
        self, client_name: bytes | None, statement: Statement, batch: _Batch, link: Connection
    ) -> None:
        server_name = statement.name
        if server_name:
            self._make_room(batch, link)
            self._send_close(server_name, batch, link)
            batch.prepared.add(server_name)
        else:
            link.unnamed = None
        self._parses.append(_Parsed(client_name, statement, server_name))
        text = statement.text
        if statement.intent.deallocates is not None:
            text = self.own_text(text, statement.intent, link, is_pinned=batch.is_pinned)
        body = server_name + b"\0" + text + b"\0" + statement.rest
        batch.out.append(message(b"P", body))

    def _send_close(self, server_name: bytes, batch: _Batch, link: Connection) -> None:
        link.prepared.pop(server_name, None)
        self._closes.append(None)
        batch.out.append(message(b"C", b"S" + server_name + b"\0"))

    def _make_room(self, batch: _Batch, link: Connection) -> None:
        if len(link.prepared) >= MAX_PREPARED:
            self._send_close(next(iter(link.prepared)), batch, link)

    def _ensure(self, name: bytes, batch: _Batch, link: Connection) -> bytes:
        """Have a statement on `link`; return its name there."""
        if not name:
            statement = batch.unnamed
            is_there = statement is link.unnamed or any(
                each.statement is statement for each in self._parses
            )
            if statement is not None and not is_there:
                self._send_parse(None, statement, batch, link)
            return b""
        found = batch.named.get(name) or self._named.get(name)
        if found is None:
            return name  # one that SQL prepared, or none at all
        if found.name in link.prepared:
            link.prepared[found.name] = link.prepared.pop(found.name)
        elif found.name not in batch.prepared:
            self._send_parse(None, found, batch, link)
        return found.name

    def _bind(self, each: Message, batch: _Batch, link: Connection) -> None:
        portal, at = take_cstring(each.body, 0)
        name, end = take_cstring(each.body, at)
        own = self._ensure(name, batch, link)
        if own == name:
            batch.out.append(each.data)
        else:
            batch.out.append(message(b"B", portal + b"\0" + own + b"\0" + each.body[end:]))

    def _describe_or_close(self, each: Message, batch: _Batch, link: Connection) -> None:
        name, _ = take_cstring(each.body, 1)
        if each.kind == ord("D"):
            own = self._ensure(name, batch, link)
        else:
            # Other sessions may use it; the client only has to hear that it is closed.
            known = name in batch.named or name in self._named
            own = _NOWHERE if known else name
            batch.named.pop(name, None)
            self._closes.append(name)
        batch.out.append(message(bytes([each.kind]), b"S" + own + b"\0"))
