"""The texts that name sources of instances."""

from __future__ import annotations

import re

from onetrip.errors import ConfigError
from onetrip.model.discovery import Source, SourceKind
from onetrip.model.topology import parse_endpoint

_SRV = re.compile(r"_[0-9A-Za-z-]{1,15}\._(?:tcp|udp)\.[0-9A-Za-z._-]{1,220}")
_SERVICE = re.compile(
    r"(?P<name>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
    r":(?P<port>[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?)"
)


def parse_source(text: str) -> Source:
    """Parse a source.

    Raises:
        ConfigError: it is none.
    """
    scheme, _, rest = text.partition("://")
    try:
        kind = SourceKind(scheme)
    except ValueError:
        known = ", ".join(f"{each.value}://" for each in SourceKind)
        raise ConfigError(f"{text!r} starts with none of {known}") from None
    if kind is SourceKind.SRV:
        if not _SRV.fullmatch(rest):
            raise ConfigError(f"{text!r} is not dns+srv://_service._tcp.name")
        return Source(kind, rest.rstrip("."))
    if kind is SourceKind.KUBERNETES:
        match = _SERVICE.fullmatch(rest)
        if match is None:
            raise ConfigError(f"{text!r} is not kubernetes://namespace/service:port")
        return Source(kind, match["name"], _service_port(match["port"], text))
    found = parse_endpoint(f"https://{rest}" if kind is SourceKind.HTTPS else rest)
    if _is_address(found.host):
        raise ConfigError(f"{text!r} is an address and needs no look-up")
    return Source(kind, found.host.rstrip("."), found.port)


def _service_port(text: str, source: str) -> int | str:
    if not text.isdigit():
        return text
    if not 1 <= int(text) <= 65535:
        raise ConfigError(f"port of {source!r} is not in 1-65535")
    return int(text)


def _is_address(host: str) -> bool:
    return ":" in host or re.fullmatch(r"[0-9.]+", host) is not None
