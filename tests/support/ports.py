"""Free loopback ports for servers whose addresses must be known before they start.

They lie outside the range that the kernel takes the ports of clients and of servers at port 0 from:
one of those could otherwise get a port between its choice here and the start of its server.
"""

from __future__ import annotations

import socket
from pathlib import Path
from random import SystemRandom

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LEAST, _MOST = 10_000, 65_535
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listens on now; none is given twice."""
    candidates = _candidates()
    found: list[int] = []
    while len(found) < count:
        port = SystemRandom().choice(candidates)  # other processes choose here as well
        if port not in _given and _is_free(port):
            _given.add(port)
            found.append(port)
    return found


def _candidates() -> list[int]:
    first, last = _LEAST, _LEAST - 1
    if _RANGE.exists():
        first, last = map(int, _RANGE.read_text().split())
    outside = [port for port in range(_LEAST, _MOST + 1) if not first <= port <= last]
    return outside or list(range(_LEAST, _MOST + 1))


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
