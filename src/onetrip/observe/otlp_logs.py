"""Events, and access lines where wanted, to an OpenTelemetry collector: OTLP over HTTP.

An event's name is the record's `event_name` and its body, its fields are attributes. An access line
belongs to its trace, so that a backend shows it beside the span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from onetrip.observe.batches import Batches
from onetrip.observe.metrics import Metrics
from onetrip.observe.otlp_origin import resource_of, scope_of, sending
from onetrip.observe.spans import OtlpSettings

MAX_PENDING_RECORDS = 4096
"""Records kept while the collector is slow (about 4 MB); further ones are counted and dropped."""

EXPORT_TIMEOUT = 5.0
"""Longest time of one export with its repetitions, s."""

SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
}

_OWN = frozenset(("ts", "level", "event", "trace_id", "span_id"))
"""Fields that have a place of their own in a record."""


class OtlpLogs:
    """Exports events; see `LogTap`.

    Args:
        version: of onetrip.
        instance: which node this is.
        takes_access: whether access lines are exported, too.
        limit: most records kept.
        timeout: longest time of one export with its repetitions, s.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        metrics: Metrics,
        version: str,
        instance: str,
        *,
        takes_access: bool,
        limit: int = MAX_PENDING_RECORDS,
        timeout: float = EXPORT_TIMEOUT,
    ) -> None:
        self.takes_access = takes_access
        self._resource = resource_of(version, instance)
        self._scope = scope_of(version)
        self._exporter = OTLPLogExporter(**sending(settings, "logs", timeout))
        self._batches = Batches[Mapping[str, Any] | bytes](
            "otlp-logs", self._export, metrics.drains.log_records, limit, timeout
        )

    def take(self, record: Mapping[str, Any], cause: BaseException | None) -> None:
        """See `LogTap`."""
        self._batches.put(record)

    def take_lines(self, lines: Sequence[bytes]) -> None:
        """See `LogTap`."""
        self._batches.extend(lines)

    def close(self) -> None:
        """See `LogTap`."""
        self._batches.close()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _export(self, batch: list[Mapping[str, Any] | bytes]) -> bool:
        records = [self._readable(_decoded(item)) for item in batch]
        return self._exporter.export(records) is LogRecordExportResult.SUCCESS

    def _readable(self, record: Mapping[str, Any]) -> ReadableLogRecord:
        level = record.get("level", "info")
        at = int(record["ts"] * 1e9)
        made = LogRecord(
            timestamp=at,
            observed_timestamp=at,
            context=_context(record),
            severity_text=level,
            severity_number=SEVERITIES[level],
            body=record["event"],
            event_name=record["event"],
            attributes={k: _value(v) for k, v in record.items() if k not in _OWN and v is not None},
        )
        return ReadableLogRecord(made, self._resource, self._scope)


def _decoded(item: Mapping[str, Any] | bytes) -> Mapping[str, Any]:
    if not isinstance(item, bytes):
        return item
    line: dict[str, Any] = msgspec.json.decode(item)
    return line


def _context(record: Mapping[str, Any]) -> Context | None:
    trace_id = record.get("trace_id")
    if not trace_id:
        return Context()
    span = SpanContext(
        int(trace_id, 16),
        int(record.get("span_id") or "0", 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if record.get("span_id") else 0),
    )
    return set_span_in_context(NonRecordingSpan(span), Context())


def _value(value: Any) -> str | int | float | bool:
    if isinstance(value, str | int | float | bool):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()
