"""Which exchanges make a span, and what it says.

A sampled `traceparent` is followed; a trace that begins here is sampled by chance, and its flag
told to the next hop. A node that gets a forwarded request is a span below the edge's. Attributes
follow OpenTelemetry's conventions for HTTP servers (1.27); never a query string or a field's value.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from onetrip.errors import Side
from onetrip.observe.spans import Attribute, Span, SpanSink
from onetrip.wire.trace_context import SAMPLED, Trace, new_trace_id, parent_value

if TYPE_CHECKING:
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.services import Services
    from onetrip.timing import Clock

KNOWN_METHODS = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
)
OTHER = "_OTHER"
"""What stands for any other method, so that values stay few."""


class Tracer:
    """Makes spans.

    Args:
        ratio: share of the traces that begin here that are sampled, 0-1.
    """

    def __init__(self, sink: SpanSink, ratio: float, rng: Random, clock: Clock) -> None:
        self._sink = sink
        self._ratio = ratio
        self._rng = rng
        self._clock = clock

    def begin(self, record: Record, trace: Trace | None) -> None:
        """Decide whether an exchange makes a span, and give it its id then."""
        if trace is None:
            is_sampled = self._rng.random() < self._ratio
        else:
            is_sampled = bool(trace.flags & SAMPLED)
            record.parent_id = trace.span_id
        if is_sampled:
            record.span_id = self._rng.getrandbits(64) or 1

    def end(self, record: Record, now: float) -> None:
        """Hand the span of a finished exchange on."""
        wall = self._clock.wall()
        error = ""
        if record.error is not None and record.error.side is not Side.DOWNSTREAM:
            error = record.error.kind.value
        elif record.status >= 500:
            error = str(record.status)
        method = record.method.decode() if record.method in KNOWN_METHODS else OTHER
        route = record.match.key.route if record.match is not None else ""
        name = "HTTP" if method == OTHER else method
        span = Span(
            name=f"{name} {route}" if route else name,
            trace_id=record.trace_id.decode(),
            span_id=record.span_id,
            parent_id=record.parent_id.decode(),
            started_at=wall - (now - record.started_at),
            ended_at=wall,
            attributes=_attributes(record, method, route, error),
            error=error,
        )
        self._sink.put(span)


def begin_trace(record: Record, trace: Trace | None, services: Services) -> None:
    """Note the trace that an exchange belongs to, beginning one where it has none."""
    record.trace_id = trace.trace_id if trace else new_trace_id(services.rng.getrandbits(128))
    if services.tracer is not None:
        services.tracer.begin(record, trace)


def parent_of(record: Record, trace: Trace | None, services: Services) -> bytes:
    """Return the `traceparent` for the next hop, whose parent is the span of this exchange."""
    flags = trace.flags if trace else 0
    if record.span_id:
        return parent_value(record.trace_id, record.span_id, flags | SAMPLED)
    return parent_value(record.trace_id, services.rng.getrandbits(64), flags)


def _attributes(record: Record, method: str, route: str, error: str) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {
        "http.request.method": method,
        "url.path": record.target.partition(b"?")[0].decode("latin-1"),
        "server.address": record.host.decode("latin-1"),
        "client.address": record.client,
        "http.response.status_code": record.status,
        "onetrip.request_id": record.request_id.decode("latin-1"),
        "onetrip.arm": record.arm.value,
        "onetrip.served_by": record.served_by,
        "onetrip.attempts": record.attempts,
        "onetrip.is_forwarded": record.from_peer,
    }
    if record.first_byte_at:
        found["onetrip.first_byte_after"] = record.first_byte_at - record.started_at
    if record.match is not None:
        found["http.route"] = route
        found["onetrip.route"] = record.match.label
    if record.region is not None:
        found["onetrip.region"] = record.region
    if record.edge is not None:
        found["onetrip.edge"] = record.edge
    if error:
        found["error.type"] = error
    return found
