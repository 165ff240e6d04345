"""Discovery as the rest of a node sees it; a node without sources has nothing but this of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import TYPE_CHECKING

from onetrip.app.config import Settings
from onetrip.model.catalog import Catalog
from onetrip.model.measure import RttEstimate
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.app.following import Following


class Discovery:
    """Finds the instances that the configuration names sources of (`app.following`).

    Args:
        settings: returns the configuration in force.
        on_change: puts a catalog in force that is filled anew.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        tasks: Tasks,
        log: Log,
        tell: Callable[[str, str, str], None],
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        self._following: Following | None = None

        def begin() -> Following:
            from onetrip.app.following import Following

            return Following(
                settings,
                clock=clock,
                rng=rng,
                metrics=metrics.discovery,
                tasks=tasks,
                log=log,
                tell=tell,
                on_change=on_change,
            )

        self._begin = begin

    def problems(self) -> list[str]:
        """Return what is wrong with sources, for people."""
        return [] if self._following is None else self._following.problems()

    async def prepare(self, settings: Settings) -> None:
        """Follow the sources of a configuration that comes into force, and await first answers."""
        if self._following is None and settings.discovery is not None:
            self._following = self._begin()
        if self._following is not None:
            await self._following.prepare(settings)

    def fill(self, catalog: Catalog) -> Catalog:
        """Return a catalog with the instances of its sources; no others are followed from now."""
        return catalog if self._following is None else self._following.fill(catalog)

    def told(self, rows: Iterable[RttEstimate]) -> list[RttEstimate]:
        """Return a node's estimates with one for each source: what peers see of it."""
        return list(rows) if self._following is None else self._following.told(rows)

    async def close(self) -> None:
        """Close what is open; the loops end with their tasks."""
        if self._following is not None:
            await self._following.close()
