"""A small byte stream over `Dial`, for code that asks one question and reads one answer.

It notes *when* bytes arrived at the moment the event loop hands them over, not when the reader
gets its turn, so a busy loop disturbs a measured RTT as little as possible. Buffering is bounded:
a peer that sends more than `limit` unread bytes is not read from until they are taken.
"""

from __future__ import annotations

import asyncio
from typing import cast

from onetrip.errors import Kind, UpstreamError
from onetrip.timing import Clock

BUFFER_LIMIT = 64 * 1024
"""Unread bytes after which reading pauses: more than any probe's answer."""


class Connection(asyncio.Protocol):
    """One connection; a `Dial` factory.

    Args:
        clock: stamps the instants below.
        limit: unread bytes after which reading pauses.

    Attributes:
        opened_at: when the connection was ready (with TLS: after its handshake), s.
        answered_at: when the first byte since the last `write` arrived, s, or None; before any
            write, since the connection opened.
    """

    def __init__(self, clock: Clock, limit: int = BUFFER_LIMIT) -> None:
        self.opened_at = 0.0
        self.answered_at: float | None = None
        self._clock = clock
        self._limit = limit
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_ended = False
        self._is_paused = False

    @property
    def is_idle(self) -> bool:
        """Tell whether the connection is open and holds nothing unread."""
        return self._transport is not None and not self._is_ended and not self._buffer

    @property
    def is_open(self) -> bool:
        """Tell whether the peer has not ended the connection."""
        return self._transport is not None and not self._is_ended

    @property
    def protocol(self) -> str | None:
        """What the peer chose by ALPN, or None."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return tls.selected_alpn_protocol() if tls is not None else None

    def forget_answer(self) -> None:
        """Wait for another first byte: what came was not the answer."""
        self.answered_at = None

    def write(self, data: bytes) -> None:
        """Send `data`; forgets when the last answer came. A closed connection drops it."""
        self.answered_at = None
        if self._transport is not None and not self._is_ended:
            self._transport.write(data)

    async def read(self, timeout: float) -> bytes:
        """Return what has arrived, waiting for some at most `timeout` s; b"" at the end.

        Raises:
            UpstreamError: kind TIMEOUT.
        """
        if not self._buffer and not self._is_ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiter
            except TimeoutError as error:
                raise UpstreamError(
                    f"no answer within {timeout:.3g} s", kind=Kind.TIMEOUT
                ) from error
            finally:
                self._waiter = None
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._is_paused and self._transport is not None and not self._is_ended:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """Close at once, dropping what was not sent; may be called again."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.opened_at = self._clock.now()
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.answered_at is None:
            self.answered_at = self._clock.now()
        self._buffer += data
        if len(self._buffer) > self._limit and self._transport is not None:
            # Not reading is the bound: TCP makes the peer wait (RFC 9293 section 3.8.6).
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; half-open connections are not kept."""
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        self._end()

    def _end(self) -> None:
        self._is_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
