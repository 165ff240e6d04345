"""The limits and timeouts of the request path: a decoded entry to checked settings."""

from __future__ import annotations

import ipaddress

import msgspec

from onetrip.app.schema import ProxyEntry
from onetrip.errors import ConfigError
from onetrip.proxy.ejection import EjectionSettings
from onetrip.proxy.settings import ProxySettings


def build_proxy(entry: ProxyEntry) -> ProxySettings:
    """Return the settings that `proxy` describes.

    Raises:
        ConfigError: the first value that cannot be used.
    """
    values = msgspec.structs.asdict(entry)
    del values["drain_timeout"]
    networks = []
    for number, cidr in enumerate(values.pop("trusted_proxies")):
        try:
            networks.append(ipaddress.ip_network(cidr))
        except ValueError:
            raise ConfigError(
                f"proxy.trusted_proxies[{number}]: {cidr!r} is not a network"
            ) from None
    values["needs_proxy_header"] = values.pop("proxy_protocol") == "required"
    values["ejection"] = EjectionSettings(**msgspec.structs.asdict(entry.ejection))
    return ProxySettings(**values, trusted_proxies=tuple(networks))
