"""Telemetry that a process sends by itself: built from the settings, started and stopped as one.

The modules that do it are imported only where the configuration asks for them.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import onetrip
from onetrip.app.config import Settings
from onetrip.model.topology import RegionId
from onetrip.observe.logs import Log
from onetrip.observe.metrics import Metrics
from onetrip.observe.spans import OtlpSettings
from onetrip.observe.taps import LogTap, SentrySettings
from onetrip.tasks import Tasks
from onetrip.timing import Clock

if TYPE_CHECKING:
    from onetrip.observe.otlp_metrics import MetricsPush


class Drains:
    """What leaves a node besides spans, which the data plane sends.

    Args:
        log: whose events are sent.
    """

    def __init__(self, settings: Settings, metrics: Metrics, log: Log, clock: Clock) -> None:
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._push: MetricsPush | None = None
        region, otlp, sentry = settings.region, settings.otlp, settings.sentry
        log.taps += build_taps(otlp, sentry, region, metrics, clock, with_access=True)

    def start(self, tasks: Tasks, rng: Random) -> None:
        """Begin to push the metrics, where that is wanted."""
        otlp, clock = self._settings.otlp, self._clock
        if otlp is not None and otlp.metrics_interval:
            from onetrip.observe.otlp_metrics import MetricsPush

            version, region = onetrip.__version__, self._settings.region
            self._push = MetricsPush(otlp, self._metrics, version, region, clock.wall)
            tasks.every(otlp.metrics_interval, self._push.push, "metrics", clock, rng)

    async def close(self) -> None:
        """Send what is left, within a bounded time."""
        await close_taps(self._log)
        if self._push is not None:
            await self._push.close()
            self._push = None


def build_taps(
    otlp: OtlpSettings | None,
    sentry: SentrySettings | None,
    region: RegionId,
    metrics: Metrics,
    clock: Clock,
    *,
    with_access: bool,
) -> list[LogTap]:
    """Return what gets the events of a process.

    Args:
        with_access: whether access lines are written by this process.
    """
    found: list[LogTap] = []
    version = onetrip.__version__
    if otlp is not None and otlp.logs != "off":
        from onetrip.observe.otlp_logs import OtlpLogs

        takes = with_access and otlp.logs == "all"
        found.append(OtlpLogs(otlp, metrics, version, region, takes_access=takes))
    if sentry is not None:
        from onetrip.observe.sentry import SentryTap

        found.append(SentryTap(sentry, metrics, version, region, clock.now))
    return found


async def close_taps(log: Log) -> None:
    """Let every tap of a log send what is left, within a bounded time."""
    taps = list(log.taps)
    log.taps.clear()
    await asyncio.gather(*(asyncio.to_thread(tap.close) for tap in taps))
