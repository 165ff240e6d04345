"""A proxy between a client and instances that exist only as byte strings: no socket, no real time.

Whoever drives a `Stage` says what arrives and when; `outcome` is all that a proxy tells the world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, cast

from onetrip.model.measure import Observation
from onetrip.model.topology import Endpoint
from onetrip.net.dial import P
from onetrip.observe.logs import AccessLog, silent_log
from onetrip.observe.metrics import Metrics
from onetrip.proxy.downstream import Downstream
from onetrip.proxy.listener import ProxyServer
from onetrip.proxy.settings import ProxySettings
from onetrip.proxy.upstream import Upstream
from support.clock import VirtualClock
from support.proxy_parts import FakeTransport
from support.proxy_rig import DEN, AccessLines, make_catalog, make_topology

ROUNDS = 12
"""Turns of the loop after which nothing that was ready is left to do."""


class ClientTransport(FakeTransport):
    """A client that may stop reading: what is written then stays, and pauses the writer."""

    def __init__(self) -> None:
        super().__init__()
        self._protocol: Downstream | None = None
        self._is_read = True

    def write(self, data: bytes) -> None:
        """Record `data`; pause whoever writes to a client that does not read."""
        super().write(data)
        if not self._is_read:
            self.unsent += len(data)
            assert self._protocol is not None
            self._protocol.pause_writing()

    def stop_reading(self, protocol: Downstream) -> None:
        """Take nothing that is written from now on."""
        self._protocol, self._is_read = protocol, False

    def read_on(self) -> None:
        """Take everything."""
        self._is_read = True
        if self.unsent and self._protocol is not None:
            self.unsent = 0
            self._protocol.resume_writing()


class Stage:
    """One proxy, one client connection, and the upstream connections it opens.

    Args:
        in_task: give every event to the connection's task, none to the callbacks' own steps.
    """

    def __init__(self, settings: ProxySettings, *, in_task: bool) -> None:
        self.clock = VirtualClock()
        self._metrics = Metrics()
        self._lines = AccessLines()
        self._observations: list[Observation] = []
        self._upstreams: list[tuple[Upstream, FakeTransport]] = []
        self._server = ProxyServer(
            settings,
            DEN,
            self._dial,
            self.clock,
            Random(7),
            self._metrics,
            silent_log(),
            cast(AccessLog, self._lines),
            secret=None,
            on_observation=self._observations.append,
            is_ready=lambda target: True,
        )
        self._server.update(
            make_catalog({DEN: [Endpoint("10.0.0.1", 80)]}), make_topology({DEN: None})
        )
        self._services = self._server._services
        # Written at once: whether a pause is noticed one turn of the loop earlier decides nothing
        # that matters, but would decide what `outcome` is.
        self._services.outbox._call_soon = lambda flush: flush()
        self.transport = ClientTransport()
        self.client = Downstream(self._services, self._server.opened, self._server.closed)
        self.client.connection_made(cast(asyncio.Transport, self.transport))
        if in_task:
            self.client.waker = self.client.events = self.client.wakes

    async def settle(self) -> None:
        """Let the loop do what is ready."""
        for _ in range(ROUNDS):
            await asyncio.sleep(0)

    @property
    def busy(self) -> tuple[Upstream, FakeTransport] | None:
        """The upstream connection that an exchange uses, with its transport."""
        used = [pair for pair in self._upstreams if pair[0].waker is not None]
        return used[-1] if used and not used[-1][0].is_lost else None

    def sweep(self, duration: float) -> None:
        """Let `duration` s pass, and look at the connection's deadline as the server does."""
        self.clock.step(duration)
        self._services.swept_at = self.clock.now()
        if not self.client.is_lost and self.client.deadline <= self.clock.now():
            self.client.expire()

    async def end(self) -> None:
        """Lose the client, as every connection ends."""
        if not self.client.is_lost:
            self.client.connection_lost(None)
        await self.settle()
        self._services.ledger.publish(0, 0)

    def outcome(self) -> dict[str, Any]:
        """Return what the client and the instances got, and what was told about it."""
        samples = [s for family in self._metrics.registry.collect() for s in family.samples]
        return {
            "client": (self.transport.written, self.transport.closed),
            "instances": [(t.written, t.closed) for _, t in self._upstreams],
            "lines": self._lines.records,
            "observations": self._observations,
            "metrics": [
                (s.name, s.labels, s.value) for s in samples if not s.name.endswith("_created")
            ],
            "open": self._server.connections,
        }

    async def _dial(
        self,
        factory: Callable[[], P],
        host: str,
        port: int,
        *,
        timeout: float,
        tls_name: str | None = None,
        protocols: tuple[str, ...] = (),
    ) -> P:
        await asyncio.sleep(0)
        made, transport = factory(), FakeTransport()
        made.connection_made(cast(asyncio.Transport, transport))
        self._upstreams.append((cast(Upstream, made), transport))
        return made
