"""An OpenTelemetry collector that keeps what it is sent, decoded by OTLP's own messages."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(slots=True)
class Received:
    """One span as the collector saw it; ids are hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    duration: float
    is_error: bool
    resource: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Figures:
    """One export of metrics, in the words of the Prometheus text format.

    Attributes:
        samples: value by (name, labels in order); buckets count what is below, as there.
        kinds: `sum`, `gauge` or `histogram` of each name.
        starts: of every cumulative point, Unix time in s.
    """

    resource: dict[str, Any]
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Line:
    """One log record."""

    event: str
    severity: str
    number: int
    at: float
    trace_id: str
    body: str
    resource: dict[str, Any]
    attributes: dict[str, Any]


CUMULATIVE = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE


class Collector:
    """Serves OTLP over HTTP on loopback.

    Attributes:
        spans, metrics, lines: what arrived, in order.
        headers: of the last export.
        status: what exports are answered.
    """

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.metrics: list[Figures] = []
        self.lines: list[Line] = []
        self.headers: dict[str, str] = {}
        self.status = 200
        self.url = ""
        app = web.Application()
        app.router.add_post("/v1/{signal}", self._take)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> Collector:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        if body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        if self.status == 200:
            match request.match_info["signal"]:
                case "traces":
                    self._keep(ExportTraceServiceRequest.FromString(body))
                case "metrics":
                    self._keep_metrics(ExportMetricsServiceRequest.FromString(body))
                case "logs":
                    self._keep_lines(ExportLogsServiceRequest.FromString(body))
                case _:
                    return web.Response(status=404)
        return web.Response(status=self.status)

    def _keep_lines(self, message: Any) -> None:
        for group in message.resource_logs:
            resource = _plain(group.resource.attributes)
            for each in (record for scope in group.scope_logs for record in scope.log_records):
                self.lines.append(
                    Line(
                        each.event_name,
                        each.severity_text,
                        each.severity_number,
                        each.time_unix_nano / 1e9,
                        each.trace_id.hex(),
                        each.body.string_value,
                        resource,
                        _plain(each.attributes),
                    )
                )

    def _keep_metrics(self, message: Any) -> None:
        (group,) = message.resource_metrics
        found = Figures(_plain(group.resource.attributes))
        for metric in (each for scope in group.scope_metrics for each in scope.metrics):
            kind = metric.WhichOneof("data")
            data = getattr(metric, kind)
            assert kind == "gauge" or data.aggregation_temporality == CUMULATIVE
            assert kind != "sum" or data.is_monotonic
            found.kinds[metric.name], found.units[metric.name] = kind, metric.unit
            for point in data.data_points:
                if kind != "gauge":
                    found.starts.append(point.start_time_unix_nano / 1e9)
                _file(found, metric.name, kind, point)
        self.metrics.append(found)

    def _keep(self, message: Any) -> None:
        for group in message.resource_spans:
            resource = _plain(group.resource.attributes)
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.spans.append(
                    Received(
                        span.name,
                        span.kind,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        resource,
                        _plain(span.attributes),
                    )
                )


def _file(found: Figures, name: str, kind: str, point: Any) -> None:
    labels = tuple(sorted(_plain(point.attributes).items()))
    if kind != "histogram":
        found.samples[name, labels] = point.as_double
        return
    found.samples[name + "_sum", labels] = point.sum
    found.samples[name + "_count", labels] = point.count
    below = 0
    bounds = [*point.explicit_bounds, float("inf")]
    assert len(bounds) == len(point.bucket_counts)
    for bound, count in zip(bounds, point.bucket_counts, strict=True):
        below += count
        marked = tuple(sorted([*labels, ("le", repr(bound))]))
        found.samples[name + "_bucket", marked] = below


def _plain(pairs: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}
