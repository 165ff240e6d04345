"""One worker as its node sees it: a process that is started, fed, watched and started again."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import onetrip
from onetrip.app.inheritance import VARIABLE
from onetrip.app.worker_link import Link
from onetrip.app.worker_messages import (
    Drain,
    Figures,
    Setup,
    Started,
    ToNode,
    decode_to_node,
    encode,
)
from onetrip.errors import OnetripError
from onetrip.model.status import WorkerStatus
from onetrip.net.accept import Spawn
from onetrip.observe.logs import Log
from onetrip.timing import Clock

SILENCE = 15.0
"""A worker that told nothing for so long hangs and is killed, s: thirty messages are missing. A
machine out of memory or processors for that long has bigger problems than one more restart."""

MAX_UNSENT = 256 * 1024 * 1024
"""Bytes a worker may leave in its queue; above, it hangs."""

FIRST_PAUSE, LAST_PAUSE = 0.1, 30.0
"""Pauses before a worker is started again, s: each is twice the one before."""

GOOD_LIFE = 60.0
"""A worker that lived so long, s, is started again after the first pause."""

KILL_TIMEOUT = 5.0

OnMessage = Callable[["WorkerProcess", ToNode], None]
OnEnded = Callable[["WorkerProcess", str, bool], None]
"""Told of a worker's end: why, and whether it had been told to."""


class WorkerProcess:
    """A worker that is replaced when it ends.

    Args:
        make_setup: returns the first message for the worker of an index.
        on_message: called with each message that it sends.
        on_ended: called when its process has ended.

    Attributes:
        ends: how often it ended without being told to.
        reason: why it ended last.
    """

    def __init__(
        self,
        index: int,
        make_setup: Callable[[int], Setup],
        on_message: OnMessage,
        on_ended: OnEnded,
        *,
        clock: Clock,
        log: Log,
        spawn: Spawn,
    ) -> None:
        self.index = index
        self.ends = 0
        self.reason = ""
        self.is_serving = False
        self._make_setup = make_setup
        self._on_message = on_message
        self._on_ended = on_ended
        self._clock = clock
        self._log = log
        self._spawn = spawn
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link[ToNode] | None = None
        self._started_at = self._heard_at = 0.0
        self._pause = FIRST_PAUSE
        self._is_leaving = False
        self._figures = Figures([], 0, 0)

    @property
    def is_running(self) -> bool:
        """Tell whether there is a process."""
        return self._process is not None

    def start(self) -> None:
        """Start the process."""
        self._spawn(self._run(), "worker")

    def send(self, data: bytes) -> None:
        """Send an encoded message; what a worker misses while it is away is in its setup."""
        if self._link is None:
            return
        if self._link.unsent > MAX_UNSENT:
            self._end("does not read what it is told")
            return
        self._link.send_encoded(data)

    def drain(self, drain: Drain) -> None:
        """Tell it to finish and end; it is not started again."""
        self._is_leaving = True
        if self._link is not None:
            self._link.send(drain)

    def check(self) -> None:
        """Kill it if it has been silent for too long."""
        if self._link is not None and self._clock.now() - self._heard_at > SILENCE:
            self._end(f"was silent for {SILENCE:g} s")

    async def kill(self) -> None:
        """End it now."""
        self._is_leaving = True
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait, KILL_TIMEOUT)

    def status(self) -> WorkerStatus:
        """Return how it is."""
        process = self._process
        return WorkerStatus(
            self.index,
            process.pid if process is not None else 0,
            self.is_serving,
            self._clock.now() - self._started_at if process is not None else 0.0,
            self._figures.connections,
            self._figures.placements,
            self.ends,
        )

    def _end(self, reason: str) -> None:
        self.reason = reason
        if self._process is not None:
            self._process.kill()

    async def _run(self) -> None:
        """Keep a process running until it is told to leave."""
        while not self._is_leaving:
            self.reason, lost = "", asyncio.Event()
            self._started_at = self._heard_at = self._clock.now()
            try:
                await self._launch(lost.set)
                await lost.wait()
                code = await self._reap()
                self.reason = self.reason or _described(code)
            except (OSError, OnetripError) as error:
                self.reason = f"could not be started: {error}"
            self._process, self._link, self.is_serving = None, None, False
            self._figures = Figures([], 0, 0)
            self.ends += not self._is_leaving
            self._on_ended(self, self.reason, self._is_leaving)
            if not self._is_leaving:
                await self._clock.sleep(self._next_pause())

    async def _launch(self, on_lost: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)

        def lost(reason: str) -> None:
            self.reason = self.reason or reason
            on_lost()

        link = Link(decode_to_node, self._took, lost)
        with theirs:
            await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
            # No wait from here on: what is told next follows on what the setup says.
            try:
                setup = self._make_setup(self.index)
                self._process = _spawn_process(theirs.fileno(), setup)
            except (OSError, OnetripError):
                link.close()
                raise
        link.send_encoded(encode(setup))
        self._link = link
        if self._is_leaving:
            link.close()

    async def _reap(self) -> int | None:
        """Wait for the process behind a connection that has ended."""
        process = self._process
        assert process is not None
        try:
            return await asyncio.to_thread(process.wait, KILL_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
        with suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(process.wait, KILL_TIMEOUT)
        return None

    def _took(self, message: ToNode) -> None:
        self._heard_at = self._clock.now()
        if isinstance(message, Figures):
            self._figures = message
        if isinstance(message, Started):
            self.is_serving = message.version == onetrip.__version__
            pid = self._process.pid if self._process is not None else 0
            self._log.info("app.worker_started", worker=self.index, pid=pid)
        self._on_message(self, message)

    def _next_pause(self) -> float:
        if self._clock.now() - self._started_at >= GOOD_LIFE:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(LAST_PAUSE, 2 * self._pause)
        return pause


def _spawn_process(descriptor: int, setup: Setup) -> subprocess.Popen[bytes]:
    passed = [setup.board, *(fd for found in setup.sockets.values() for fd in found)]
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    command = [sys.executable, *flags, "-m", "onetrip.cli.launch", "--worker", str(descriptor)]
    # What is meant for the node alone.
    environ = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", VARIABLE)}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env=environ, pass_fds=[descriptor, *passed]
    )


def _described(code: int | None) -> str:
    if code is None:
        return "could not be ended"
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
