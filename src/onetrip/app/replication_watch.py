"""Rounds of questions to the endpoints of backends, and what follows: verdicts, events, metrics.

A node asks the primary, the endpoints declared to be in its own region, and the `NEAREST` others
with the least RTT; all of them while none says that it is the primary. Nodes tell each other what
they were told, so each knows of every endpoint while a database has a connection or two a node.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from random import Random

from onetrip.app.readiness import rtt_of
from onetrip.app.replica_finder import KEPT, ReplicaFinder
from onetrip.cluster.messages import EndpointRow
from onetrip.cluster.state import ClusterState
from onetrip.errors import ReplicationError
from onetrip.estimate.freshness import FreshnessBook, FreshnessChange
from onetrip.model.catalog import Backend, Catalog
from onetrip.model.measure import RttEstimate, Target, TargetKind
from onetrip.model.replica import ReplicationAccess
from onetrip.model.replication import MAX_POSITION, EndpointState, Position, PositionKind, Role
from onetrip.model.status import EndpointStatus
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.probe.replication import ReplicationMonitor
from onetrip.tasks import Tasks
from onetrip.timing import Clock

NEAREST = 2
"""Endpoints that are asked for their RTT alone: reads use the first, and its stand-in is known."""

FIND_INTERVAL = 30.0
"""Time between two looks for replicas, s."""

Row = Mapping[Target, RttEstimate]


class ReplicationWatch:
    """Watches the backends that have an account.

    Args:
        region: this node's own region.
        rtts: gives this node's own RTT row.
        tell: makes an event.
        on_found: called when replicas were found, or are gone.
    """

    def __init__(
        self,
        region: RegionId,
        *,
        rtts: Callable[[], Row],
        cluster: ClusterState,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        log: Log,
        tell: Callable[[str, str, str], None],
        tasks: Tasks,
        on_found: Callable[[], None],
        monitor: ReplicationMonitor | None = None,
    ) -> None:
        self._region = region
        self._rtts = rtts
        self._cluster = cluster
        self._clock = clock
        self._rng = rng
        self._metrics = metrics.replicas
        self._log = log
        self._tell = tell
        self._tasks = tasks
        self._on_found = on_found
        self.monitor = monitor or ReplicationMonitor(clock, rng)
        self.book = FreshnessBook()
        self._finder = ReplicaFinder()
        self._backends: dict[str, Backend] = {}
        self._rounds: dict[str, tuple[ReplicationAccess, asyncio.Task[None]]] = {}
        self._find_at: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._told: dict[str, set[str]] = {}

    def with_found(self, catalog: Catalog) -> Catalog:
        """Return the catalog with the replicas that were found beside those declared."""
        backends = {name: self._finder.extend(each) for name, each in catalog.backends.items()}
        return catalog if backends == catalog.backends else replace(catalog, backends=backends)

    def follow(self, catalog: Catalog) -> None:
        """Watch exactly the backends of a catalog that have an account."""
        self._backends = {n: b for n, b in catalog.backends.items() if b.replication is not None}
        self._finder.keep(self._backends)
        self.book.keep(self._backends.keys())
        for name in self._told.keys() - self._backends.keys():
            self._unexport(self._told.pop(name))
        self._tasks.spawn(self.monitor.follow(list(self._backends.values())), "replication")
        for name, (access, task) in list(self._rounds.items()):
            backend = self._backends.get(name)
            if backend is None or backend.replication != access:
                task.cancel()
                del self._rounds[name]
                self._find_at.pop(name, None)
        for name, each in self._backends.items():
            if name not in self._rounds and (known := each.replication) is not None:
                look = partial(self.look, name)
                task = self._tasks.every(
                    known.interval, look, "replication", self._clock, self._rng
                )
                self._rounds[name] = known, task

    async def close(self) -> None:
        """Stop, and drop every connection."""
        for _, task in self._rounds.values():
            task.cancel()
        self._rounds.clear()
        await self.monitor.close()

    def rows(self) -> list[EndpointRow]:
        """Return what this node was told itself."""
        return [
            EndpointRow(
                name,
                state.role,
                _short(state.position),
                state.lag,
                state.lag_bytes,
                state.is_replicating,
                state.age,
                state.timeline,
            )
            for backend in self._backends
            for name, state in self.monitor.states(backend).items()
            if state.role is not Role.UNKNOWN
        ]

    def statuses(self) -> list[EndpointStatus]:
        """Return every endpoint of the watched backends."""
        found: list[EndpointStatus] = []
        lagging = self.book.lagging
        for backend in self._backends.values():
            access, states = backend.replication, self._states(backend)
            assert access is not None
            places, primary = backend.places, self.book.primary(backend.name)
            found += [
                EndpointStatus(
                    backend=backend.name,
                    endpoint=name,
                    address=str(address),
                    region=places[name],
                    state=states.get(name),
                    is_primary=name == primary,
                    is_read=name not in lagging,
                    is_discovered=self._finder.has_found(backend.name, name),
                    max_lag=access.max_lag,
                )
                for name, address in backend.addresses.items()
            ]
        return found

    # --- rounds -----------------------------------------------------------------------------

    async def look(self, name: str) -> None:
        """Ask the endpoints of one backend that are this node's to ask, and settle what follows."""
        backend = self._backends.get(name)
        if backend is None:
            return
        await self.monitor.look(name, self._chosen(backend))
        await self._find(backend)
        backend = self._backends.get(name)
        if backend is None:  # a reload came between
            return
        changes = self.book.update(backend, self._states(backend), self._clock.now())
        for change in changes:
            self._tell_of(change)
        self.monitor.primary_is(name, self.book.primary(name))
        self._tell_problems(backend)
        self._export(backend)

    def _chosen(self, backend: Backend) -> list[str]:
        """Return the endpoints that this node asks; see the module."""
        primary = self.book.primary(backend.name)
        known = self._states(backend).get(primary)
        if known is None or known.role is not Role.PRIMARY or known.problem:
            return list(backend.endpoints)
        row = self._rtts()

        def distance(name: str) -> float:
            rtt = rtt_of(row, Target(TargetKind.BACKEND, name))
            return rtt if math.isfinite(rtt) else math.inf

        others = sorted((n for n in backend.endpoints if n != primary), key=distance)
        here = [name for name, region in backend.places.items() if region == self._region]
        return list(dict.fromkeys([primary, *here, *others[:NEAREST]]))

    def _states(self, backend: Backend) -> dict[str, EndpointState]:
        """Return what is known of a backend's endpoints, of each the newest word of any node."""
        own = self.monitor.states(backend.name)
        told = self._cluster.endpoints(self._clock.now(), backend.endpoints)
        found: dict[str, EndpointState] = {}
        for name in backend.endpoints:
            mine, theirs = own.get(name), told.get(name)
            if mine is None or theirs is None:
                state = mine or theirs
            elif mine.role is Role.UNKNOWN or theirs.age < mine.age:
                state = replace(theirs, problem=mine.problem)
            else:
                state = mine
            if state is not None:
                found[name] = state
        return found

    async def _find(self, backend: Backend) -> None:
        access, now = backend.replication, self._clock.now()
        assert access is not None
        if not access.discover or now < self._find_at.get(backend.name, -math.inf):
            return
        self._find_at[backend.name] = now + FIND_INTERVAL
        try:
            seen = await self.monitor.replicas(backend.name)
        except ReplicationError as error:
            self._log.info("probe.replicas_unknown", backend=backend.name, reason=str(error))
            seen = []
        changes = self._finder.note(backend, seen, now)
        for name, is_new in changes:
            detail = "found" if is_new else f"not seen for {KEPT:g} s"
            self._log.info("probe.replicas_changed", target=name, detail=detail)
            self._tell("probe.replicas_changed", name, detail)
        if changes:
            self._on_found()

    # --- telling ----------------------------------------------------------------------------

    def _tell_of(self, change: FreshnessChange) -> None:
        if change.kind == "lagging":
            self._log.warning("probe.replica_lagging", target=change.endpoint, reason=change.detail)
            self._tell("probe.replica_lagging", change.endpoint, change.detail)
        elif change.kind == "fresh":
            self._log.info("probe.replica_fresh", target=change.endpoint, detail=change.detail)
            self._tell("probe.replica_fresh", change.endpoint, change.detail)
        else:
            self._log.warning("probe.primary_moved", target=change.endpoint, detail=change.detail)
            self._tell("probe.primary_moved", change.endpoint, change.detail)

    def _tell_problems(self, backend: Backend) -> None:
        """Tell when an endpoint begins to be silent, and when it answers again."""
        for name, state in self.monitor.states(backend.name).items():
            before = self._problems.get(name, "")
            if state.problem and not before:
                self._log.warning("probe.replica_silent", target=name, reason=state.problem)
                self._tell("probe.replica_silent", name, state.problem)
            self._problems[name] = state.problem

    def _export(self, backend: Backend) -> None:
        metrics, told = self._metrics, set[str]()
        primary, lagging = self.book.primary(backend.name), self.book.lagging
        for name, state in self.monitor.states(backend.name).items():
            if state.role is Role.UNKNOWN:
                continue
            told.add(name)
            metrics.lag.labels(name).set(state.lag)
            metrics.set_lag_bytes(name, state.lag_bytes)
            metrics.is_read.labels(name).set(name not in lagging)
            metrics.is_primary.labels(name).set(name == primary)
        self._unexport(self._told.get(backend.name, set()) - told)
        self._told[backend.name] = told

    def _unexport(self, endpoints: Collection[str]) -> None:
        """Take what left off the graph."""
        for name in endpoints:
            self._metrics.remove(name)


def _short(position: Position) -> str:
    """Return a position as text, "" where peers would refuse it.

    For its length, or because they are of a version that does not know offsets: that one would
    refuse the whole report.
    """
    text = "" if position.kind is PositionKind.OFFSET else str(position)
    return text if len(text) <= MAX_POSITION else ""
