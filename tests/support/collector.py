"""An OpenTelemetry collector that keeps what it is sent, decoded by OTLP's own messages."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
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


class Collector:
    """Serves OTLP over HTTP on loopback.

    Attributes:
        spans: what arrived, in order.
        headers: of the last export.
        status: what exports are answered.
    """

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.headers: dict[str, str] = {}
        self.status = 200
        self.url = ""
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
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
            self._keep(ExportTraceServiceRequest.FromString(body))
        return web.Response(status=self.status)

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


def _plain(pairs: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}
