"""What deployments may be: the configured terms, and the check of an address against them.

Requests are only ever sent where the configuration allows it. Addresses of deployments come
through the API, so they count only inside the networks and names that `deployments.allow` lists.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Allowed:
    """Where instances may be: a network or names, and ports.

    Attributes:
        network: of addresses, or None.
        name: a host name, or `*.example.net` for everything below it; "" without.
        ports: first and last.
    """

    network: Network | None
    name: str
    ports: tuple[int, int] = (1, 65535)

    def covers(self, endpoint: Endpoint) -> bool:
        """Tell whether an instance may be there."""
        if not self.ports[0] <= endpoint.port <= self.ports[1]:
            return False
        try:
            address = ipaddress.ip_address(endpoint.host)
        except ValueError:
            host = endpoint.host.lower().rstrip(".")
            if self.name.startswith("*."):
                return host.endswith(self.name[1:])
            return bool(self.name) and host == self.name
        return (
            self.network is not None
            and address.version == self.network.version
            and address in self.network
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """How deployments work in this cluster.

    Attributes:
        domain: deployments, branches and projects have host names below it; "" for none.
        allow: where instances may be; empty allows none.
        keep: deployments kept of a project besides those in use.
        production_branch: deployments of this branch are for production when nothing else is said.
        check_timeout: time a deployment gets to become ready, s.
        max_assets: largest bundle of files, packed, bytes.
    """

    domain: str = ""
    allow: tuple[Allowed, ...] = ()
    keep: int = 50
    production_branch: str = "main"
    check_timeout: float = 60.0
    max_assets: int = 25 * 1024 * 1024

    def permits(self, endpoint: Endpoint) -> bool:
        """Tell whether an instance may be at `endpoint`."""
        return any(allowed.covers(endpoint) for allowed in self.allow)


def parse_allowed(text: str, key: str) -> Allowed:
    """Parse `10.0.0.0/8`, `[fd00::/8]`, `*.internal.example.net` or `localhost`, with `:PORT` or
    `:FIRST-LAST` behind it if wanted.

    Raises:
        ConfigError: it is none of these; `key` is where it stands.
    """
    rest, ports = text.strip().lower(), (1, 65535)
    place, colon, tail = rest.rpartition(":")
    if colon and (place.endswith("]") or ":" not in place):
        rest, ports = place, _ports(tail, text, key)
    rest = rest.removeprefix("[").removesuffix("]")
    try:
        return Allowed(ipaddress.ip_network(rest), "", ports)
    except ValueError:
        pass
    name = rest.removeprefix("*.").rstrip(".")
    labels = name.split(".")
    is_name = all(each.replace("-", "a").replace("_", "a").isalnum() for each in labels)
    if not is_name or not name.isascii() or labels[-1].isdigit():
        raise ConfigError(f"{key}: {text!r} is neither a network nor a host name")
    return Allowed(None, f"*.{name}" if rest.startswith("*.") else name, ports)


def _ports(tail: str, text: str, key: str) -> tuple[int, int]:
    first, dash, last = tail.partition("-")
    found = (first, last if dash else first)
    if not all(p.isascii() and p.isdigit() and len(p) <= 5 for p in found):
        raise ConfigError(f"{key}: {tail!r} of {text!r} is not a port or a range of ports")
    ports = (int(found[0]), int(found[1]))
    if not 1 <= ports[0] <= ports[1] <= 65535:
        raise ConfigError(f"{key}: ports {tail} of {text!r} are not in 1-65535")
    return ports
