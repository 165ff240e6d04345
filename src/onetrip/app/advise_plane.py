"""The data plane of a node that takes no traffic: it listens nowhere, and is told of requests.

What an access log tells of another proxy's requests becomes the observations that a data plane of
ours would have made of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from onetrip.app.config import Settings
from onetrip.app.dataplane import Hooks, Ports
from onetrip.app.listeners import Listeners
from onetrip.model.access import ServedRequest, Taken
from onetrip.model.catalog import Catalog
from onetrip.model.edge import Purge
from onetrip.model.measure import Arm, Observation, RouteKey
from onetrip.model.placement import PlacementSnapshot
from onetrip.model.status import EnvoyStatus, WorkerStatus
from onetrip.model.topology import Topology
from onetrip.net.tls import Certificate, ServerContext
from onetrip.proxy.router import Routing
from onetrip.timing import Clock


class AdvisePlane:
    """Implements `DataPlane` without serving anything."""

    def __init__(self, settings: Settings, hooks: Hooks, clock: Clock) -> None:
        self.ports = Ports()
        self._region = settings.region
        self._on_observation = hooks.on_observation
        self._clock = clock
        self._routing = Routing.build(Catalog())
        self._snapshot = PlacementSnapshot(settings.region)

    def take(self, told: Sequence[ServedRequest]) -> Taken:
        """Learn from requests that another proxy in this region served."""
        taken = sum(self._observe(each) for each in told)
        return Taken(taken, len(told) - taken)

    def _observe(self, told: ServedRequest) -> bool:
        method, host = told.method.encode(), told.host.encode("latin-1", "replace")
        match = self._routing.match(method, host, told.path.encode("latin-1", "replace"))
        if match is None:
            return False
        self._on_observation(self._observation(told, self._routing.settle(match, told.status)))
        return True

    def _observation(self, told: ServedRequest, key: RouteKey) -> Observation:
        now, duration = self._clock.now(), told.duration
        placement = self._snapshot.find(key)
        # Where another proxy sent it is not told; the default placement is the nearest that can
        # serve, which is where whoever has no better idea sends it, too.
        region = placement.default if placement is not None else None
        region = region or self._region
        sent_at = 0.0
        if told.ended_at is not None and duration is not None:
            sent_at = now - (self._clock.wall() - told.ended_at) - duration
        return Observation(
            key=key,
            edge=self._region,
            region=region,
            arm=Arm.DEFAULT,
            latency=duration,
            service=duration if region == self._region else None,
            is_error=told.status >= 500,
            is_cold=False,
            at=now,
            sent_at=max(0.0, sent_at),
        )

    async def start(self, settings: Settings, listeners: Listeners) -> None:
        """See `DataPlane`; there is nothing to listen for."""

    def publish(self, snapshot: PlacementSnapshot) -> None:
        """See `DataPlane`."""
        self._snapshot = snapshot

    def update(self, catalog: Catalog, topology: Topology) -> None:
        """See `DataPlane`."""
        routing = Routing.build(catalog)
        routing.adopt(self._routing)
        self._routing = routing

    def use_certificates(
        self, settings: Settings, issued: Sequence[ServerContext]
    ) -> list[Certificate]:
        """See `DataPlane`; nobody is served, so none is."""
        return []

    def answer_http(self, token: str, body: str | None) -> None:
        """See `DataPlane`; no certificates are ordered."""

    def answer_tls(self, name: str, pair: bytes | None) -> None:
        """See `DataPlane`; no certificates are ordered."""

    async def purge(self, order: Purge) -> int:
        """See `DataPlane`; nothing is kept."""
        return 0

    def workers(self) -> list[WorkerStatus]:
        """See `DataPlane`."""
        return []

    def envoys(self) -> list[EnvoyStatus] | None:
        """See `DataPlane`."""
        return None

    async def drain(self, timeout: float, *, is_patient: bool) -> None:
        """See `DataPlane`; nothing is in progress."""

    async def stop(self) -> None:
        """See `DataPlane`; nothing is open."""
