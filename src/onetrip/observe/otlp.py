"""Spans to an OpenTelemetry collector: OTLP over HTTP, in batches, on a thread of its own.

The SDK's encoder and sender are used, its way of making spans is not: ours have their ids before
they end, since the id travels to the next hop while the exchange runs. Nothing imports this module
before it is needed: the library takes about 20 MiB.
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from onetrip.observe.batches import Batches
from onetrip.observe.metrics import Metrics
from onetrip.observe.otlp_origin import resource_of, scope_of, sending
from onetrip.observe.spans import OtlpSettings, Span

MAX_PENDING_SPANS = 4096
"""Spans kept while the collector is slow (about 4 MB); further ones are counted and dropped."""

EXPORT_TIMEOUT = 5.0
"""Longest time of one export with its repetitions, s."""


class OtlpSink:
    """Exports spans; see `SpanSink`.

    Args:
        version: of onetrip.
        instance: which node this is.
        limit: most spans kept.
        timeout: longest time of one export with its repetitions, s.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        metrics: Metrics,
        version: str,
        instance: str,
        limit: int = MAX_PENDING_SPANS,
        timeout: float = EXPORT_TIMEOUT,
    ) -> None:
        self._resource = resource_of(version, instance)
        self._scope = scope_of(version)
        self._exporter = OTLPSpanExporter(**sending(settings, "traces", timeout))
        self._batches = Batches[Span]("otlp", self._export, metrics.spans, limit, timeout)

    def put(self, span: Span) -> None:
        """Queue one span, or count it as dropped; never blocks."""
        self._batches.put(span)

    def close(self) -> None:
        """Export what is left, for twice an export's time at most, and stop."""
        self._batches.close()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _export(self, batch: list[Span]) -> bool:
        result = self._exporter.export([self._readable(span) for span in batch])
        return result is SpanExportResult.SUCCESS

    def _readable(self, span: Span) -> ReadableSpan:
        trace_id, flags = int(span.trace_id, 16), TraceFlags(TraceFlags.SAMPLED)
        parent = int(span.parent_id, 16) if span.parent_id else 0
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, span.span_id, is_remote=False, trace_flags=flags),
            parent=SpanContext(trace_id, parent, is_remote=True) if parent else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=int(span.started_at * 1e9),
            end_time=int(span.ended_at * 1e9),
            instrumentation_scope=self._scope,
        )
