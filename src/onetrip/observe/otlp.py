"""Spans to an OpenTelemetry collector: OTLP over HTTP, in batches, on a thread of its own.

The SDK's encoder and sender are used, its way of making spans is not: ours have their ids before
they end, since the id travels to the next hop while the exchange runs. Nothing imports this module
before it is needed: the library takes about 20 MiB.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from onetrip.observe.metrics import Metrics
from onetrip.observe.otlp_origin import resource_of, scope_of, sending
from onetrip.observe.spans import OtlpSettings, Span

MAX_PENDING_SPANS = 4096
"""Spans kept while the collector is slow (about 4 MB); further ones are counted and dropped."""

BATCH = 512
"""Spans an export; as many as the SDK's own default."""

EXPORT_INTERVAL = 1.0
"""Longest time a span waits for others, s."""

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
        self._exported = metrics.spans.labels("exported")
        self._failed = metrics.spans.labels("failed")
        self._dropped = metrics.spans.labels("dropped")
        self._limit = limit
        self._timeout = timeout
        self._spans: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Queue one span, or count it as dropped; never blocks."""
        if len(self._spans) >= self._limit:
            self._dropped.inc()
            return
        self._spans.append(span)
        if len(self._spans) >= BATCH and not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Export what is left, for twice an export's time at most, and stop."""
        self._closing.set()
        self._wake.set()
        self._thread.join(2 * self._timeout)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(EXPORT_INTERVAL)
            self._wake.clear()
            while self._spans:
                if not self._export() and self._closing.is_set():
                    return  # a collector that is away must not keep the node

    def _export(self) -> bool:
        batch = [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]
        result = self._exporter.export(self._encoded(batch))
        is_done = result is SpanExportResult.SUCCESS
        (self._exported if is_done else self._failed).inc(len(batch))
        return is_done

    def _encoded(self, batch: Sequence[Span]) -> list[ReadableSpan]:
        return [self._readable(span) for span in batch]

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
