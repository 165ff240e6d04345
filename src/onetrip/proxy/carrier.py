"""What both sides of HTTP/2 share: a connection that carries streams, and a stream's buffers.

A carrier sends one frame of each stream in turn, as the peer's windows and the socket allow. A
stream is a `Channel` like a connection of its own: arrived bytes are acknowledged (which opens the
peer's window again) when they are taken, and writing counts as paused while more than a buffer
waits to be sent. So backpressure reaches from one end of an exchange to the other.

A window bounds a stream's rate to a window a round trip, so it grows while its reader keeps up.
"""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from onetrip.proxy.allowance import Allowance, cheap_frames
from onetrip.proxy.channel import Channel, Outbox
from onetrip.timing import Clock
from onetrip.wire.http1 import Fields
from onetrip.wire.http2 import Code
from onetrip.wire.http2_codec import Codec

MAX_WINDOW = 1024 * 1024
"""Largest window of one stream, bytes: 40 Mbit/s over a trip of 200 ms."""

SPARE_WINDOW = 8 * 1024 * 1024
"""Bytes by which the windows of a connection's streams may grow together, where they may."""

GROWTH_TIME = 2.0
"""A window grows when two of it were taken within this time, s: the longest trips take half of it,
and a reader so slow that it takes longer would only fill our memory."""

MAX_UNSENT = 1024 * 1024
"""Bytes waiting for a peer that does not read; answers to its PINGs would pile up for ever."""

UNLIMITED = Allowance(float("inf"), 0.0, 0.0)
"""For peers that proved to be nodes of the cluster."""


class Window:
    """How far a peer may send ahead on one stream; grows while what arrives is taken quickly.

    Attributes:
        size: of the window when nothing is on its way, bytes.
        owed: bytes that arrived and were not acknowledged.
    """

    __slots__ = ("_since", "_taken", "owed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.owed = 0
        self._taken = 0
        self._since = 0.0

    def note(self, size: int, now: float) -> int:
        """Count `size` bytes taken; return by how much the window should grow, bytes."""
        if not self._taken:
            self._since = now
        self._taken += size
        if self._taken < 2 * self.size:
            return 0
        self._taken = 0
        if now - self._since > GROWTH_TIME:
            return 0
        return min(self.size, MAX_WINDOW - self.size)


class StreamSide(Channel):
    """One stream, as its carrier sees it; a base of classes that also are a side of an exchange.

    Attributes:
        id: its number on the connection.
        trailers: to be sent after the body.
        is_ready: the message to the peer is complete here, its end still to be sent.
        is_sent: that message has been handed to the connection whole.
        window: of what the peer sends.
    """

    __slots__ = ()

    id: int
    trailers: Fields
    is_ready: bool
    is_sent: bool
    window: Window
    _out: bytearray

    def lose(self, error: Exception | None) -> None:
        """Note that the peer or the connection ended the stream."""
        self.is_lost = self.has_ended = True
        self.error = error
        self._out.clear()
        self.rouse()

    def rouse(self) -> None:
        """Wake whoever uses the stream."""
        if self.waker is not None:
            self.waker.wake()

    def next_data(self, room: int) -> bytes:
        """Return at most `room` bytes to send now."""
        data = bytes(self._out[:room])
        del self._out[:room]
        if self.is_write_paused and 2 * len(self._out) <= self._buffer_size:
            self.is_write_paused = False
            self.rouse()
        return data

    @property
    def unsent(self) -> int:
        """See `Channel`."""
        return len(self._out)

    def flush(self) -> None:
        """See `Channel`: the connection sends by itself."""

    def _queue(self, data: bytes) -> None:
        self._out += data
        if len(self._out) > self._buffer_size:
            self.is_write_paused = True


S = TypeVar("S", bound=StreamSide)


class Carrier(Channel, Generic[S]):
    """A connection that streams share.

    Args:
        spare: bytes by which the windows of all streams together may grow.
    """

    def __init__(
        self, codec: Codec, buffer_size: int, clock: Clock, outbox: Outbox, spare: int = 0
    ) -> None:
        super().__init__(buffer_size, None, outbox)
        self._codec = codec
        self._clock = clock
        self._cheap = cheap_frames(clock.now())
        self._streams: dict[int, S] = {}
        self._sending: dict[int, S] = {}
        self._spare = spare
        self._is_scheduled = False

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        self._schedule()

    def send_head(self, stream: S, headers: Fields, *, ends: bool) -> None:
        """Send a header list; `ends` closes our side of the stream."""
        if not self._codec.send_head(stream.id, headers, ends=ends):
            self.reset(stream, Code.INTERNAL_ERROR)
            stream.lose(ConnectionResetError("stream ended"))
        self._schedule()

    def send_soon(self, stream: S) -> None:
        """Send what the stream has to send, at the end of the loop's round."""
        self._sending[stream.id] = stream
        self._schedule()

    def acknowledge(self, stream: S) -> None:
        """Give back the window that arrived bytes took, and more if the stream could use it."""
        size, stream.window.owed = stream.window.owed, 0
        if not size or self._is_closing or self.is_lost:
            return
        self._codec.acknowledge(stream.id, size)
        if self._spare > 0:
            growth = min(stream.window.note(size, self._clock.now()), self._spare)
            if growth > 0 and self._codec.grow(stream.id, growth):
                stream.window.size += growth
                self._spare -= growth
        self._schedule()

    def reset(self, stream: S, code: Code) -> None:
        """End the stream with an error."""
        if not self._is_closing and not self.is_lost and self._codec.reset(stream.id, code):
            self._schedule()

    def _forget(self, stream: S) -> None:
        self._streams.pop(stream.id, None)
        self._sending.pop(stream.id, None)
        self._spare += stream.window.size - self._codec.window

    def _schedule(self) -> None:
        if not self._is_scheduled and not self.is_lost:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Send what windows and the transport allow, a frame of each stream in turn."""
        self._is_scheduled = False
        while self._sending and not self.is_write_paused and not self._is_closing:
            moved = [self._send_some(stream) for stream in list(self._sending.values())]
            self._flush_frames()
            if not any(moved):
                return
        self._flush_frames()

    def _send_some(self, stream: S) -> bool:
        """Send one frame of a stream, if its window allows one; tell whether it did."""
        codec, id = self._codec, stream.id
        data = stream.next_data(codec.room(id))
        is_last = stream.is_ready and not stream.unsent
        ends_body = is_last and not stream.trailers
        is_open = not (data or ends_body) or codec.send_body(id, data, ends=ends_body)
        if is_open and is_last and stream.trailers:
            is_open = codec.send_head(id, stream.trailers, ends=True)
        if not is_open:
            stream.lose(ConnectionResetError("stream ended"))
        if data:
            self._cheap.earn(2)  # the peer will give its window back
        if is_last or not stream.unsent:
            self._sending.pop(id, None)
        if is_last:
            stream.is_sent = is_open
            stream.rouse()
        return bool(data)

    def _flush_frames(self) -> None:
        data = b"" if self._is_closing else self._codec.take_output()
        if data:
            self.write(data)
            if self.unsent > MAX_UNSENT + self._buffer_size:
                self.abort()
