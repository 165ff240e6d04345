"""A relay's metrics: its figures in Prometheus' format, and a listener on loopback for them."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

import onetrip
from onetrip.model.topology import Endpoint
from onetrip.observe.relay_metrics import CONTENT_TYPE, RelayMetrics
from onetrip.relay.figures import EndpointFigures, Figures
from onetrip.relay.settings import RelaySettings

PATH = "/metrics"


class Relay(Protocol):
    """What is told of, with routes or without."""

    @property
    def figures(self) -> Figures:
        """What it counts."""


class Scrape:
    """Answers whoever scrapes a relay."""

    def __init__(self, relay: Relay, settings: RelaySettings) -> None:
        self._relay = relay
        self._backend = settings.backend
        self.metrics = RelayMetrics()
        self.metrics.watch_process()
        info = (settings.backend, settings.kind.value, onetrip.__version__)
        self.metrics.info.labels(*info).set(1)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        return web.Response(body=self.text(), headers={"Content-Type": CONTENT_TYPE})

    def text(self) -> bytes:
        """Return the metrics as of now."""
        told, metrics, backend = self._relay.figures, self.metrics, self._backend
        metrics.sessions.labels(backend).set(told.sessions)
        metrics.count(metrics.taken, told.taken, backend)
        for kind, count in told.refused.items():
            metrics.count(metrics.refused, count, backend, kind.value)
        metrics.count(metrics.moved, told.sent, backend, "sent")
        metrics.count(metrics.moved, told.received, backend, "received")
        if told.endpoints:
            self._tell_routes(told)
        return metrics.expose()

    def _tell_routes(self, told: Figures) -> None:
        metrics, backend, waits = self.metrics, self._backend, told.waits
        for endpoint in told.endpoints:
            self._tell_endpoint(endpoint)
        for (name, kind), count in told.transactions.items():
            metrics.count(metrics.transactions, count, backend, name, kind)
        outcomes = {"fresh": waits.at_once, "waited": waits.waited, "stale": waits.stale}
        for outcome, count in outcomes.items():
            metrics.count(metrics.waits, count, backend, outcome)
        metrics.count(metrics.waited, waits.duration, backend)
        metrics.count(metrics.repeated, told.repeated, backend)
        metrics.count(metrics.pinned, told.pinned, backend)
        for error, count in told.errors.items():
            metrics.count(metrics.errors, count, backend, error.value)

    def _tell_endpoint(self, told: EndpointFigures) -> None:
        metrics, labels = self.metrics, (self._backend, told.name)
        metrics.pool.labels(*labels, "used").set(told.used)
        metrics.pool.labels(*labels, "idle").set(told.idle)
        metrics.waiting.labels(*labels).set(told.waiting)
        metrics.up.labels(*labels).set(told.is_up)
        metrics.primary.labels(*labels).set(told.is_primary)
        metrics.lacking.labels(*labels).set(told.lacking)
        if told.rtt:
            metrics.rtt.labels(*labels).set(told.rtt)


class MetricsServer:
    """Serves `/metrics` of one relay."""

    def __init__(self, relay: Relay, settings: RelaySettings) -> None:
        self._scrape = Scrape(relay, settings)
        self._runner: web.AppRunner | None = None

    async def start(self, where: Endpoint) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        app = web.Application(client_max_size=1024)
        app.router.add_get(PATH, self._scrape.answer)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, where.host, where.port).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()
