"""A server program that a test may kill and start again, in a directory and at a port of its own.

PostgreSQL and MariaDB refuse to run as root, so root starts such programs as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

START_TIMEOUT = 60.0
"""Time for a server to accept connections, and for one to end, s."""


class Restartable:
    """A program, started by `start` as often as it was ended before.

    Args:
        command: program and arguments.
        directory: where it runs; its output goes to `log` there.
        port: where it listens once it has started.
        environment: beside PATH, HOME and the C locale.
        ids: user and group to run as; none for those of the tests.
    """

    def __init__(
        self,
        command: list[str],
        directory: Path,
        port: int,
        environment: Mapping[str, str] | None = None,
        ids: Mapping[str, int] | None = None,
    ) -> None:
        self.port = port
        self.directory = directory
        self.log = directory / "log"
        self._command = command
        self._environment = plain_environment(directory) | dict(environment or {})
        self._ids = dict(ids or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program and wait until it listens; fails the test where it does not."""
        self.stop()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self._ids.get("user"),
                group=self._ids.get("group"),
            )
        deadline = time.monotonic() + START_TIMEOUT
        while self.is_running and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                time.sleep(0.02)
        pytest.fail(f"server did not start: {self.log_text()[-1000:]}")

    def stop(self) -> None:
        """End the program as an administrator would; by force if it takes long."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the program and its children at once, as a crash would."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        children = _children(process.pid)
        process.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait(10)
        deadline = time.monotonic() + START_TIMEOUT
        while any(_is_alive(child) for child in children):
            assert time.monotonic() < deadline, f"children of {self._command[0]} live on"
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def log_text(self) -> str:
        """Return what the program has logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def unprivileged() -> dict[str, int]:
    """Return `nobody` as user and group for a server that refuses to run as root; else nothing."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid}


def plain_environment(directory: Path) -> dict[str, str]:
    """Return what a server gets of the environment; `directory` is its home.

    And where its temporary files are: MariaDB deletes those of others when it starts.
    """
    path, home = os.environ.get("PATH", ""), str(directory)
    return {"PATH": path, "HOME": home, "TMPDIR": home, "LC_ALL": "C"}


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text(encoding="ascii").split()]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] != "Z"  # nobody may reap an orphan in a container
