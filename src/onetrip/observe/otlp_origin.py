"""What all signals to an OpenTelemetry collector have in common: who sends, and how.

Like its neighbours `otlp`, `otlp_metrics` and `otlp_logs` it is imported only once it is needed.
"""

from __future__ import annotations

import logging
from typing import TypedDict

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from onetrip.observe.spans import OtlpSettings


class Sending(TypedDict):
    """What an exporter of the library is made with."""

    endpoint: str
    headers: dict[str, str]
    timeout: float
    compression: Compression


def resource_of(version: str, instance: str) -> Resource:
    """Return the sender of everything that a node exports.

    Args:
        instance: which node it is: its region.
    """
    return Resource(
        {
            "service.name": "onetrip",
            "service.version": version,
            "service.instance.id": instance,
            "onetrip.region": instance,
        }
    )


def scope_of(version: str) -> InstrumentationScope:
    """Return what made the telemetry."""
    return InstrumentationScope("onetrip", version)


def sending(settings: OtlpSettings, signal: str, timeout: float) -> Sending:
    """Return how one signal is sent.

    Args:
        signal: `traces`, `metrics` or `logs`.
        timeout: longest time of one export with its repetitions, s.
    """
    # What the library says of failures is counted; as text it would break the log's lines.
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    logging.getLogger("opentelemetry").propagate = False
    return Sending(
        endpoint=f"{settings.endpoint.rstrip('/')}/v1/{signal}",
        headers=dict(settings.headers),
        timeout=timeout,
        compression=Compression.Gzip,
    )
