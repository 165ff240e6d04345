"""One client connection and its continuation to the database: bytes first, counting second.

Every segment is written to the other side before it is counted, and nothing is held here (but for
the first segment of a client that is quicker than the connection to its database): a side that
cannot take more makes the other one stop reading (TCP flow control, RFC 9293 section
3.8.6). Each direction ends on its own, and a reset on one side is a reset on the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import cast

from onetrip.timing import Clock
from onetrip.wire.flips import FlipCounter

WRITE_LIMIT = 256 * 1024
"""Bytes waiting to be sent at which the other side is no longer read; with two directions this
bounds the memory of a connection to about twice as much."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class Leg(asyncio.Protocol):
    """One of a link's two sockets.

    Args:
        take: called with (data, monotonic time) for what this side sent.
    """

    __slots__ = ("_link", "_take", "has_ended", "other", "transport")

    def __init__(self, link: Link, take: Callable[[bytes, float], None]) -> None:
        self._link = link
        self._take = take
        self.other: Leg = self
        self.transport: asyncio.Transport | None = None
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=WRITE_LIMIT)
        sock = stream.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                # A query and its Sync are small writes; Nagle would hold the second one back for
                # a whole RTT (RFC 896). Keep-alive notices a peer that vanished.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        link = self._link
        if (sink := self.other.transport) is not None:
            sink.write(data)
        else:
            link.hold(data)
        link.active_at = now = link.clock.now()
        self._take(data, now)

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; the other direction stays open."""
        self.has_ended = True
        other = self.other
        if other.has_ended:
            self._link.close()
        elif other.transport is not None and not other.transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.transport = None
        other = self.other
        if other.transport is not None:
            if exc is not None:
                reset(other.transport)
            else:
                other.transport.close()
        self._link.lost()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        source = self.other.transport
        if source is not None and not source.is_closing():
            source.pause_reading()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        source = self.other.transport
        if source is not None and not source.is_closing():
            source.resume_reading()


class Link:
    """A pair of legs.

    Args:
        counter: counts what passes.
        on_end: called when both legs are gone.

    Attributes:
        active_at: monotonic time of the last byte either way, s.
    """

    __slots__ = ("_held", "_on_end", "active_at", "client", "clock", "counter", "server")

    def __init__(self, counter: FlipCounter, clock: Clock, on_end: Callable[[Link], None]) -> None:
        self.clock = clock
        self.counter = counter
        self.active_at = clock.now()
        self._on_end = on_end
        self._held = b""
        self.client = Leg(self, counter.client_data)
        self.server = Leg(self, counter.server_data)
        # At once: a MySQL server speaks before anybody could call `join`.
        self.client.other, self.server.other = self.server, self.client

    def accept(self, transport: asyncio.Transport) -> None:
        """Take the client's side."""
        transport.set_protocol(self.client)
        self.client.connection_made(transport)

    def hold(self, data: bytes) -> None:
        """Keep what the client sent before the database's side was connected, and read no more.

        One segment at most: a transport cannot be paused before its first one on every loop.
        """
        self._held += data
        if self.client.transport is not None:
            self.client.transport.pause_reading()

    def join(self) -> None:
        """Let the client's bytes flow: the database's side is connected."""
        client, server = self.client.transport, self.server.transport
        if client is None or client.is_closing() or server is None:
            self.abort()
            return
        held, self._held = self._held, b""
        if held:
            server.write(held)
            client.resume_reading()
        if self.client.has_ended:
            with contextlib.suppress(OSError, RuntimeError):
                server.write_eof()

    def close(self) -> None:
        """Send what is written, then end both sides."""
        for leg in (self.client, self.server):
            if leg.transport is not None:
                leg.transport.close()

    def abort(self) -> None:
        """Reset both sides."""
        for leg in (self.client, self.server):
            if leg.transport is not None:
                reset(leg.transport)

    def lost(self) -> None:
        """One leg has gone."""
        if self.client.transport is None and self.server.transport is None:
            self._on_end(self)


def reset(transport: asyncio.Transport) -> None:
    """Close at once, telling the peer that the stream is not complete."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
