"""What an edge answers without an instance: the phase between routing and forwarding.

Loaded only where an environment wants it. It reads no placement and tells none of what it answers
to the learning of service times: nothing here has touched a database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from onetrip.proxy.asset_server import AssetServer

if TYPE_CHECKING:
    from onetrip.model.catalog import Catalog
    from onetrip.observe.metrics import Metrics
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.wire.http1_head import RequestHead

Begin = Callable[[int, bytes], bytes]
"""Makes a response head of a status and field lines, and notes that the response has begun."""


class Edge:
    """Answers for the environments of one node."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._assets = AssetServer(services, metrics)

    def update(self, catalog: Catalog) -> None:
        """Follow another catalog; what is known of unchanged folders is kept."""
        self._assets.update({e.id: e.assets for e in catalog.environments() if e.assets})

    def close(self) -> None:
        """End its threads."""
        self._assets.close()

    async def answer(
        self, down: ClientChannel, head: RequestHead, match: Match, record: Record, begin: Begin
    ) -> bool:
        """Answer a request without an instance; False when one has to.

        Raises:
            OnetripError: the response was begun and cannot be finished.
        """
        return await self._assets.answer(down, head, match, record, begin)
