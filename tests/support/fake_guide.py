"""Where applications read, as a test says, over replication in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from onetrip.model.catalog import Environment
from onetrip.model.replication import Replication
from onetrip.model.topology import RegionId
from onetrip.proxy.consistency import Relays


@dataclass(slots=True)
class FakeGuide:
    """Implements `proxy.consistency.Guide` for one node.

    Attributes:
        reads: the endpoint that reads use, by backend; the primary where nothing is said.
        homes: region of the primary, by backend.
        through: relays that applications read through, by backend.
        primaries: where it is no longer the backend's own endpoint.
    """

    replication: Replication
    reads: dict[str, str] = field(default_factory=dict)
    homes: dict[str, RegionId] = field(default_factory=dict)
    primaries: dict[str, str] = field(default_factory=dict)
    through: dict[str, Relays] = field(default_factory=dict)

    def nearest(self, environment: Environment, backend: str, region: RegionId) -> str:
        """See `Guide`."""
        return self.reads.get(backend, self.primary(backend))

    def primary(self, backend: str) -> str:
        """See `Guide`."""
        return self.primaries.get(backend, backend)

    def relays(self, backend: str, region: RegionId) -> Relays | None:
        """See `Guide`."""
        return self.through.get(backend)

    def home(self, backend: str) -> RegionId | None:
        """See `Guide`."""
        return self.homes.get(backend)
