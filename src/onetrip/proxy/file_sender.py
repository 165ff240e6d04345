"""Sends a file to a client, with bounded memory and no wait for the disk on the event loop.

Over plain TCP the kernel copies from the file to the socket (`sendfile`), called in a thread,
because it waits for the disk; what the socket does not take is waited for on the loop. Where bytes
have to be changed on the way (TLS, HTTP/2), a thread reads them piece by piece.

The socket belongs to the loop's transport, so `sendfile` gets a descriptor of its own, and only
while the transport itself has nothing to send.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from onetrip.errors import DownstreamError, Kind, OnetripError
from onetrip.proxy.channel import JOIN_SIZE
from onetrip.proxy.settings import ProxySettings
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.proxy.downstream import ClientChannel

T = TypeVar("T")

CHUNK = 256 * 1024
"""Bytes read at once; in memory twice at most, in the thread and in the transport."""

PIECE = 64 * 1024
"""Bytes in memory handed to a client at once; one that reads slowly holds no more than that."""

LEAST_SENDFILE = 256 * 1024
"""Smaller spans are copied: waiting for an empty transport costs more than copying them."""

BATCH = 4 * 1024 * 1024
"""Most bytes of one `sendfile`; the socket's own buffer ends it earlier."""


class FileSender:
    """Sends spans of one open file to one client.

    Args:
        fd: of the file; the caller closes it.
        pool: threads that may wait for the disk.
        settings: a client that takes nothing for `write_timeout` is cut off.
    """

    def __init__(
        self, down: ClientChannel, fd: int, pool: Executor, clock: Clock, settings: ProxySettings
    ) -> None:
        self._down = down
        self._fd = fd
        self._pool = pool
        self._clock = clock
        self._timeout = settings.write_timeout
        self._buffer_size = settings.buffer_size
        self.size = 0
        """Bytes sent."""

    async def send(self, start: int, end: int) -> None:
        """Send the bytes from `start` to before `end`, after what was written to the channel.

        Raises:
            DownstreamError: the client went away, or does not read.
            OnetripError: the file has become shorter, or cannot be read.
        """
        client = self._down.client
        is_plain = client.scheme == b"http" and not client.is_http2
        if is_plain and end - start >= LEAST_SENDFILE:
            await self._send_from_file(start, end)
        else:
            await self._copy(start, end)

    async def _copy(self, start: int, end: int) -> None:
        down = self._down
        while start < end:
            await self._wait_while(lambda: down.is_write_paused)
            data = await self._run(partial(os.pread, self._fd, min(CHUNK, end - start), start))
            self._note(len(data))
            down.write(data)
            start += len(data)

    async def _send_from_file(self, start: int, end: int) -> None:
        down = self._down
        down.flush()
        transport = down.transport
        transport.set_write_buffer_limits(high=0)  # tells as soon as it is empty
        try:
            await self._wait_while(lambda: down.unsent > 0)
            sock: socket.socket = transport.get_extra_info("socket")
            fd = os.dup(sock.fileno())
            try:
                await self._pour(fd, start, end)
            finally:
                os.close(fd)
        finally:
            if not down.is_lost:
                transport.set_write_buffer_limits(high=self._buffer_size)

    async def _pour(self, fd: int, start: int, end: int) -> None:
        while start < end:
            count = min(BATCH, end - start)
            try:
                sent = await self._run(partial(os.sendfile, fd, self._fd, start, count))
            except BlockingIOError:
                await self._wait_until_writable(fd)
                continue
            self._note(sent)
            start += sent

    async def _wait_until_writable(self, fd: int) -> None:
        loop, can_write = asyncio.get_running_loop(), False

        def note() -> None:
            nonlocal can_write
            can_write = True
            loop.remove_writer(fd)
            self._down.wakes.wake()

        loop.add_writer(fd, note)
        try:
            await self._wait_while(lambda: not can_write)
        finally:
            loop.remove_writer(fd)

    async def _wait_while(self, is_true: Callable[[], bool]) -> None:
        await wait_while(self._down, is_true, self._clock, self._timeout)

    async def _run(self, work: Callable[[], T]) -> T:
        working = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            # The thread still uses both descriptors, whose numbers must not be given away.
            await asyncio.wait([working])
            raise
        except BlockingIOError:
            raise
        except (BrokenPipeError, ConnectionError) as error:
            raise DownstreamError("client closed the connection", kind=Kind.RESET) from error
        except OSError as error:
            raise OnetripError(f"file cannot be read: {error.strerror}") from error

    def _note(self, count: int) -> None:
        if not count:
            raise OnetripError("file became shorter while it was sent")
        self.size += count


async def send_all(
    down: ClientChannel, pieces: Sequence[bytes], clock: Clock, settings: ProxySettings
) -> None:
    """Send bytes that are in memory, as fast as the client takes them.

    Raises:
        DownstreamError: the client went away, or does not read.
    """
    if sum(map(len, pieces)) <= JOIN_SIZE:
        down.write(b"".join(pieces))
        return
    for piece in pieces:
        for at in range(0, len(piece), PIECE):
            await wait_while(down, lambda: down.is_write_paused, clock, settings.write_timeout)
            down.write(piece[at : at + PIECE])


async def wait_while(
    down: ClientChannel, is_true: Callable[[], bool], clock: Clock, timeout: float
) -> None:
    """Wait for the client to take something.

    Raises:
        DownstreamError: it went away, or took nothing for `timeout` s.
    """
    deadline = clock.now() + timeout
    while is_true() and not down.is_lost:
        unsent = down.unsent
        if not await down.wait_until(deadline):
            if down.unsent >= unsent and is_true():
                raise DownstreamError(f"client took nothing for {timeout:g} s", kind=Kind.TIMEOUT)
            deadline = clock.now() + timeout
    if down.is_lost:
        raise DownstreamError("client closed the connection", kind=Kind.RESET)
