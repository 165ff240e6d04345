"""Where applications read, as the data plane is told: by the same rules as routes are scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from onetrip.app.reads import Reads
from onetrip.app.scoring import Scorer
from onetrip.estimate.nearest import nearest_endpoint
from onetrip.model.catalog import Catalog, Environment, EnvironmentId
from onetrip.model.measure import Target, TargetKind
from onetrip.model.replica import ReplicationAccess
from onetrip.model.replication import Replication
from onetrip.model.topology import RegionId

if TYPE_CHECKING:
    from onetrip.app.relay_floors import RelayClient, RelayFloors


class Guidance:
    """A node's `proxy.consistency.Guide`.

    Args:
        replication: whom to ask for positions; None without any backend that can be asked.
    """

    def __init__(self, replication: Callable[[], Replication | None], scorer: Scorer) -> None:
        self._replication = replication
        self._scorer = scorer
        self._client: RelayClient | None = None
        self._relays: dict[str, tuple[ReplicationAccess, dict[RegionId, RelayFloors]]] = {}
        self._reads = Reads(Catalog())
        self._columns: list[tuple[EnvironmentId, str, str]] = []

    @property
    def replication(self) -> Replication:
        """See `Guide`; the configuration check sees to it that there is an account."""
        found = self._replication()
        assert found is not None, "no backend has a replication account"
        return found

    def nearest(self, environment: Environment, backend: str, region: RegionId) -> str:
        """See `Guide`."""
        endpoints = self._scorer.reads.endpoints(environment.id, backend)
        row = self._scorer.rows.get(region, {})
        return nearest_endpoint(row, endpoints) if endpoints else self.primary(backend)

    def primary(self, backend: str) -> str:
        """See `Guide`; whoever looked for it last."""
        return self.replication.primary(backend)

    def relays(self, backend: str, region: RegionId) -> RelayFloors | None:
        """See `Guide`."""
        declared = self._scorer.catalog.backends.get(backend)
        access = declared.replication if declared is not None else None
        if access is None or not access.relays:
            return None
        known = self._relays.get(backend)
        if known is None or known[0] is not access:
            known = self._relays[backend] = (access, self._floors(backend, access))
        return known[1].get(region)

    def backends(self) -> list[str]:
        """Return the backends that can be asked; what is not placed yet may read those, too."""
        known = self._scorer.catalog.backends
        return [name for name, backend in known.items() if backend.replication is not None]

    def columns(self) -> list[tuple[EnvironmentId, str, str]]:
        """Return which column tells what is nearest, for all that is promised to be consistent.

        By environment and backend; the same list as before where nothing has changed.
        """
        reads = self._scorer.reads
        if reads is not self._reads:
            self._reads = reads
            self._columns = [
                (environment.id, backend, column)
                for environment in reads.catalog.environments()
                if environment.consistency is not None
                for backend, column in reads.columns.get(environment.id, {}).items()
            ]
        return self._columns

    def nearest_in(self, column: str) -> dict[RegionId, str]:
        """Return the endpoint that an instance reads, by its region; see `nearest`."""
        endpoints, rows = self._scorer.reads.groups[column], self._scorer.rows
        regions = self._scorer.topology.regions
        return {region: nearest_endpoint(rows.get(region, {}), endpoints) for region in regions}

    async def close(self) -> None:
        """Drop the connections to relays."""
        if self._client is not None:
            await self._client.close()

    def _floors(self, backend: str, access: ReplicationAccess) -> dict[RegionId, RelayFloors]:
        from onetrip.app.relay_floors import RelayClient, RelayFloors  # most nodes do without

        client = self._client = self._client or RelayClient()
        return {
            region: RelayFloors(client, backend, urls, access.relay_token)
            for region, urls in access.relays
        }

    def home(self, backend: str) -> RegionId | None:
        """See `Guide`."""
        target = Target(TargetKind.BACKEND, self.primary(backend))
        rows = self._scorer.rows
        known = {region: row[target].rtt for region, row in rows.items() if target in row}
        return min(known, key=known.__getitem__, default=None)
