"""Spans: what a tracing system is told about an exchange, before anybody's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Attribute: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """One finished exchange.

    Attributes:
        trace_id: 32 hexadecimal digits.
        parent_id: 16 hexadecimal digits, or "" for the first span of its trace.
        started_at, ended_at: Unix time, s.
        error: what failed, or "".
    """

    name: str
    trace_id: str
    span_id: int
    parent_id: str
    started_at: float
    ended_at: float
    attributes: Mapping[str, Attribute]
    error: str = ""


class SpanSink(Protocol):
    """Takes finished spans."""

    def put(self, span: Span) -> None:
        """Take one span; never blocks."""

    def close(self) -> None:
        """Export what is left within a bounded time, and stop."""


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """Where telemetry goes, and which of it.

    Attributes:
        endpoint: URL of the collector, without the path of a signal.
        headers: sent with each export; may hold a credential, so they are never logged.
        ratio: share of the traces that begin here that are sampled, 0-1.
        has_traces: whether spans are sent.
        metrics_interval: time between two exports of the metrics, s; 0 for none.
        logs: `off`, `events`, or `all` with access lines.
    """

    endpoint: str
    headers: tuple[tuple[str, str], ...] = ()
    ratio: float = 0.0
    has_traces: bool = True
    metrics_interval: float = 0.0
    logs: str = "off"

    def __repr__(self) -> str:
        return f"OtlpSettings(endpoint={self.endpoint!r}, ratio={self.ratio:g})"
