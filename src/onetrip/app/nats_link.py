"""One node's share in the cluster over NATS: put together of `cluster/bus` and this node's parts.

Loaded only where `cluster.nats` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from random import Random

from onetrip.app.depot import Depot
from onetrip.app.nats import NatsSettings
from onetrip.app.overrides import Overrides
from onetrip.app.releases import Releases
from onetrip.cluster.bus import BusLink, Part
from onetrip.cluster.jetstream import Access, JetStreamBus
from onetrip.cluster.messages import PolicyRow
from onetrip.cluster.shared_reports import SharedReports
from onetrip.cluster.shared_rows import Row, SharedRows, Thing
from onetrip.cluster.shared_secrets import SharedSecrets
from onetrip.cluster.state import ClusterState
from onetrip.cluster.sync import PeerSync
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import RegionId
from onetrip.net.accept import OnRefused
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.release.registry import is_forgettable
from onetrip.tasks import Tasks
from onetrip.timing import Clock


class NodeLedger:
    """The rows of a node: what is declared, and policy overrides."""

    def __init__(
        self,
        releases: Releases,
        overrides: Overrides,
        cluster: ClusterState,
        wall: Callable[[], float],
    ) -> None:
        self._releases = releases
        self._overrides = overrides
        self._cluster = cluster
        self._wall = wall

    def rows(self) -> Iterable[Row]:
        """See `Ledger`."""
        return chain(self._releases.known.registry.rows(), self._cluster.policies().values())

    def find(self, thing: Thing) -> Row | None:
        """See `Ledger`."""
        if isinstance(thing, str):
            return self._cluster.policies().get(thing)
        return self._releases.known.registry.row(thing)

    def is_over(self, row: Row) -> bool:
        """See `Ledger`."""
        return isinstance(row, Resource) and is_forgettable(row, self._wall())

    async def take(self, rows: Sequence[Row]) -> None:
        """See `Ledger`."""
        policies = [row for row in rows if isinstance(row, PolicyRow)]
        if news := self._cluster.merge_policies(policies):
            await self._overrides.keep(news)
        if declared := [row for row in rows if isinstance(row, Resource)]:
            await self._releases.take(declared, is_spread=True)


def join(
    settings: NatsSettings,
    region: RegionId,
    secret: bytes,
    *,
    cluster: ClusterState,
    sync: PeerSync,
    on_policies: Callable[[list[PolicyRow]], None],
    on_refused: OnRefused,
    releases: Releases,
    overrides: Overrides,
    interval: float,
    clock: Clock,
    rng: Random,
    metrics: Metrics,
    log: Log,
    tasks: Tasks,
    tell: Callable[[str, str, str], None],
) -> BusLink:
    """Return what shares the cluster over NATS, and have the parts tell it what they take."""
    bus = JetStreamBus(_access(settings, region))
    rows = SharedRows(
        region,
        secret,
        bus.rows,
        NodeLedger(releases, overrides, cluster, clock.wall),
        clock=clock,
        rng=rng,
        metrics=metrics,
        log=log,
        wake=lambda: tasks.spawn(link.hurry(rows), "nats-rows"),
        spawn=tasks.spawn,
    )
    reports = SharedReports(
        region,
        secret,
        bus.reports,
        cluster,
        sync.telling.look,
        on_policies,
        lambda report: sync.on_report(report),
        interval=interval,
        clock=clock,
        metrics=metrics,
        log=log,
    )
    private = SharedSecrets(region, secret, bus.calls, sync, clock=clock, on_refused=on_refused)
    depot = Depot(bus.files, releases, clock=clock, rng=rng, log=log, spawn=tasks.spawn)
    parts: list[Part] = [rows, reports, depot, private]
    link = BusLink(region, bus, settings.prefix, parts, clock, rng, metrics, log, tell)
    _lead_there(releases, overrides, sync, rows, depot, private)
    return link


def _access(settings: NatsSettings, region: RegionId) -> Access:
    return Access(
        settings.servers,
        settings.prefix,
        region,
        settings.replicas,
        settings.user,
        settings.password,
        settings.credentials,
        settings.nkey,
        settings.tls,
    )


def _lead_there(
    releases: Releases,
    overrides: Overrides,
    sync: PeerSync,
    rows: SharedRows,
    depot: Depot,
    private: SharedSecrets,
) -> None:
    """Have the node's parts offer what they take, and ask where there is another way."""

    def spread(found: Sequence[Resource]) -> None:
        rows.offer(found)
        if any(row.key.kind is ResourceKind.DEPLOYMENT for row in found):
            depot.look_soon()

    releases.spread, releases.depot = spread, depot
    overrides.spread = rows.offer
    sync.detour = private.fetch
