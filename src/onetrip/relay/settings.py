"""What a relay is started with, checked."""

from __future__ import annotations

from dataclasses import dataclass, fields

from onetrip.errors import ConfigError
from onetrip.model.catalog import BackendKind
from onetrip.model.topology import Endpoint, is_id
from onetrip.net.names import is_loopback

KINDS = (BackendKind.POSTGRES, BackendKind.MYSQL, BackendKind.REDIS)
"""Protocols that have round trips worth counting."""

_RANGES = {
    "connect_timeout": (0.1, 120.0),
    "idle_timeout": (1.0, 7 * 86_400.0),
    "drain_timeout": (0.0, 600.0),
    "max_connections": (1, 100_000),
}


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """One relay: where it listens, what it leads to, whom it tells. Times in s.

    Attributes:
        backend: the backend's name in the node's configuration.
        project: the only project whose requests come through it; "" for every bound one.
        idle_timeout: silence after which a connection is closed; the default is the one that
            MySQL has for its own (`wait_timeout`, 8 hours).
        drain_timeout: longest wait for connections to fall silent when told to stop.
        metrics: where its metrics are served, on loopback; None serves none.

    Raises:
        ConfigError: a value is outside its range; the message names both.
    """

    kind: BackendKind
    listen: Endpoint
    target: Endpoint
    backend: str
    project: str = ""
    connect_timeout: float = 5.0
    idle_timeout: float = 28_800.0
    drain_timeout: float = 10.0
    max_connections: int = 1000
    metrics: Endpoint | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            choice = ", ".join(kind.value for kind in KINDS)
            raise ConfigError(f"kind is {self.kind.value!r}; it must be one of {choice}")
        for name, value in (("backend", self.backend), ("project", self.project or "none")):
            if not is_id(value):
                raise ConfigError(f"{name} is {value[:40]!r}; it must be 1-32 of a-z, 0-9 and -")
        if self.metrics is not None and not is_loopback(self.metrics.host):
            raise ConfigError(f"metrics is {self.metrics}; it must be on loopback")
        for field in fields(self):
            low, high = _RANGES.get(field.name, (None, None))
            value = getattr(self, field.name)
            if low is not None and high is not None and not low <= value <= high:
                raise ConfigError(f"{field.name} is {value:g}; it must be in {low:g}..{high:g}")
