"""The metrics to an OpenTelemetry collector: OTLP over HTTP, the figures that `/metrics` has.

The registry stays the only place where anything is counted: each export reads it, as a scrape
does, and turns its families into the SDK's data, which its exporter encodes and sends. Names stay
as they are (with `_total`), so that a dashboard works for both ways. Temporality is cumulative:
a failed export loses a point in time, never a count, so nothing has to be queued or sent again.

Source: OpenTelemetry, "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtlpMetric
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from onetrip.observe.metrics import Metrics
from onetrip.observe.otlp_origin import resource_of, scope_of, sending
from onetrip.observe.spans import OtlpSettings

EXPORT_TIMEOUT = 5.0
"""Longest time of one export with its repetitions, s."""

UNITS = {"_seconds": "s", "_bytes": "By", "_ratio": "1"}
"""UCUM unit of each suffix of a name."""

CUMULATIVE = AggregationTemporality.CUMULATIVE


class MetricsPush:
    """Exports the metrics of a node.

    Args:
        version: of onetrip.
        instance: which node this is.
        wall: Unix time, s.
        timeout: longest time of one export with its repetitions, s.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        metrics: Metrics,
        version: str,
        instance: str,
        wall: Callable[[], float],
        timeout: float = EXPORT_TIMEOUT,
    ) -> None:
        self._metrics = metrics
        self._wall = wall
        self._started_at = wall()
        self._timeout = timeout
        self._resource = resource_of(version, instance)
        self._scope = scope_of(version)
        self._exporter = OTLPMetricExporter(**sending(settings, "metrics", timeout))
        self._outcomes = {
            name: metrics.drains.metric_exports.labels(name) for name in ("exported", "failed")
        }
        # A thread of its own: one that waits for a collector must not keep look-ups waiting.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="otlp-metrics")

    async def push(self) -> None:
        """Export what the metrics say now; a failure is counted."""
        # Read here, as a scrape is: what the loop counts is not thread-safe.
        data = self.read()
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._thread, self._exporter.export, data)
        is_done = result is MetricExportResult.SUCCESS
        self._outcomes["exported" if is_done else "failed"].inc()

    async def close(self) -> None:
        """Export once more, within twice an export's time, and stop."""
        try:
            async with asyncio.timeout(2 * self._timeout):
                await self.push()
        except TimeoutError:
            self._outcomes["failed"].inc()
        self._exporter.shutdown()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def read(self) -> MetricsData:
        """Return the metrics of this moment."""
        start, now = (int(at * 1e9) for at in (self._started_at, self._wall()))
        families = self._metrics.exported.collect()
        found = [made for f in families if (made := _metric(f, start, now)) is not None]
        scope = ScopeMetrics(self._scope, found, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])


def _metric(family: Family, start: int, now: int) -> OtlpMetric | None:
    """Return a family of the registry as OTLP has it, or None for one without figures."""
    if family.type == "histogram":
        points = _histogram_points(family, start, now)
        data: Sum | Gauge | Histogram = Histogram(points, CUMULATIVE)
        return _named(family.name, family, data) if points else None
    if family.type == "counter":
        counts = _number_points(_having(family, family.name + "_total"), start, now)
        data = Sum(counts, CUMULATIVE, is_monotonic=True)
        return _named(family.name + "_total", family, data) if counts else None
    values = _number_points(_having(family, family.name), 0, now)
    return _named(family.name, family, Gauge(values)) if values else None


def _named(name: str, family: Family, data: Sum | Gauge | Histogram) -> OtlpMetric:
    base = family.name
    unit = next((unit for suffix, unit in UNITS.items() if base.endswith(suffix)), "")
    return OtlpMetric(name=name, description=family.documentation, unit=unit, data=data)


def _having(family: Family, name: str) -> Iterable[Sample]:
    return (sample for sample in family.samples if sample.name == name)


def _number_points(samples: Iterable[Sample], start: int, now: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(dict(s.labels), start, now, float(s.value)) for s in samples]


def _histogram_points(family: Family, start: int, now: int) -> list[HistogramDataPoint]:
    """Join the samples of each series; buckets there count all below, here only their own."""
    series: dict[tuple[tuple[str, str], ...], tuple[dict[float, float], dict[str, float]]] = {}
    for sample in family.samples:
        labels = dict(sample.labels)
        bound = labels.pop("le", None)
        buckets, totals = series.setdefault(tuple(labels.items()), ({}, {}))
        if bound is not None:
            buckets[float(bound)] = sample.value
        else:
            totals[sample.name.removeprefix(family.name)] = sample.value
    points = []
    for key, (buckets, totals) in series.items():
        bounds = sorted(buckets)
        below = [0.0, *(buckets[bound] for bound in bounds)]
        points.append(
            HistogramDataPoint(
                attributes=dict(key),
                start_time_unix_nano=start,
                time_unix_nano=now,
                count=int(totals.get("_count", below[-1])),
                sum=totals.get("_sum", 0.0),
                bucket_counts=[int(b - a) for a, b in pairwise(below)],
                explicit_bounds=[bound for bound in bounds if math.isfinite(bound)],
                # Not known; the encoder leaves what is None out of the message.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
            )
        )
    return points
