"""What an edge answers without an instance: the phase between routing and forwarding.

Loaded only where an environment wants it. It reads no placement, and what it answers by itself
tells nothing to the learning of service times: no database was touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onetrip.model.catalog import Catalog
    from onetrip.observe.metrics import Metrics
    from onetrip.proxy.asset_server import AssetServer
    from onetrip.proxy.cache_server import CacheServer
    from onetrip.proxy.services import Services
    from onetrip.proxy.visit import Visit


class Edge:
    """Answers for the environments of one node.

    Attributes:
        cache: None while no project keeps responses.
    """

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._assets: AssetServer | None = None
        self.cache: CacheServer | None = None

    def update(self, catalog: Catalog) -> None:
        """Follow another catalog; what is known of unchanged environments is kept."""
        assets = {e.site: e.assets for e in catalog.sites() if e.assets is not None}
        caches = {e.id.project: e.cache for e in catalog.environments() if e.cache is not None}
        if assets and self._assets is None:
            from onetrip.proxy.asset_server import AssetServer

            self._assets = AssetServer(self._services, self._metrics)
        if caches and self.cache is None:
            from onetrip.proxy.cache_server import CacheServer

            self.cache = CacheServer(self._services, self._metrics)
        if self._assets is not None:
            self._assets.update(assets)
        if self.cache is not None:
            self.cache.update(caches)

    async def close(self) -> None:
        """End its threads and tasks."""
        if self._assets is not None:
            self._assets.close()
        if self.cache is not None:
            await self.cache.close()

    async def answer(self, visit: Visit) -> bool:
        """Answer a request; False when it has to be forwarded as usual.

        Raises:
            OnetripError: it cannot be answered, or the response was begun and not finished.
        """
        environment = visit.match.environment
        if environment.assets is not None and self._assets is not None:
            if await self._assets.answer(visit):
                return True
        # While two versions answer, neither may keep what the other would be asked for.
        is_split = visit.match.candidate is not None or visit.match.is_trial
        if environment.cache is not None and self.cache is not None and not is_split:
            if not visit.dispatch.avoids_kept(visit.match):
                return await self.cache.answer(visit)
        return False
