"""A response on its way into the cache: the copy of its body, who waits for it, and refreshes.

One request per key fetches; others that ask the same meanwhile wait for it, but only until it is
known that the response may be shared. What turns out private is theirs to fetch, all at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from onetrip.proxy.downstream import ClientChannel
from onetrip.proxy.headers import Client
from onetrip.proxy.relay import Pump

if TYPE_CHECKING:
    from onetrip.proxy.channel import Channel, Waker
    from onetrip.proxy.services import Services
    from onetrip.timing import Clock
    from onetrip.wire.http1_body import BodyDecoder


class Room:
    """Bytes that copies in progress may take together."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class BodyCopy:
    """Copies a body while it is relayed, up to a limit.

    Args:
        limit: largest body kept, bytes.
        room: shared by all copies of a project; used up, this one is given up.
    """

    __slots__ = ("_limit", "_parts", "_pump", "_room", "_size")

    def __init__(self, limit: int, room: Room) -> None:
        self._limit = limit
        self._room = room
        self._parts: list[bytes] | None = []
        self._size = 0
        self._pump: Pump | None = None

    def pump(self, source: Channel, decoder: BodyDecoder, is_chunked: bool) -> Pump:
        """See `visit.Tee`."""
        self._pump = _CopyingPump(source, decoder, is_chunked, self.add)
        return self._pump

    def add(self, data: bytes) -> None:
        """Copy more of the body."""
        if self._parts is None or not data:
            return
        if self._size + len(data) > self._limit or len(data) > self._room.left:
            self.close()
            return
        self._parts.append(data)
        self._size += len(data)
        self._room.left -= len(data)

    def body(self) -> bytes | None:
        """Return the whole body; None if it was too large, is not complete, or had trailers."""
        pump = self._pump
        if self._parts is None or pump is None or not pump.is_done or pump.decoder.trailers:
            return None
        return b"".join(self._parts)

    def close(self) -> None:
        """Give the copy up and its room back; again does nothing."""
        self._parts = None
        self._room.left += self._size
        self._size = 0


class _CopyingPump(Pump):
    __slots__ = ("_copy",)

    def __init__(
        self,
        source: Channel,
        decoder: BodyDecoder,
        is_chunked: bool,
        copy: Callable[[bytes], None],
    ) -> None:
        super().__init__(source, decoder, is_chunked)
        self._copy = copy

    def _take(self, decoder: BodyDecoder) -> bytes:
        payload = super()._take(decoder)
        self._copy(payload)
        return payload


class Fill:
    """A fetch in progress that others may wait for.

    Attributes:
        is_over: it ended, or nothing will come of it.
        is_hopeless: its response is not kept, so that waiting for another is vain.
        is_void: what it fetches has been invalidated meanwhile.
    """

    __slots__ = ("_waiting", "is_hopeless", "is_over", "is_void")

    def __init__(self) -> None:
        self._waiting: set[Waker] = set()
        self.is_over = False
        self.is_hopeless = False
        self.is_void = False

    async def wait(self, down: ClientChannel, deadline: float) -> bool:
        """Wait until it is over; False when the client left or `deadline` has passed."""
        self._waiting.add(down.wakes)
        try:
            while not self.is_over and not down.is_lost:
                if not await down.wait_until(deadline):
                    return False
        finally:
            self._waiting.discard(down.wakes)
        return not down.is_lost

    def end(self, *, is_hopeless: bool = False) -> None:
        """Let everybody go on who waits."""
        self.is_over = True
        self.is_hopeless = self.is_hopeless or is_hopeless
        for waker in self._waiting:
            waker.wake()


class Sink(ClientChannel):
    """Stands for the client of an exchange that nobody asked for: takes and forgets everything."""

    __slots__ = ("_clock",)

    def __init__(self, services: Services) -> None:
        super().__init__(services.settings.buffer_size, services.outbox)
        self.client = Client("", is_trusted=False)
        self._clock: Clock = services.clock

    @property
    def unsent(self) -> int:
        """See `Channel`."""
        return 0

    def write(self, data: bytes) -> None:
        """See `Channel`."""

    async def wait_until(self, deadline: float) -> bool:
        """See `ClientChannel`; no sweep looks at it, so it has a timer of its own."""
        future = self.wakes.next()
        if future is None:
            return True
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.now())):
                await future
        except TimeoutError:
            return False
        return True
