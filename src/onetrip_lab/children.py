"""Child processes of the lab: started in groups of their own, watched, and always ended.

A child that dies early is reported with the last lines it wrote. Children are ended by the ids of
the groups we started, never by name; on Linux the kernel also ends them should the lab be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onetrip.errors import Kind, OnetripError

TERMINATE_TIMEOUT = 5.0
"""Time for a child to end after being asked, s; then its group is killed."""

TAIL = 12
"""Lines of a dead child's output that are shown."""

_PR_SET_PDEATHSIG = 1  # prctl(2)


class LabError(OnetripError):
    """The lab could not do what was asked; the message is for a person."""

    kind = Kind.UNAVAILABLE


@dataclass(slots=True)
class Child:
    """One started process.

    Attributes:
        name: what people know it as, such as `node den`.
        log: file that holds its output.
        stop_signal: asks it to end.
    """

    name: str
    process: asyncio.subprocess.Process
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def pid(self) -> int:
        """Process id, and id of its group."""
        return self.process.pid

    def tail(self) -> str:
        """Return the last lines the child wrote."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-TAIL:])
        return ""


def _die_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    try:
        prctl = ctypes.CDLL(None).prctl  # resolved before the fork, where only the call is safe
    except (OSError, AttributeError):
        return None
    number = int(sig)

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)

    return ask


class Children:
    """Every process the lab started.

    Args:
        folder: where their output goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []
        self._watchers: list[asyncio.Task[None]] = []
        self.failure: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        """Done with the first child that ended by itself."""

    async def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        user: int | None = None,
        group: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Child:
        """Start a process; its output goes to a file named after it.

        Raises:
            LabError: the program cannot be run.
        """
        path = self._folder / f"{name.replace(' ', '-')}.log"
        with path.open("wb") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=cwd,
                    env=None if env is None else dict(env),
                    user=user,
                    group=group,
                    extra_groups=None if user is None else [],
                    start_new_session=True,
                    preexec_fn=_die_with_parent(stop_signal),
                )
            except OSError as error:
                raise LabError(f"{name}: cannot run {command[0]}: {error.strerror}") from error
        child = Child(name, process, path, stop_signal)
        self._children.append(child)
        self._watchers.append(asyncio.create_task(self._watch(child)))
        return child

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        if not self.failure.done():
            self.failure.set_result(child)

    def check(self) -> None:
        """Raise if a child has ended by itself.

        Raises:
            LabError: names the child and quotes its last lines.
        """
        if self.failure.done() and not self.failure.cancelled():
            child = self.failure.result()
            raise LabError(
                f"{child.name} ended with code {child.process.returncode}:\n{child.tail()}"
            )

    async def stop(self, terminate_timeout: float = TERMINATE_TIMEOUT) -> None:
        """End every child, the last started first; kill what does not end in time (s)."""
        self.failure.cancel()
        for child in reversed(self._children):
            _signal_group(child, child.stop_signal)
        await self._wait(terminate_timeout)
        for child in self._children:
            # The group may outlive its leader; an already empty group is no error.
            _signal_group(child, signal.SIGKILL, even_if_ended=True)
        await self._wait(TERMINATE_TIMEOUT)

    async def _wait(self, timeout: float) -> None:
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=timeout)


def _signal_group(child: Child, sig: signal.Signals, *, even_if_ended: bool = False) -> None:
    if child.process.returncode is None or even_if_ended:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, sig)
