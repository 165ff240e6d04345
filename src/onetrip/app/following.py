"""Follows every source of instances that the catalog names, and fills it with what was found.

Each source has a loop of its own that asks again when the answer's time to live is over (DNS), or
that watches (Kubernetes). Changes of many sources at once become one new catalog. A source that
another region's node can ask better is left to that node, and an instance stands in for what it
finds (`Source.stand_in`): names inside a network mean nothing, or something else, outside of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from onetrip.app.config import Settings
from onetrip.discover.book import DiscoveryError, DiscoveryTerms, KubernetesAccess, SourceBook
from onetrip.errors import OnetripError
from onetrip.model.catalog import Catalog, Environment, Forwarding, Instance, Policy, Project
from onetrip.model.discovery import InstanceSource, Source, SourceKind
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import Endpoint, RegionId
from onetrip.observe.discovery_metrics import DiscoveryMetrics
from onetrip.observe.logs import Log
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.app.sources import DiscoverySettings
    from onetrip.discover.kubernetes import KubernetesApi
    from onetrip.discover.names import NameService

FIRST_TIMEOUT = 5.0
"""Longest wait for the first answers of new sources, s; what comes later is taken over then."""

Work = Callable[[Source, asyncio.Event], Awaitable[None]]

PAUSE = 0.1
"""Least time between two new catalogs, s."""

UNTOLD = 10.0
"""Time between two questions where the answer does not tell its time to live, s."""


class Following:
    """The sources of one node.

    Args:
        settings: returns the configuration in force.
        on_change: puts a catalog in force that is filled anew.
        names: answers DNS sources; by default what the configuration says.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        clock: Clock,
        rng: Random,
        metrics: DiscoveryMetrics,
        tasks: Tasks,
        log: Log,
        tell: Callable[[str, str, str], None],
        on_change: Callable[[], Awaitable[None]],
        names: NameService | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._tasks = tasks
        self._log = log
        self._tell = tell
        self._on_change = on_change
        self._terms = DiscoveryTerms()
        self._access = KubernetesAccess("", "", "")
        self._book = SourceBook()
        self._loops: dict[Source, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._stand_ins: frozenset[Source] = frozenset()
        self._preparing: frozenset[Source] = frozenset()
        self._is_applying = False
        self._changed = asyncio.Event()
        self._names = names
        self._is_given = names is not None
        self._api: KubernetesApi | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with sources, for people."""
        return [
            f"{source} gives no instances: {reason}"
            if not self._book.endpoints(source)
            else f"{source} gives nothing new, its last answer is used: {reason}"
            for source, reason in self._book.failing.items()
        ]

    async def prepare(self, settings: Settings) -> None:
        """Follow the sources of a configuration that comes into force, and await first answers."""
        await self._use(settings.discovery)
        wanted = {each.source for each in self._sources(settings.catalog, settings)}
        for source in wanted:
            self._follow(source)
        self._preparing = frozenset(wanted)
        try:
            async with asyncio.timeout(FIRST_TIMEOUT):
                for source in wanted:
                    await self._loops[source][1].wait()
        except TimeoutError:
            self._log.warning("discover.slow", sources=len(wanted), timeout=FIRST_TIMEOUT)
        finally:
            self._preparing = frozenset()

    def fill(self, catalog: Catalog) -> Catalog:
        """Return a catalog with the instances of its sources; no others are followed from now."""
        settings = self._settings()
        here = list(self._sources(catalog, settings))
        wanted = {each.source for each in here} | self._preparing
        for source in [s for s in self._loops if s not in wanted]:
            self._loops.pop(source)[0].cancel()
            self._metrics.forget(str(source))
        for source in wanted:
            self._follow(source)
        self._book.retain(wanted)
        self._stand_ins = frozenset(e.source for e in here if e.region == settings.region)
        projects = {n: self._filled(p, settings) for n, p in catalog.projects.items()}
        return replace(catalog, projects=projects)

    def told(self, rows: Iterable[RttEstimate]) -> list[RttEstimate]:
        """Return a node's estimates with one for each stand-in: what peers see of its sources."""
        found = list(rows)
        if not self._stand_ins:
            return found
        known = {row.target.name: row for row in found if row.target.kind is TargetKind.INSTANCE}
        rows_of = (self._stand_in_row(source, known) for source in self._stand_ins)
        return found + [row for row in rows_of if row is not None]

    async def _use(self, settings: DiscoverySettings | None) -> None:
        """Ask as the settings say from the next question on."""
        if settings is None:
            return  # nothing is asked any more
        if settings.terms.servers != self._terms.servers and not self._is_given:
            self._names = None
        if settings.kubernetes != self._access:
            await self.close()
            self._api = None
        self._terms, self._access = settings.terms, settings.kubernetes

    async def close(self) -> None:
        """Close what is open; the loops end with their tasks."""
        if self._api is not None:
            await self._api.close()

    # --- the catalog ------------------------------------------------------------------------

    def _filled(self, project: Project, settings: Settings) -> Project:
        def fill(environment: Environment) -> Environment:
            if environment.candidate is not None:
                environment = replace(environment, candidate=fill(environment.candidate))
            if not environment.sources:
                return environment
            found = dict.fromkeys(environment.instances)
            for each in environment.sources:
                found.update(dict.fromkeys(self._instances(each, project.policy, settings)))
            return replace(environment, instances=tuple(found))

        if not any(site.sources for site in project.sites()):
            return project
        return replace(
            project,
            environments={n: fill(e) for n, e in project.environments.items()},
            variants=tuple(fill(each) for each in project.variants),
        )

    def _instances(
        self, each: InstanceSource, policy: Policy, settings: Settings
    ) -> list[Instance]:
        if not _is_asked_here(each.region, policy, settings):
            return [Instance(each.region, each.source.stand_in, is_stand_in=True)]
        return [
            Instance(each.region, endpoint.speaking(each.protocol))
            for endpoint in self._book.endpoints(each.source)
        ]

    @staticmethod
    def _sources(catalog: Catalog, settings: Settings) -> Iterable[InstanceSource]:
        """Yield the sources that this node asks."""
        for project in catalog.projects.values():
            for site in project.sites():
                for each in site.sources:
                    if _is_asked_here(each.region, project.policy, settings):
                        yield each

    def _stand_in_row(self, source: Source, known: dict[str, RttEstimate]) -> RttEstimate | None:
        target = Target(TargetKind.INSTANCE, str(source.stand_in))
        endpoints = self._book.endpoints(source)
        rows = [known[str(e)] for e in endpoints if str(e) in known]
        well = [row for row in rows if row.state is not EstimateState.FAILING]
        if well:
            return replace(well[0], target=target)
        if len(rows) < len(endpoints):
            return None  # some are not probed yet
        nan = math.nan
        return RttEstimate(target, nan, nan, nan, 0, 1, self._clock.now(), EstimateState.FAILING)

    # --- asking -----------------------------------------------------------------------------

    def _follow(self, source: Source) -> None:
        if source in self._loops:
            return
        if not self._is_applying:
            self._is_applying = True
            self._tasks.spawn(self._apply_forever(), "discovery-apply")
        answered = asyncio.Event()
        work = self._watch if source.kind is SourceKind.KUBERNETES else self._ask_forever
        task = self._tasks.spawn(self._keep(work, source, answered), f"discovery-{source}")
        self._loops[source] = task, answered

    async def _keep(self, work: Work, source: Source, answered: asyncio.Event) -> None:
        """Do the work for ever: a defect met by one answer must not end what follows a source."""
        while True:
            try:
                await work(source, answered)
            except Exception as error:
                self._log.error("discover.crashed", cause=error, source=str(source))
                self._fail(source, "a defect; please report it")
            answered.set()
            await self._sleep(math.inf)

    async def _apply_forever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._on_change()
            except OnetripError as error:
                self._log.error("discover.not_applied", reason=str(error))
            await self._clock.sleep(PAUSE)

    async def _ask_forever(self, source: Source, answered: asyncio.Event) -> None:
        failures = 0
        while True:
            wait: float | None = None
            try:
                answer = await self._name_service().ask(source)
                if not answer.endpoints:
                    raise DiscoveryError("it has no address")
                self._take(source, answer.endpoints)
                failures, wait = 0, answer.ttl if answer.ttl is not None else UNTOLD
            except DiscoveryError as error:
                failures += 1
                self._fail(source, str(error))
            answered.set()
            await self._sleep(wait if wait is not None else self._pause(failures))

    async def _watch(self, source: Source, answered: asyncio.Event) -> None:
        from onetrip.discover.slices import SliceBook

        failures, slices = 0, SliceBook()

        def changed() -> None:
            nonlocal failures
            failures = 0
            found = slices.endpoints(source)
            if found:
                self._take(source, found)
            else:
                self._fail(source, "it has no ready endpoint")
            answered.set()

        while True:
            try:
                await self._kubernetes().follow(source, slices, changed)
            except DiscoveryError as error:
                failures += 1
                self._fail(source, str(error))
            answered.set()
            await self._sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        """Return the wait after so many failures in a row, s."""
        return float(self._terms.least * 2.0 ** min(failures, 16))

    async def _sleep(self, duration: float) -> None:
        """Sleep within the bounds of the terms, spread so that nodes do not ask together."""
        bounded = min(self._terms.most, max(self._terms.least, duration))
        await self._clock.sleep(bounded * (0.9 + 0.2 * self._rng.random()))

    def _name_service(self) -> NameService:
        if self._names is None:
            from onetrip.discover.names import DnsNames, SystemNames, has_library

            self._names = DnsNames(self._terms.servers) if has_library() else SystemNames()
        return self._names

    def _kubernetes(self) -> KubernetesApi:
        if self._api is None:
            from onetrip.discover.kubernetes import KubernetesApi

            self._api = KubernetesApi(self._access)
        return self._api

    # --- what an answer means ---------------------------------------------------------------

    def _take(self, source: Source, endpoints: Iterable[Endpoint]) -> None:
        name, found = str(source), list(endpoints)
        change = self._book.take(source, found, self._terms)
        if change.refused == len(set(found)):
            self._fail(source, "discovery.allow permits none of its addresses")
            return
        self._metrics.answers.labels("changed" if change else "same").inc()
        self._metrics.instances.labels(name).set(change.count)
        if self._book.note_success(source):
            self._tell("discover.recovered", name, f"{change.count} instances")
            self._log.info("discover.recovered", source=name, instances=change.count)
        if not change:
            return
        self._tell("discover.changed", name, str(change))
        self._log.info(
            "discover.changed",
            source=name,
            instances=change.count,
            added=[str(e) for e in change.added],
            removed=[str(e) for e in change.removed],
            refused=change.refused,
            left_out=change.left_out,
        )
        self._changed.set()

    def _fail(self, source: Source, reason: str) -> None:
        self._metrics.answers.labels("failed").inc()
        if self._book.note_failure(source, reason):
            kept = len(self._book.endpoints(source))
            detail = f"{reason}; {kept} instances of its last answer stay"
            self._tell("discover.failed", str(source), detail)
            self._log.warning("discover.failed", source=str(source), reason=reason, kept=kept)


def _is_asked_here(region: RegionId, policy: Policy, settings: Settings) -> bool:
    """Tell whether this node reaches the instances of a region itself."""
    place = settings.topology.regions.get(region)
    is_forwarded = settings.cluster_secret is not None and policy.forwarding is Forwarding.NODE
    return region == settings.region or place is None or place.proxy is None or not is_forwarded
