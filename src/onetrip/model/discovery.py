"""Where instances are found, when the configuration names a source of addresses and no addresses.

`dns://app.internal:9000` is every address of a name, `dns+https://` the same over TLS,
`dns+srv://_http._tcp.app.internal` what SRV records say (RFC 2782), and
`kubernetes://namespace/service:port` the endpoints of a Kubernetes Service.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from onetrip.model.topology import Endpoint, HttpProtocol, RegionId


class SourceKind(Enum):
    """Who is asked for the addresses."""

    DNS = "dns"
    HTTPS = "dns+https"
    """DNS, for instances that are spoken to over TLS under the name itself."""
    SRV = "dns+srv"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True, slots=True)
class Source:
    """One source of addresses.

    Attributes:
        name: host name, SRV name, or `namespace/service`.
        port: number or, of a Kubernetes Service, name; 0 where the answers tell it.
    """

    kind: SourceKind
    name: str
    port: int | str = 0

    def __str__(self) -> str:
        port = "" if self.kind is SourceKind.SRV else f":{self.port}"
        return f"{self.kind.value}://{self.name}{port}"

    @property
    def stand_in(self) -> Endpoint:
        """An endpoint that stands for all of them where only their region's node knows them."""
        namespace, slash, service = self.name.partition("/")
        host = f"{service}.{namespace}.kubernetes" if slash else self.name
        return Endpoint(host, self.port if isinstance(self.port, int) else 0)

    def endpoint(self, host: str, port: int) -> Endpoint:
        """Return the endpoint of an answer."""
        return Endpoint(host, port, self.name if self.kind is SourceKind.HTTPS else None)


@dataclass(frozen=True, slots=True)
class InstanceSource:
    """A source whose addresses are the instances of an environment in a region."""

    region: RegionId
    source: Source
    protocol: HttpProtocol = HttpProtocol.HTTP1


def is_source(text: str) -> bool:
    """Tell whether a text that stands where an instance does names a source of them."""
    return text.startswith(("dns://", "dns+", "kubernetes://"))
