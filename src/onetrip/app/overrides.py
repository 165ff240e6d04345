"""Overrides of policies at run time: made through this node's API, or arrived from a peer's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from onetrip.app import policies
from onetrip.app.keeping import Keeper
from onetrip.cluster.messages import PolicyRow
from onetrip.cluster.state import ClusterState
from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Catalog, Policy
from onetrip.model.status import PolicyChange
from onetrip.model.topology import RegionId, Topology


class Overrides:
    """Takes overrides: keeps each before it counts, and then has all of them applied.

    Args:
        region: this node's own region.
        apply: applies the overrides that the cluster state then holds, and tells about the rows.
    """

    def __init__(
        self,
        region: RegionId,
        cluster: ClusterState,
        keeper: Keeper,
        apply: Callable[[list[PolicyRow]], Awaitable[None]],
    ) -> None:
        self._region = region
        self._cluster = cluster
        self._keeper = keeper
        self._apply = apply
        self.on_change: Callable[[], None] = lambda: None
        """Called as soon as an override made at this node counts."""
        self.spread: Callable[[list[PolicyRow]], None] = lambda rows: None
        """Told of overrides that this node took, or learned of from a peer."""
        self.is_held = False
        """Whether changes are refused, because a successor has read the store already."""

    async def change(
        self, base: Catalog, topology: Topology, project: str, change: PolicyChange, is_whole: bool
    ) -> None:
        """Make an override of a project of the configured catalog `base`.

        Args:
            is_whole: whether it takes the place of the override that is in force, or adds to it.

        Raises:
            ApiError: the change cannot be applied; nothing was changed.
        """
        row, _ = self.plan(base, topology, project, change, is_whole)
        await self._keeper.keep_policy(row)
        self._cluster.merge_policies([row])
        self.on_change()
        self.spread([row])
        await self._apply([row])

    def plan(
        self, base: Catalog, topology: Topology, project: str, change: PolicyChange, is_whole: bool
    ) -> tuple[PolicyRow, Policy]:
        """Return the override that `change` would make, and the policy then in force.

        Raises:
            ApiError: the change cannot be applied.
        """
        if self.is_held:
            raise ApiError("an upgrade is in progress; try again", kind=Kind.CONFLICT)
        configured = base.projects.get(project)
        if configured is None:
            raise ApiError(f"no project {project!r}", field="project", kind=Kind.NOT_FOUND)
        known = self._cluster.policies().get(project)
        digest = policies.digest(configured.policy)
        row = policies.next_row(known, project, digest, change, self._region, is_whole)
        return row, policies.apply(configured.policy, policies.change_of(row), topology)

    async def take(self, rows: list[PolicyRow]) -> None:
        """Keep and apply overrides that a peer told, which the cluster state holds already."""
        self.spread(rows)
        await self.keep(rows)

    async def keep(self, rows: list[PolicyRow]) -> None:
        """Keep and apply overrides that every node is told of, as `take` does."""
        for row in rows:
            await self._keeper.keep_policy(row)
        await self._apply(rows)
