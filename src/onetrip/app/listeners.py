"""Local addresses to bind, as the configuration writes them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from onetrip.errors import ConfigError


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
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


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


@contextlib.contextmanager
def binding(key: str) -> Iterator[None]:
    """Turn the failure to bind an address into a `ConfigError` that names its key."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{key}: address cannot be bound: {reason}") from error
