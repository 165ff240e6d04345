"""Regions, nodes and endpoints: where things are. Frozen values, no behaviour beyond parsing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NewType

from onetrip.errors import ConfigError

RegionId = NewType("RegionId", str)
"""Short lower-case name of a region, such as `den`; also a metric label."""

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PUBLIC = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)+(?!\d+$){_LABEL}")


def is_public_name(text: str) -> bool:
    """Tell whether `text` is a name of the public DNS: two labels or more, and no IP address."""
    return _PUBLIC.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Tell whether `text` can name a region, project, environment or binding (DNS label, ≤ 32)."""
    return _ID.fullmatch(text) is not None


class HttpProtocol(Enum):
    """How an endpoint is spoken to."""

    HTTP1 = "http1"
    H2 = "h2"
    """HTTP/2: with prior knowledge in clear, by ALPN over TLS (RFC 9113 section 3)."""
    AUTO = "auto"
    """What the endpoint prefers over TLS; HTTP/1.1 in clear, where it cannot say."""

    @property
    def alpn(self) -> tuple[str, ...]:
        """Names to offer over TLS (RFC 7301), best first; none offers nothing."""
        if self is HttpProtocol.HTTP1:
            return ()
        return ("h2", "http/1.1") if self is HttpProtocol.AUTO else ("h2",)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that can be dialled.

    Attributes:
        tls_name: server name to verify over TLS, or None for a connection in clear.
        protocol: how to speak HTTP to it.
    """

    host: str
    port: int
    tls_name: str | None = None
    protocol: HttpProtocol = HttpProtocol.HTTP1

    def speaking(self, protocol: HttpProtocol) -> Endpoint:
        """Return the endpoint with a protocol; in clear nobody says what he speaks."""
        if protocol is HttpProtocol.AUTO and self.tls_name is None:
            protocol = HttpProtocol.HTTP1
        return replace(self, protocol=protocol)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Parse `host:port`, `[v6]:port` or either behind `https://` or `http://`.

    Raises:
        ConfigError: the text is no endpoint, or its port is outside 1–65535.
    """
    rest, tls = text, False
    for scheme in ("https://", "http://"):
        if rest.startswith(scheme):
            rest, tls = rest[len(scheme) :].rstrip("/"), scheme == "https://"
            if ":" not in rest.rpartition("]")[2]:
                rest += ":443" if tls else ":80"
    host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{text!r} is not host:port; write an IPv6 address as [address]:port")
    if not colon or not host or not re.fullmatch(r"[0-9A-Za-z._:%-]{1,253}", host):
        raise ConfigError(f"{text!r} is not host:port")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ConfigError(f"port of {text!r} is not in 1-65535")
    return Endpoint(host, int(port), host if tls else None)


@dataclass(frozen=True, slots=True)
class Region:
    """A named location; the unit placement chooses between.

    Attributes:
        title: what people call it, such as "Denver".
        position: (latitude, longitude) in degrees, or None; used only for drawing.
        proxy: where this region's node takes forwarded requests, or None without a node.
        peer: where this region's node answers its peers, or None without a node.
    """

    id: RegionId
    title: str
    position: tuple[float, float] | None = None
    proxy: Endpoint | None = None
    peer: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """Every region of the cluster, in the order of the configuration."""

    regions: Mapping[RegionId, Region] = field(default_factory=dict)
