"""Telemetry that a node sends by itself: built from the settings, started and stopped as one.

The modules that do it are imported only where the configuration asks for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import onetrip
from onetrip.app.config import Settings
from onetrip.observe.metrics import Metrics
from onetrip.tasks import Tasks
from onetrip.timing import Clock


class Drains:
    """What leaves one node besides spans, which the data plane sends.

    Args:
        tasks: runs what is repeated.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, tasks: Tasks, clock: Clock, rng: Random
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tasks = tasks
        self._clock = clock
        self._rng = rng
        self._closing: list[Callable[[], Awaitable[None]]] = []

    def start(self) -> None:
        """Begin to send."""
        otlp = self._settings.otlp
        if otlp is not None and otlp.metrics_interval:
            from onetrip.observe.otlp_metrics import MetricsPush

            region, clock = self._settings.region, self._clock
            push = MetricsPush(otlp, self._metrics, onetrip.__version__, region, clock.wall)
            self._tasks.every(otlp.metrics_interval, push.push, "metrics", clock, self._rng)
            self._closing.append(push.close)

    async def close(self) -> None:
        """Send what is left, within a bounded time."""
        for close in self._closing:
            await close()
        self._closing.clear()
