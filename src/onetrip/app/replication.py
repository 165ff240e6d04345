"""Replication as a node has it: nothing, until a backend has an account to be asked with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from onetrip.app.scoring import Scorer
from onetrip.cluster.messages import EndpointRow
from onetrip.cluster.state import ClusterState
from onetrip.model.catalog import Catalog
from onetrip.model.replication import Replication
from onetrip.model.status import EndpointStatus
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.app.guidance import Guidance
    from onetrip.app.replication_watch import ReplicationWatch


class Replicas:
    """What a node knows of the endpoints of its backends.

    Args:
        region: this node's own region.
        tell: makes an event.
        on_found: called when replicas were found, or are gone: the catalog changes.
    """

    def __init__(
        self,
        region: RegionId,
        *,
        scorer: Scorer,
        cluster: ClusterState,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], None],
        tasks: Tasks,
        on_found: Callable[[], None],
    ) -> None:
        def watch() -> ReplicationWatch:
            from onetrip.app.replication_watch import ReplicationWatch  # many nodes do without

            return ReplicationWatch(
                region,
                rtts=lambda: scorer.rows.get(region, {}),
                cluster=cluster,
                clock=clock,
                rng=rng,
                metrics=metrics,
                log=log,
                tell=tell,
                tasks=tasks,
                on_found=on_found,
            )

        self._make_watch = watch
        self._scorer = scorer
        self._watch: ReplicationWatch | None = None
        self._guidance: Guidance | None = None
        scorer.standing = self._standing

    @property
    def replication(self) -> Replication | None:
        """Whom to ask for positions; None without any backend that can be asked."""
        return self._watch.monitor if self._watch is not None else None

    def with_found(self, catalog: Catalog) -> Catalog:
        """Return the catalog with the replicas that were found beside those declared."""
        return catalog if self._watch is None else self._watch.with_found(catalog)

    def follow(self, catalog: Catalog) -> None:
        """Watch the backends of a new catalog; needs a running event loop."""
        if self._watch is None:
            if all(backend.replication is None for backend in catalog.backends.values()):
                return
            self._watch = self._make_watch()
        self._watch.follow(catalog)

    def rows(self) -> list[EndpointRow]:
        """Return what the peers should know."""
        return self._watch.rows() if self._watch is not None else []

    def statuses(self) -> list[EndpointStatus]:
        """Return every endpoint of the backends that are asked, in the catalog's order."""
        return self._watch.statuses() if self._watch is not None else []

    def guide(self) -> Guidance:
        """Return who tells the data plane where applications read."""
        if self._guidance is None:
            from onetrip.app.guidance import Guidance  # most nodes do without

            self._guidance = Guidance(lambda: self.replication, self._scorer)
        return self._guidance

    async def close(self) -> None:
        """Drop every connection."""
        if self._guidance is not None:
            await self._guidance.close()
        if self._watch is not None:
            await self._watch.close()

    def _standing(self) -> tuple[frozenset[str], Mapping[str, str]]:
        if self._watch is None:
            return frozenset(), {}
        return self._watch.book.lagging, self._watch.book.moved
