"""What a process was started with: listening sockets, from its predecessor or the service manager.

A node that starts its successor passes the sockets on as open descriptors and names them in one
environment variable, as nginx does; the successor tells through a pipe that it serves. systemd
passes sockets as sd_listen_fds(3) describes. Whatever was passed is taken out of the environment,
so that no process further down mistakes it for its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from onetrip.app.listeners import Opened
from onetrip.errors import ConfigError
from onetrip.net.listening import adopt

VARIABLE = "ONETRIP_INHERIT"
"""Environment variable that names what a predecessor passes on."""

FIRST_DESCRIPTOR = 3
"""The first one that the service manager passes (`SD_LISTEN_FDS_START`)."""

MAX_SOCKETS = 256

LISTEN_KEYS = ("listen", "tls_listen", "admin", "peer_listen", "forward_listen")
"""Settings that name an address to listen on; the service manager's sockets are called so, too."""

Descriptor = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class PassedSocket(msgspec.Struct, frozen=True):
    """One socket in `VARIABLE`; see `listeners.Opened`."""

    key: str
    address: str | None
    descriptor: Descriptor


class Passed(msgspec.Struct, frozen=True):
    """The content of `VARIABLE`, as JSON. Unknown fields come from a newer onetrip.

    Attributes:
        ready: the pipe to write to once the successor serves.
        is_draining: the region takes no new work while another one can.
    """

    sockets: Annotated[list[PassedSocket], msgspec.Meta(max_length=MAX_SOCKETS)]
    ready: Descriptor
    is_draining: bool = False


@dataclass(slots=True)
class Inheritance:
    """What this process took over.

    Attributes:
        has_predecessor: a node that still serves waits for this one to get ready.
    """

    sockets: list[Opened] = field(default_factory=list)
    is_draining: bool = False
    has_predecessor: bool = False
    _ready: int = -1

    def tell_ready(self, version: str) -> None:
        """Tell the predecessor, if there is one, that this node serves."""
        self._tell(f"ready {version}")

    def tell_failed(self, reason: str) -> None:
        """Tell the predecessor why this node cannot serve."""
        self._tell(f"failed {reason}")

    def _tell(self, text: str) -> None:
        if self._ready < 0:
            return
        # It may have given up on us; its successor is then somebody else's worry.
        with contextlib.suppress(OSError):
            os.write(self._ready, text.encode()[:4096] + b"\n")
        os.close(self._ready)
        self._ready = -1


def take(environ: MutableMapping[str, str]) -> Inheritance:
    """Take over what this process was started with.

    Raises:
        ConfigError: a descriptor is no listening TCP socket, or a variable cannot be read.
    """
    text = environ.pop(VARIABLE, None)
    if text is not None:
        return _from_predecessor(text)
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if environ.pop("LISTEN_PID", "") != str(os.getpid()) or not count:
        return Inheritance()
    return Inheritance(_from_service_manager(count, names))


def _from_predecessor(text: str) -> Inheritance:
    try:
        passed = msgspec.json.decode(text, type=Passed)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{VARIABLE}: cannot be read: {error}") from error
    os.set_inheritable(passed.ready, False)
    found = Inheritance([], passed.is_draining, has_predecessor=True, _ready=passed.ready)
    try:
        for each in passed.sockets:
            found.sockets.append(Opened(each.key, each.address, adopt(each.descriptor)))
    except OSError as error:
        found.tell_failed(str(error))
        raise ConfigError(f"{VARIABLE}: {error}") from error
    return found


def _from_service_manager(count: str, names: list[str]) -> list[Opened]:
    if not count.isascii() or not count.isdigit() or int(count) > MAX_SOCKETS:
        raise ConfigError(f"LISTEN_FDS: {count!r} is not a number up to {MAX_SOCKETS}")
    found = []
    for index in range(int(count)):
        try:
            sock = adopt(FIRST_DESCRIPTOR + index)
        except OSError as error:
            raise ConfigError(f"LISTEN_FDS: {error}") from error
        name = names[index] if index < len(names) else ""
        host, port = sock.getsockname()[:2]
        address = None if name in LISTEN_KEYS else f"{host}:{port}"
        found.append(Opened(name, address, sock))
    return found
