"""One connection to a server of the database: login, then a session's batches and our own queries.

What is asked is answered in order, so a queue of *answers* tells whose turn it is: our own
questions take theirs whole, everything else goes to the session that holds the link, as it comes.
Each answer ends with ReadyForQuery. A link belongs to one session at a time, or to the pool.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from onetrip.errors import Kind, OnetripError, ProtocolError, UpstreamError
from onetrip.relay.link import WRITE_LIMIT, reset
from onetrip.timing import Clock
from onetrip.wire.flips import FlipCounter
from onetrip.wire.postgres_login import Login, Started
from onetrip.wire.postgres_messages import (
    RUN,
    Message,
    ReplyReader,
    error_fields,
    query,
    read_parameter,
    row_values,
)

MAX_ANSWER = 1024 * 1024
"""Largest answer to a question of our own, bytes."""

_READY = ord("Z")


class Owner(Protocol):
    """The session that holds a link."""

    def replied(self, reply: Message) -> None:
        """Part of an answer to what the session sent, or something nobody asked for."""

    def flush(self) -> None:
        """No more has come for now."""

    def server_lost(self, error: OnetripError) -> None:
        """The connection is gone."""

    def writable(self) -> None:
        """The connection takes more, after it did not."""


@dataclass(slots=True)
class Answer:
    """The answer to one of our own questions.

    Attributes:
        on_end: called when it is complete, or the connection is lost.
        code: SQLSTATE of its error; "" for none, "08006" for a lost connection.
        reports: parameters that the server reported meanwhile.
    """

    on_end: Callable[[Answer], None]
    rows: list[list[str | None]] = field(default_factory=list)
    code: str = ""
    reports: dict[str, str] = field(default_factory=dict)
    raw: bytearray = field(default_factory=bytearray, repr=False)

    def read(self) -> None:
        """Read the rows of what has come."""
        for reply in ReplyReader(range(1, 256)).feed(bytes(self.raw)):
            if reply.kind == ord("D"):
                self.rows.append(row_values(reply.body))
        self.raw.clear()


class ServerLink(asyncio.Protocol):
    """A `Dial` factory.

    Args:
        counter: counts the round trips, or None.
        on_lost: called once when the connection is gone.

    Attributes:
        settings: parameters that were set on it, by the statement that sets them.
        prepared: names of the statements that it knows, the oldest first.
        unnamed: what the unnamed statement is, or None where that is not known.
        cancelling: requests to cancel that are on their way.
        was_stateful: it must be reset before another session uses it.
        is_closed: we have ended it.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        counter: FlipCounter | None,
        on_lost: Callable[[ServerLink], None],
    ) -> None:
        self.name = name
        self.owner: Owner | None = None
        self.started = Started()
        self.settings: dict[str, str] = {}
        self.prepared: dict[bytes, None] = {}
        self.unnamed: object = None
        self.cancelling: set[asyncio.Task[None]] = set()
        self.was_stateful = False
        self.is_lost = self.is_closed = False
        self.is_writable = True
        self.transport: asyncio.Transport | None = None
        self._clock = clock
        self._counter = counter
        self._on_lost = on_lost
        self._reader = ReplyReader()
        self._answers: deque[Answer | None] = deque()
        self._login: Login | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._failure: OnetripError | None = None

    @property
    def is_busy(self) -> bool:
        """Tell whether an answer is still to come."""
        return bool(self._answers)

    @property
    def is_between_messages(self) -> bool:
        """Tell whether what was passed on ends with a message."""
        return self._reader.is_between

    async def first_byte(self) -> bytes:
        """Return what comes first: the answer to a request for TLS."""
        self._waiter = asyncio.get_running_loop().create_future()
        return await self._waiter

    async def login(self, login: Login) -> None:
        """Log in.

        Raises:
            OnetripError: it cannot be done.
        """
        self._login = login
        self._waiter = asyncio.get_running_loop().create_future()
        self._send(login.start())
        await self._waiter
        self._login, self.started = None, login.started

    def ask(self, sql: str, on_end: Callable[[Answer], None], *, is_counted: bool = True) -> None:
        """Ask a question of our own, behind everything that was sent.

        Args:
            is_counted: somebody waits for it, so it is a round trip.
        """
        self.unnamed = None
        answer = Answer(on_end)
        if self.is_lost:
            answer.code = "08006"
            on_end(answer)
            return
        self._answers.append(answer)
        self._send(query(sql), is_counted=is_counted)

    async def query(self, sql: str, timeout: float) -> Answer:
        """Ask, and wait for the answer; its error, if any, is in `code`.

        Raises:
            TimeoutError: there is none in time.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.ask(sql, lambda answer: None if future.done() else future.set_result(answer))
        async with asyncio.timeout(timeout):
            return await future

    def submit(self, data: bytes, *, ends: bool) -> None:
        """Send a session's messages.

        Args:
            ends: an answer that ends with ReadyForQuery follows.
        """
        if ends:
            self._answers.append(None)
        self._send(data)

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._send(data)

    def close(self) -> None:
        """End the session and the connection."""
        self.is_closed = True
        if self.transport is not None:
            self.transport.write(b"X\0\0\0\4")
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection now."""
        self.is_closed = True
        if self.transport is not None:
            reset(self.transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=WRITE_LIMIT)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            if self._login is not None:
                self._receive_login(data)
            elif self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(data)
            else:
                if self._counter is not None:
                    self._counter.server_data(data, self._clock.now())
                self._receive(data)
        except OnetripError as error:
            self._failure = error
            self._wake(error)
            self.abort()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.transport = None
        self.is_lost = True
        error = self._failure or UpstreamError(
            f"{self.name} closed the connection", kind=Kind.RESET
        )
        self._wake(error)
        answers, self._answers = self._answers, deque()
        for answer in answers:
            if answer is not None:
                answer.code = answer.code or "08006"
                answer.on_end(answer)
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.server_lost(error)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.is_writable = True
        if self.owner is not None:
            self.owner.writable()

    def _send(self, data: bytes, *, is_counted: bool = True) -> None:
        if self.transport is not None and data:
            if self._counter is not None and is_counted:
                self._counter.client_data(data, self._clock.now())
            self.transport.write(data)

    def _receive_login(self, data: bytes) -> None:
        assert self._login is not None
        if self._counter is not None:
            self._counter.server_data(data, self._clock.now())
        self._send(self._login.feed(data))
        if self._login.is_ready and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(b"")

    def _receive(self, data: bytes) -> None:
        for reply in self._reader.feed(data):
            answer = self._answers[0] if self._answers else None
            if reply.kind == _READY:
                self._end(reply)
            elif answer is not None and reply.kind != ord("A"):
                self._collect(answer, reply)
            elif self.owner is not None:
                self.owner.replied(reply)
        if self.owner is not None:
            self.owner.flush()

    def _end(self, reply: Message) -> None:
        if not self._answers:
            raise ProtocolError("ReadyForQuery that nobody waits for")
        answer = self._answers.popleft()
        if answer is None:
            if self.owner is not None:
                self.owner.replied(reply)
            return
        answer.read()
        answer.on_end(answer)

    def _collect(self, answer: Answer, reply: Message) -> None:
        if reply.kind == ord("E"):
            answer.code = error_fields(reply.body).get("C", "XX000")
        elif reply.kind == ord("S"):
            name, value = read_parameter(reply.body)
            answer.reports[name] = value
        elif reply.kind == RUN:
            answer.raw += reply.data
            if len(answer.raw) > MAX_ANSWER:
                raise ProtocolError(f"an answer exceeds {MAX_ANSWER} bytes")

    def _wake(self, error: OnetripError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
