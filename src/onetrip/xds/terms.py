"""What an Envoy is told beside catalog and placements: where to listen, and how to behave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onetrip.model.catalog import Catalog, EnvironmentId
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.topology import RegionId
from onetrip.proxy.settings import ProxySettings


@dataclass(frozen=True, slots=True)
class Address:
    """Where Envoy listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate for clients.

    Attributes:
        name: of the secret.
        hosts: server names that it is for; empty for the default.
        chain, key: PEM.
    """

    name: str
    hosts: tuple[str, ...]
    chain: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """How one region's Envoy serves clients.

    Attributes:
        tls: where it takes clients over TLS, or None.
        pairs: certificates, the default first.
        min_version: of TLS, "1.2" or "1.3".
        protocols: ALPN names.
        redirect_port: requests in clear are sent to this port of TLS; None serves them.
        trust_file: authorities that instances' certificates are checked against.
        access_log: `stderr`, `off` or a file's path.
    """

    clients: Address
    proxy: ProxySettings
    tls: Address | None = None
    pairs: tuple[Pair, ...] = ()
    min_version: str = "1.2"
    protocols: tuple[str, ...] = ("http/1.1",)
    redirect_port: int | None = None
    trust_file: str = ""
    access_log: str = "off"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one region's Envoy is to do; an immutable value.

    Attributes:
        failing: addresses of instances that take no requests, by the latest probes.
        answers: status and body by path, of what is answered without any instance.
        log_ratio: share of requests that are logged to the node.
    """

    edge: RegionId
    terms: Terms
    catalog: Catalog
    snapshot: PlacementSnapshot
    failing: frozenset[str] = frozenset()
    answers: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    log_ratio: float = 1.0

    def permitted(self, environment: EnvironmentId) -> tuple[RegionId, ...]:
        """Return the regions that have instances of an environment and may run it, in order."""
        project = self.catalog.projects[environment.project]
        instances = project.environments[environment.environment].instances
        found = dict.fromkeys(i.region for i in instances if project.policy.permits(i.region))
        return tuple(found)
