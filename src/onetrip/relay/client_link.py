"""The client's side of a routed session: its bytes as messages in a bounded queue.

Not reading is the bound: a client that sends more than `QUEUE_LIMIT` before it is served waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

from onetrip.errors import DownstreamError, Kind, OnetripError
from onetrip.relay.link import WRITE_LIMIT, reset
from onetrip.timing import Clock
from onetrip.wire.postgres_messages import Message, RequestReader
from onetrip.wire.postgres_start import Opening, StartReader

QUEUE_LIMIT = 256 * 1024
"""Bytes of messages that wait at which the client is no longer read."""

MAX_LOGIN_MESSAGE = 16 * 1024
"""Largest message of a client that has not proved who it is, bytes."""


class ClientLink(asyncio.Protocol):
    """One client connection.

    Args:
        on_lost: called once when the connection is gone.

    Attributes:
        queue: messages that wait.
        on_change: called when one has come, the client takes more again, or it is gone.
        on_room: called with False when the client takes no more, with True when it does again.
        failure: what was wrong with its bytes.
        has_room: the client takes more.
        active_at: when it last sent or got something, s.
    """

    def __init__(self, clock: Clock, on_lost: Callable[[ClientLink], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.queue: deque[Message] = deque()
        self.queued = 0
        self.on_change: Callable[[], None] = lambda: None
        self.on_room: Callable[[bool], None] = lambda has_room: None
        self.failure: OnetripError | None = None
        self.is_lost = False
        self.has_room = True
        self.active_at = clock.now()
        self._clock = clock
        self._on_lost = on_lost
        self._start: StartReader | None = StartReader()
        self._openings: deque[Opening] = deque()
        self._reader = RequestReader(MAX_LOGIN_MESSAGE)
        self._is_paused = False

    def accept(self, transport: asyncio.Transport) -> None:
        """Take a connection."""
        transport.set_protocol(self)
        self.connection_made(transport)

    def take_opening(self) -> Opening | None:
        """Return the packet that opens the session, once it is there."""
        return self._openings.popleft() if self._openings else None

    @property
    def early(self) -> bytes:
        """Bytes that came behind an opening before it was answered."""
        return self._start.rest if self._start is not None else b""

    def begin_messages(self) -> None:
        """From now on the client sends messages."""
        rest, self._start = self.early, None
        if rest:
            self._receive(rest)

    def trust(self) -> None:
        """The client has proved who it is: it may send what a session needs."""
        self._reader.limit = RequestReader().limit

    def take(self) -> Message:
        """Return the next message of the queue."""
        found = self.queue.popleft()
        self.queued -= len(found.data)
        if self._is_paused and self.queued < QUEUE_LIMIT // 2:
            self._is_paused = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
        return found

    def write(self, data: bytes) -> None:
        """Send."""
        if self.transport is not None and data:
            self.active_at = self._clock.now()
            self.transport.write(data)

    def close(self) -> None:
        """Send what was written, then close."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Reset."""
        if self.transport is not None:
            reset(self.transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=WRITE_LIMIT)
        sock = stream.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.active_at = self._clock.now()
        try:
            self._receive(data)
        except OnetripError as error:
            self.failure = self.failure or error
            if self.transport is not None:
                self.transport.pause_reading()
        self.on_change()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; a client that sends no more is done."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.transport = None
        self.is_lost = True
        self.failure = self.failure or DownstreamError("the client is gone", kind=Kind.RESET)
        self.on_room(True)
        self.on_change()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.has_room = False
        self.on_room(False)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.has_room = True
        self.on_room(True)

    def _receive(self, data: bytes) -> None:
        if self._start is not None:
            opening = self._start.feed(data)
            if opening is not None:
                self._openings.append(opening)
            return
        for found in self._reader.feed(data):
            self.queue.append(found)
            self.queued += len(found.data)
        if self.queued > QUEUE_LIMIT and not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()
