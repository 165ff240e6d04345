"""Local addresses to bind, as the configuration writes them, and the sockets that listen there."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from onetrip.errors import ConfigError
from onetrip.net.listening import bind
from onetrip.net.names import is_loopback


@dataclass(frozen=True, slots=True)
class Listener:
    """A local address to bind; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can connect."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Opened:
    """A listening socket, and what it is for.

    Attributes:
        key: the setting it serves, such as `tls_listen`.
        address: what that setting said when it was opened; None serves the key whatever the
            setting says, as sockets that the service manager names do.
    """

    key: str
    address: str | None
    sock: socket.socket


class Listeners:
    """The listening sockets of one node.

    It keeps each socket open, besides the copies that are served, so that they can be handed to
    a successor; `close` is therefore part of stopping to accept.

    Args:
        inherited: sockets opened before this process started.
    """

    def __init__(self, inherited: Iterable[Opened] = ()) -> None:
        self._inherited = list(inherited)
        self._opened: list[Opened] = []

    @property
    def opened(self) -> tuple[Opened, ...]:
        """Every socket in use."""
        return tuple(self._opened)

    async def open(self, key: str, listener: Listener) -> list[socket.socket]:
        """Return the sockets that listen for a setting: inherited where they fit, or bound now.

        Raises:
            OSError: the address cannot be bound.
        """
        fitting = [
            each
            for each in self._inherited
            if each.address == str(listener) or (each.address is None and each.key == key)
        ]
        self._inherited = [each for each in self._inherited if each not in fitting]
        sockets = [each.sock for each in fitting] or await bind(listener.host, listener.port)
        named = {each.sock: each.address for each in fitting}
        self._opened += [Opened(key, named.get(s, str(listener)), s) for s in sockets]
        return sockets

    async def copies(self, key: str, listener: Listener) -> list[socket.socket]:
        """Open, and return copies for whoever serves the sockets and closes what it serves."""
        return [sock.dup() for sock in await self.open(key, listener)]

    def close_unused(self) -> list[str]:
        """Close what was inherited and not opened; return the addresses."""
        unused, self._inherited = self._inherited, []
        names = [str(each.sock.getsockname()) for each in unused]
        for each in unused:
            each.sock.close()
        return names

    def close(self) -> None:
        """Close every socket; copies stay as they are. Safe to call again."""
        self.close_unused()
        for each in self._opened:
            each.sock.close()
        self._opened.clear()


def parse_listener(text: str, key: str) -> Listener:
    """Parse `host:port`.

    Raises:
        ConfigError: the message starts with `key`.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{key}: {text!r} is not host:port")
    return Listener(host, int(port))


def parse_address(text: str | None) -> str | None:
    """Parse the local address of outgoing connections, which may be absent.

    Raises:
        ConfigError: it is no IP address.
    """
    if text is None:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ConfigError(f"source_address: {text!r} is not an IP address") from None


@contextlib.contextmanager
def binding(key: str) -> Iterator[None]:
    """Turn the failure to bind an address into a `ConfigError` that names its key."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{key}: address cannot be bound: {reason}") from error
