"""What the name of a host says: which certificates are for it, whether it is this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence


class Names:
    """A set of host names with wildcards of one label (RFC 9525 section 6.3); `*` is any name."""

    __slots__ = ("_exact", "_parents", "hosts")

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = tuple(hosts)
        self._exact = frozenset(h for h in hosts if not h.startswith("*."))
        self._parents = frozenset(h[2:] for h in hosts if h.startswith("*."))

    def cover(self, host: str) -> bool:
        """Tell whether a lower-case name or IP address is one of them."""
        return host in self._exact or host.partition(".")[2] in self._parents or "*" in self._exact


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine alone, as far as its text says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
