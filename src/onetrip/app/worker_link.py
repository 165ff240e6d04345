"""One end of the connection between a node and one of its workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from onetrip.app.worker_messages import MAX_MESSAGE, ToNode, ToWorker, encode
from onetrip.errors import ProtocolError
from onetrip.wire.frames import FrameReader, frame

M = TypeVar("M")


class Link(asyncio.Protocol, Generic[M]):
    """Sends messages, and hands on those that arrive.

    Args:
        decode: makes a message of its bytes.
        on_message: called with each, in order.
        on_lost: called once, when the connection has ended; with why, or "".
    """

    def __init__(
        self,
        decode: Callable[[bytes], M],
        on_message: Callable[[M], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._decode = decode
        self._on_message = on_message
        self._on_lost = on_lost
        self._frames = FrameReader(MAX_MESSAGE)
        self._transport: asyncio.Transport | None = None
        self._reason = ""

    @property
    def is_open(self) -> bool:
        """Tell whether anything that is sent may arrive."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that the other end has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, message: ToWorker | ToNode) -> None:
        """Send a message; dropped silently once the connection is gone.

        Raises:
            LimitError: it is too large.
        """
        self.send_encoded(encode(message))

    def send_encoded(self, data: bytes) -> None:
        """Send a message that is encoded already; raises as `send`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(data, MAX_MESSAGE))

    def close(self) -> None:
        """Close after what was sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            for payload in self._frames.receive(data):
                self._on_message(self._decode(payload))
        except ProtocolError as error:
            self._reason = str(error)
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        self._on_lost(self._reason)
