"""What a node keeps on disk, where `data_dir` is set: overrides, events and what was learned."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from struct import Struct

from onetrip.app import memory, policies
from onetrip.app.ring import EventRing
from onetrip.app.scoring import Scorer
from onetrip.cluster.messages import PolicyRow
from onetrip.cluster.state import ClusterState
from onetrip.control import resources, versions
from onetrip.control.store import AsyncStore
from onetrip.errors import ConfigError, OnetripError
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.resource import Resource
from onetrip.model.status import Event
from onetrip.observe.logs import Log
from onetrip.timing import Clock

BOOT = "boot"
"""Name of the blob that holds when the last run began."""

_TIME = Struct(">d")

RESTORED_EVENTS = 100
"""Events of earlier runs that are shown again."""


class Keeper:
    """Brings the store's content into the parts of a node, and back; does nothing without a store.

    Args:
        folder: where the store is, made when absent; None keeps nothing.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        traffic: TrafficBook,
        scorer: Scorer,
        cluster: ClusterState,
        events: EventRing,
        clock: Clock,
        log: Log,
    ) -> None:
        self._folder = folder
        self._traffic = traffic
        self._scorer = scorer
        self._cluster = cluster
        self._events = events
        self._clock = clock
        self._log = log
        self._store: AsyncStore | None = None
        self.is_held = False
        """Whether a successor reads the store: what was learned is then not written."""

    @property
    def is_open(self) -> bool:
        """Tell whether anything is kept."""
        return self._store is not None

    @property
    def store(self) -> AsyncStore | None:
        """The store, where there is one."""
        return self._store

    def problem(self) -> str:
        """Return why the last change could not be kept, "" if it was."""
        return self._store.problem if self._store is not None else ""

    async def open(self) -> None:
        """Open the store and take over what it holds.

        Raises:
            ConfigError: it cannot be used.
        """
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"data_dir: {self._folder} cannot be made: {error.strerror}"
            raise ConfigError(reason) from error
        self._store = store = await AsyncStore.open(self._folder / "onetrip.db")
        self._cluster.merge_policies(
            [policies.unstored(kept) for kept in await store.list_policies()]
        )
        self._events.restore(await store.list_events(RESTORED_EVENTS))
        blob = await store.load_blob(memory.BLOB)
        if blob is not None:
            self._remember(blob)

    async def begin(self, wall: float) -> float:
        """Return when this run of the node begins, s: Unix time, but always after earlier runs.

        Were the clock set back meanwhile, peers would take this run's reports for older ones.
        """
        if self._store is None:
            return wall
        kept = await self._store.load_blob(BOOT)
        boot = max(wall, _TIME.unpack(kept)[0] + 1.0) if kept is not None else wall
        with contextlib.suppress(OnetripError):  # a full disk keeps no node from starting
            await self._store.save_blob(BOOT, _TIME.pack(boot))
        return boot

    async def save(self) -> None:
        """Write what was learned."""
        if self._store is not None and not self.is_held:
            async with self._scorer.lock:
                now, wall = self._clock.now(), self._clock.wall()
                placer, flips = self._scorer.placer, self._scorer.flips
                blob = memory.dump(self._traffic, placer, flips, now, wall)
            await self._store.save_blob(memory.BLOB, blob)

    async def keep_policy(self, row: PolicyRow) -> None:
        """Write an override."""
        if self._store is not None:
            await self._store.call(versions.put, policies.stored(row), self._clock.wall())

    async def load_resources(self) -> list[Resource]:
        """Return the declared things that are kept."""
        return await self._store.call(resources.every) if self._store is not None else []

    async def keep_resources(self, rows: Sequence[Resource]) -> None:
        """Write declared things, all of them or none."""
        if self._store is not None:
            await self._store.call(resources.put, rows)

    async def forget_resources(self, rows: Sequence[Resource]) -> None:
        """Drop rows of what is gone."""
        if self._store is not None:
            await self._store.call(resources.forget, rows)

    async def keep_event(self, event: Event) -> None:
        """Write an event."""
        if self._store is not None:
            await self._store.append_event(event)

    async def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            await self._store.close()

    def _remember(self, blob: bytes) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        try:
            routes = memory.load(
                blob, self._traffic, self._scorer.placer, self._scorer.flips, now, wall
            )
        except ValueError as error:
            self._log.warning("app.memory_unreadable", reason=str(error))
            return
        self._log.info("app.remembered", routes=routes)
