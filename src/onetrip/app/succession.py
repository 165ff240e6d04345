"""Starts a node's successor and waits until it serves, on the same listening sockets.

The successor is a new process of whatever version of onetrip is installed by then. It inherits
the listening sockets, so that the kernel's queues of new connections outlive the change: nobody is
refused. Until it has told that it serves, this node goes on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from onetrip.app.inheritance import VARIABLE, Passed, PassedSocket
from onetrip.app.listeners import Listeners
from onetrip.errors import ApiError, Kind

READY_TIMEOUT = 60.0
"""Longest time a successor may take to serve, s; a large catalog loads in a few seconds."""

KILL_TIMEOUT = 5.0
"""Time in which a killed process is gone, s."""

MAX_REPLY = 8192


@dataclass(frozen=True, slots=True)
class Successor:
    """The process that serves from now on."""

    pid: int
    version: str


class Succession:
    """Starts successors of this process.

    Args:
        command: the command line of a node with the same configuration file and region.
        listeners: whose sockets it inherits.
        timeout: for it to get ready, s.
    """

    def __init__(
        self, command: Sequence[str], listeners: Listeners, timeout: float = READY_TIMEOUT
    ) -> None:
        self._command = list(command)
        self._listeners = listeners
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None

    async def start(self, *, is_draining: bool) -> Successor:
        """Start a successor and return once it serves.

        Raises:
            ApiError: kind CONFLICT; it did not get ready, and is gone.
        """
        reader, writer = os.pipe()
        try:
            try:
                child = self._launch(writer, is_draining)
            finally:
                os.close(writer)  # the child's copy is the last one: its death ends the pipe
            try:
                text = await self._wait(reader)
            except BaseException:
                child.kill()
                raise
        except OSError as error:
            raise _failed(f"it could not be started: {error.strerror or error}") from error
        finally:
            os.close(reader)
        word, _, rest = text.partition(" ")
        if word == "ready":
            self._child = child  # never waited for: it outlives this process
            return Successor(child.pid, rest)
        code = await asyncio.to_thread(_end, child)
        raise _failed(rest if word == "failed" else text or f"it ended with exit code {code}")

    def _launch(self, writer: int, is_draining: bool) -> subprocess.Popen[bytes]:
        opened = self._listeners.opened
        sockets = [PassedSocket(each.key, each.address, each.sock.fileno()) for each in opened]
        passed = msgspec.json.encode(Passed(sockets, writer, is_draining)).decode()
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            env={**os.environ, VARIABLE: passed},
            pass_fds=[writer, *(each.descriptor for each in sockets)],
        )

    async def _wait(self, reader: int) -> str:
        """Return what the child told, or "" when it ended without a word."""
        os.set_blocking(reader, False)
        loop, told = asyncio.get_running_loop(), b""
        try:
            async with asyncio.timeout(self._timeout):
                while b"\n" not in told and len(told) < MAX_REPLY:
                    await _readable(loop, reader)
                    data = os.read(reader, MAX_REPLY)
                    if not data:
                        break
                    told += data
        except TimeoutError:
            return f"it was not ready within {self._timeout:g} s"
        return told.partition(b"\n")[0].decode("utf-8", "replace")


async def _readable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _end(child: subprocess.Popen[bytes]) -> int | None:
    """Make sure that a failed child is gone; return its exit code."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(1.0)  # it ends by itself after "failed"
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(KILL_TIMEOUT)
    return None


def _failed(reason: str) -> ApiError:
    return ApiError(f"the successor did not get ready: {reason}", kind=Kind.CONFLICT)
