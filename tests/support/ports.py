"""Free loopback ports for servers whose addresses must be known before they start."""

from __future__ import annotations

import socket
from random import SystemRandom

FIRST, LAST = 15_000, 32_000
"""Below the ports that Linux gives to outgoing connections (32768 and up): one of those, or what is
left of it, could take the port before the server does."""


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listens on now."""
    rng, found = SystemRandom(), set[int]()
    while len(found) < count:
        port = rng.randint(FIRST, LAST)
        if _is_free(port):
            found.add(port)
    return list(found)


def _is_free(port: int) -> bool:
    with socket.socket() as each:
        try:
            each.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
