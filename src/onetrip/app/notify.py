"""Tells the service manager about the state of the service, as sd_notify(3) describes."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends states to the service manager; does nothing where there is none.

    Args:
        environ: holds `NOTIFY_SOCKET` when a service manager listens.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._path = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """Tell that the node serves, also after a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Tell that the configuration is being read again."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Tell that the node drains and ends."""
        self._send("STOPPING=1")

    def succeeded_by(self, pid: int) -> None:
        """Tell that another process is the service from now on, and serves."""
        self._send(f"MAINPID={pid}\nREADY=1")

    def _send(self, state: str) -> None:
        if not self._path:
            return
        # "@" stands for the zero byte of an abstract address.
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        # The service manager may be gone or slow; that must not stop the node.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.setblocking(False)
            sock.connect(address)
            sock.send(state.encode())
