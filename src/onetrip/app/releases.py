"""Deployments at work: rows are kept, shared and applied; deployments are checked and promoted.

Every node has all rows. A node checks new deployments for its own region and tells the others in
a row; the node that took a deployment promotes it once all of them agree, or gives up for those
that stay silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING

from onetrip.app.bundles import Bundles
from onetrip.app.checking import Checker
from onetrip.app.config import Settings
from onetrip.app.keeping import Keeper
from onetrip.app.news import News
from onetrip.cluster.messages import Report
from onetrip.cluster.resources import ROWS, decode_rows, encode_rows
from onetrip.control.view import KeptAssets
from onetrip.errors import ApiError, Kind, PeerError
from onetrip.model.catalog import Catalog
from onetrip.model.resource import Resource, ResourceKind
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.probe.base import Network, ProbeSpec
from onetrip.probe.runner import make_probe
from onetrip.probe.specs import instance_spec
from onetrip.release.catalog import Known, catalog_in_force, deployed, instances_of
from onetrip.release.moment import Author, Moment
from onetrip.release.records import CheckRecord
from onetrip.release.registry import Registry
from onetrip.release.releasing import roll_out
from onetrip.release.status import Deployment, DeploymentStatus, check_name, deployments
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.app.depot import Depot
    from onetrip.cluster.sync import PeerSync

INTERVAL = 1.0
"""Between two looks at what waits, s."""

GRACE = 10.0
"""Time beyond its own limit that another region's check gets to arrive, s."""

TIDY_INTERVAL = 600.0
"""Between two looks at what nothing needs any more, s."""

ASSETS = "assets-"
"""Nodes share a bundle under this and its digest."""


class Releases:
    """The declared things of one node.

    Args:
        settings: returns the configuration in force.
        apply: puts another catalog in force, at once.
        news: told of every row that took effect.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        keeper: Keeper,
        network: Network,
        tasks: Tasks,
        clock: Clock,
        log: Log,
        apply: Callable[[], Awaitable[None]],
        news: News,
    ) -> None:
        self._settings = settings
        self._keeper = keeper
        self._tasks = tasks
        self._clock = clock
        self._log = log
        self._apply = apply
        self._news = news
        self._registry = Registry()
        first = settings()
        folder = first.data_dir / first.region / "assets" if first.data_dir is not None else None
        self._bundles = Bundles(folder, first.terms.max_assets, clock.wall)
        self._checker = Checker(network, make_probe, self._bring_assets)
        self._checking: set[tuple[str, str, RegionId]] = set()
        self._unsettled: set[str] = set()  # projects of which something may have to be done
        self._tidied_at = clock.now()
        self._sync: PeerSync | None = None
        self.spread: Callable[[Sequence[Resource]], None] = lambda rows: None
        """Told of rows that this node took, or learned of from a peer."""
        self.depot: Depot | None = None
        """Where bundles are besides here and at the peers."""
        self._fetching: set[RegionId] = set()
        self._lock = asyncio.Lock()

    # --- what is in force -------------------------------------------------------------------

    @property
    def known(self) -> Known:
        """What the catalog is put together from."""
        settings = self._settings()
        return Known(
            settings.catalog,
            self._registry,
            settings.terms,
            settings.topology,
            self._bundles.find,
        )

    @property
    def digest(self) -> str:
        """Tells nodes that know something different apart; "" while nothing is declared."""
        return self._registry.digest if len(self._registry) else ""

    @property
    def max_assets(self) -> int:
        """Largest bundle of files taken, bytes."""
        return self._bundles.max_size

    def catalog(self) -> Catalog:
        """Return the configured catalog with what was declared."""
        return catalog_in_force(self.known)

    def author(self, name: str) -> Author:
        """Return the author of a change that is made at this node now."""
        return Author(self._settings().region, self._clock.wall(), name)

    # --- life -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take over what the store holds."""
        await self._bundles.open()
        self._registry.merge(await self._keeper.load_resources())
        self._unsettled |= self._registry.projects()

    def join(self, sync: PeerSync | None) -> None:
        """Share with the other nodes."""
        self._sync = sync
        if sync is not None:
            sync.shared, sync.on_report = self._share, self._compare

    def start(self, every: Callable[[float, Callable[[], Awaitable[object]], str], object]) -> None:
        """Check and promote from now on."""
        every(INTERVAL, self._look, "releases")

    # --- changes ----------------------------------------------------------------------------

    async def commit(self, rows: Sequence[Resource]) -> None:
        """Keep rows, then put them in force: all of them, or none when they cannot be kept.

        Raises:
            ApiError: kind CONFLICT while a successor takes over.
            StoreError: they cannot be kept.
        """
        if self._keeper.is_held:
            raise ApiError("an upgrade is in progress; try again", kind=Kind.CONFLICT)
        await self.take(rows)
        if self._sync is not None:
            self._sync.wake()

    def needed_assets(self) -> dict[str, bool]:
        """Return the bundles that deployments need, and whether one was taken by this node."""
        settings, out = self._settings(), dict[str, bool]()
        for project in self._registry.projects():
            for found in deployments(self._registry, project, settings.topology):
                if assets := found.content.assets:
                    out[assets] = out.get(assets, False) or found.origin == settings.region
        return out

    async def packed_assets(self, digest: str) -> bytes | None:
        """Return a bundle as it was uploaded, where it is here."""
        return await self._bundles.packed(digest)

    async def keep_assets(self, data: bytes) -> KeptAssets:
        """Keep an uploaded bundle; raises as `Bundles.keep`."""
        return await self._bundles.keep(data)

    async def take(self, rows: Sequence[Resource], *, is_spread: bool = False) -> None:
        """Keep rows and put those in force that are news.

        Args:
            is_spread: whether every node is told of them already.
        """
        async with self._lock:
            await self._keeper.keep_resources(rows)
            news = self._registry.merge(rows)
            if news:
                if not is_spread:
                    self.spread(news)
                await self._apply()
        if news:
            self._unsettled |= {row.key.project for row in news if row.key.project}
            await self._news.tell(news)
            await self._look()

    # --- sharing ----------------------------------------------------------------------------

    async def _share(self, name: str) -> bytes | None:
        if name == ROWS:
            return encode_rows(self._registry.rows())
        if name.startswith(ASSETS):
            return await self._bundles.packed(name.removeprefix(ASSETS))
        return None

    def _compare(self, report: Report) -> None:
        is_news = report.resources and report.resources != self._registry.digest
        can_ask = self._sync is not None and self._sync.can_fetch(report.region)
        if is_news and can_ask and report.region not in self._fetching:
            self._fetching.add(report.region)
            self._tasks.spawn(self._fetch(report.region), "resources")

    async def _fetch(self, region: RegionId) -> None:
        assert self._sync is not None
        try:
            rows = decode_rows(await self._sync.fetch(region, ROWS))
            await self.take(rows)
        except PeerError as error:
            self._log.warning("release.fetch_failed", region=region, reason=str(error))
        finally:
            self._fetching.discard(region)

    async def _bring_assets(self, digest: str) -> None:
        if self._bundles.find(digest) is None:
            await self._bundles.bring(digest, self._holders(digest))
            await self._apply()

    def _holders(self, digest: str) -> Iterator[tuple[str, Awaitable[bytes | None]]]:
        """Yield who may have a bundle, and the question for it."""
        if self.depot is not None:
            yield "cluster.nats", self.depot.get(digest)
        sync = self._sync
        for region in self._settings().topology.regions if sync is not None else ():
            if sync is not None and sync.can_fetch(region):
                yield f"region {region}", sync.fetch(region, ASSETS + digest)

    # --- checks and promotion ---------------------------------------------------------------

    async def _look(self) -> None:
        """Check what is new, promote what is ready, give up on regions that stay silent."""
        settings = self._settings()
        for project in list(self._unsettled):
            self._unsettled.discard(project)
            for deployment in deployments(self._registry, project, settings.topology):
                if deployment.status is DeploymentStatus.CHECKING:
                    self._unsettled.add(project)
                    self._check(deployment, settings)
                elif self._lacks_assets(deployment):
                    self._unsettled.add(project)
                    self._spawn_once(deployment, settings.region, self._complete(deployment))
            await self._promote(project)
        if self._clock.now() - self._tidied_at > TIDY_INTERVAL:
            self._tidied_at = self._clock.now()
            await self._tidy()

    async def _tidy(self) -> None:
        """Drop what was deleted long ago, and files that nothing needs."""
        wall = self._clock.wall()
        old = self._registry.forgettable(wall)
        if old:
            await self._keeper.forget_resources(old)
            self._registry.forget(old)
            self.spread(old)
        gone = await self._bundles.prune(self.needed_assets(), wall)
        if self.depot is not None:
            self.depot.drop(gone)

    def _lacks_assets(self, deployment: Deployment) -> bool:
        """Tell whether this node has lost, or never had, the files of what it serves."""
        assets = deployment.content.assets
        return deployment.is_ready and bool(assets) and self._bundles.find(assets) is None

    async def _complete(self, deployment: Deployment) -> None:
        await self._checker.check(
            (), deployment.content.assets, self._settings().terms.check_timeout
        )

    def _check(self, deployment: Deployment, settings: Settings) -> None:
        own = settings.region
        is_ours = deployment.origin == own
        age = self._clock.wall() - deployment.at
        for region, check in deployment.checks.items():
            if check is not None:
                continue
            has_node = settings.topology.regions[region].proxy is not None
            if region == own or (is_ours and not has_node):
                self._begin(deployment, region)
            elif is_ours and age > settings.terms.check_timeout + GRACE:
                self._begin(deployment, region, CheckRecord(False, "its node did not answer"))

    def _begin(
        self, deployment: Deployment, region: RegionId, result: CheckRecord | None = None
    ) -> None:
        self._spawn_once(deployment, region, self._find_out(deployment, region, result))

    def _spawn_once(
        self, deployment: Deployment, region: RegionId, work: Coroutine[None, None, None]
    ) -> None:
        place = (deployment.project, deployment.id, region)
        if place in self._checking:
            work.close()
            return

        async def run() -> None:
            try:
                await work
            finally:
                self._checking.discard(place)

        self._checking.add(place)
        self._tasks.spawn(run(), "check-deployment")

    async def _find_out(
        self, deployment: Deployment, region: RegionId, result: CheckRecord | None
    ) -> None:
        project, id = deployment.project, deployment.id
        if result is None:
            result = await self._checker.check(
                self._specs(deployment, region),
                deployment.content.assets,
                self._settings().terms.check_timeout,
            )
        moment = Moment(self.known, self.author(""))
        row = moment.row(ResourceKind.CHECK, project, check_name(id, region), result)
        if self._registry.get(ResourceKind.DEPLOYMENT, project, id) is not None:
            await self.take([row])

    def _specs(self, deployment: Deployment, region: RegionId) -> list[ProbeSpec]:
        known = self.known
        environment = deployed(known, deployment)
        found = instances_of(deployment.content, known.terms, known.topology)
        return [instance_spec(environment, each) for each in found if each.region == region]

    async def _promote(self, project: str) -> None:
        """Have the newest deployment serve that shall and can, if it is newer than what does."""
        moment, own = Moment(self.known, self.author("")), self._settings().region
        for deployment in moment.deployments(project):
            record, environment = deployment.record, deployment.content.environment
            if not (record.promotes and deployment.is_ready and deployment.origin == own):
                continue
            try:
                if record.number > moment.release(project, environment).number:
                    rows = roll_out(moment, project, environment, deployment.id, 1.0)
                    await self.take(rows)
                    return
            except ApiError as error:
                self._log.warning("release.not_promoted", project=project, reason=str(error))
