"""Entries about what leaves a node: telemetry and webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from onetrip.app.schema_base import Ratio, Strict, Text


class OtlpEntry(Strict):
    """`telemetry.otlp`: spans, metrics and events to an OpenTelemetry collector."""

    endpoint: Annotated[str, Meta(pattern="^https?://[!-~]+$", max_length=1024)]
    headers_env: Text | None = None
    traces: bool = True
    ratio: Ratio = 0.0
    metrics: bool = False
    metrics_interval: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    logs: Literal["off", "events", "all"] = "off"


class SentryEntry(Strict):
    """`telemetry.sentry`: errors to Sentry."""

    dsn_env: Text | None = None
    dsn_file: Text | None = None
    environment: Annotated[str, Meta(pattern="^[!-~]{0,64}$")] = ""
    level: Literal["warning", "error"] = "error"


class TelemetryEntry(Strict):
    """`telemetry`: what leaves the node about its requests."""

    otlp: OtlpEntry | None = None
    sentry: SentryEntry | None = None


class WebhookEntry(Strict):
    """One entry of `webhooks`: who is told about events."""

    name: Text
    url: Annotated[str, Meta(pattern="^https?://[!-~]+$", max_length=2048)]
    events: Annotated[
        list[Annotated[str, Meta(pattern=r"^[a-z0-9_.*]{1,64}$")]],
        Meta(min_length=1, max_length=32),
    ] = field(default_factory=lambda: ["*"])
    secret_env: Text | None = None
    secret_file: Text | None = None
