"""One socket as the proxy sees it: received bytes to take, a writable side, and a wake-up.

A connection's task serves both sides of an exchange, so it needs one place to sleep: both
channels share one `Waker`, and after each wake-up the task looks at the state of both. That
replaces a pair of stream objects and several futures per request with one future per wait.

Backpressure has two halves here. Incoming: above `buffer_size` untaken bytes the transport stops
reading, and `take` starts it again. Outgoing: `is_write_paused` follows the transport; whoever
moves bytes towards a paused channel must stop taking them from the other.

Small writes wait in an `Outbox` for the end of the event loop's round and then leave together.
Sent one by one between the work of two requests, each would wake its reader on another core, which
would go back to sleep before the next: measured, that costs a third of a proxy's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from onetrip.wire.http1 import Fields
from onetrip.wire.http1_head import ResponseHead

JOIN_SIZE = 16 * 1024
"""Data up to this size is joined into one write; copying more costs more than a second write."""


class Outbox:
    """Channels with something to send at the end of the loop's round.

    Args:
        call_soon: schedules a call after what is ready now; by default the running loop's.
    """

    __slots__ = ("_call_soon", "_channels")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._call_soon = call_soon
        self._channels: list[Channel] = []

    def add(self, channel: Channel) -> None:
        """Flush `channel` at the end of the round."""
        self._channels.append(channel)
        if len(self._channels) == 1:
            (self._call_soon or asyncio.get_running_loop().call_soon)(self._flush)

    def _flush(self) -> None:
        channels, self._channels = self._channels, []
        for channel in channels:
            channel.flush()


class Waker:
    """Lets one task sleep until something happened; a wake-up before the sleep is not lost."""

    __slots__ = ("_future", "_is_set")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._is_set = False

    def wake(self) -> None:
        """End the wait in progress, or the next one."""
        future = self._future
        if future is None or future.done():
            self._is_set = True
            return
        self._future = None
        future.set_result(None)

    def next(self) -> asyncio.Future[None] | None:
        """Return a future that ends with the next `wake`; None if one came already.

        The caller awaits it at once, and then looks what changed.
        """
        if self._is_set:
            self._is_set = False
            return None
        self._future = future = asyncio.get_running_loop().create_future()
        return future


class Wakeable(Protocol):
    """Who is told that a channel has news."""

    def wake(self) -> None:
        """Look at the channel now, or soon."""


class Channel:
    """A connection to a client or to an upstream.

    Attributes:
        waker: who is told about events; None while nobody uses the channel.
        received: bytes not yet taken.
        reads: how often bytes arrived; a cheap sign of life.
        has_ended: the peer closed its sending side.
        is_lost: the connection is gone.
        error: why it is gone, or None after a clean close.
        is_write_paused: the peer does not read as fast as we write.
        has_frames: bodies are written as they are, with `write_body`: it frames them itself.
    """

    has_frames = False
    __slots__ = (
        "_buffer_size",
        "_is_closing",
        "_is_read_paused",
        "_is_tls",
        "_outbox",
        "_pending",
        "error",
        "has_ended",
        "is_lost",
        "is_write_paused",
        "reads",
        "received",
        "transport",
        "waker",
    )

    transport: asyncio.Transport

    def __init__(self, buffer_size: int, waker: Wakeable | None, outbox: Outbox) -> None:
        self._buffer_size = buffer_size
        self._outbox = outbox
        self._pending = b""  # written, still to be handed to the transport
        self._is_closing = False
        self._is_read_paused = False
        self._is_tls = False
        self.waker = waker
        self.received = b""
        self.reads = 0
        self.has_ended = False
        self.is_lost = False
        self.error: Exception | None = None
        self.is_write_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._buffer_size)
        self._is_tls = transport.get_extra_info("sslcontext") is not None

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.received = self.received + data if self.received else data
        self.reads += 1
        if len(self.received) > self._buffer_size and not self._is_read_paused:
            self._is_read_paused = True
            self.transport.pause_reading()
        if self.waker is not None:
            self.waker.wake()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; keeps our sending side open, which TLS cannot do."""
        self.has_ended = True
        if self.waker is not None:
            self.waker.wake()
        return not self._is_tls

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.is_lost = True
        self.has_ended = True
        self.error = exc
        self._pending = b""
        if self.waker is not None:
            self.waker.wake()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.is_write_paused = False
        if self.waker is not None:
            self.waker.wake()

    def take(self) -> bytes:
        """Return the received bytes and let more come in."""
        data, self.received = self.received, b""
        if self._is_read_paused:
            self._is_read_paused = False
            if not self.is_lost:
                self.transport.resume_reading()
        return data

    def put_back(self, data: bytes) -> None:
        """Return bytes that belong to whoever takes next."""
        if data:
            self.received = data + self.received

    def write(self, data: bytes) -> None:
        """Send `data`; dropped silently once the connection is gone."""
        if self.is_lost:
            return
        if len(data) > JOIN_SIZE:
            self.flush()
            self.transport.write(data)
        elif self._pending:
            self._pending += data
        elif data:
            self._pending = data
            self._outbox.add(self)

    def write_body(self, payload: bytes, trailers: Fields | None) -> None:
        """Send part of a body; `trailers` (which may be empty) are its end. See `has_frames`."""
        raise NotImplementedError

    def takes(self, head: ResponseHead) -> bool:
        """Tell whether the peer can be given this answer to its offer to switch protocols."""
        return True

    def flush(self) -> None:
        """Hand what was written to the transport now."""
        data, self._pending = self._pending, b""
        if data and not self._is_closing and not self.transport.is_closing():
            self.transport.write(data)

    @property
    def unsent(self) -> int:
        """Bytes written but not yet taken by the peer's side of the connection."""
        return 0 if self.is_lost else len(self._pending) + self.transport.get_write_buffer_size()

    def end_writing(self) -> None:
        """Close our sending side after what is written; the whole connection over TLS."""
        if self.is_lost or self._is_closing or self.transport.is_closing():
            return
        if self._is_tls:
            self.close()
            return
        self.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def close(self) -> None:
        """Close after what is written."""
        # Once only: asyncio's TLS transport forgets its connection at a second close, and could
        # not be aborted any more.
        if not self.is_lost and not self._is_closing:
            self.flush()
            self._is_closing = True
            self.transport.close()

    def abort(self) -> None:
        """Close at once, with a reset, so that the peer cannot take it for a clean end."""
        if self.is_lost:
            return
        self._pending = b""
        # A TLS transport of asyncio that lost its connection a moment ago has no socket to ask for.
        with contextlib.suppress(OSError, AttributeError):
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                # Linger 0 turns the close into RST (POSIX setsockopt, SO_LINGER): a body that ends
                # with its connection has no other sign of truncation.
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()
