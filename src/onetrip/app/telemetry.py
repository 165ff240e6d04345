"""`telemetry` of the configuration: where it goes, and what makes spans."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from random import Random
from urllib.parse import urlsplit

import onetrip
from onetrip.app.schema import OtlpEntry, TelemetryEntry
from onetrip.errors import ConfigError
from onetrip.model.topology import RegionId
from onetrip.observe.metrics import Metrics
from onetrip.observe.spans import OtlpSettings, SpanSink
from onetrip.proxy.tracing import Tracer
from onetrip.timing import Clock

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128})=([!-~]([ -~]{0,2046}[!-~])?)")

_SIGNAL = re.compile(r"(/v1/(?:traces|metrics|logs))/*$")

MAX_HEADERS = 32


def build_otlp(entry: TelemetryEntry) -> OtlpSettings | None:
    """Return where telemetry goes, or None when it goes nowhere.

    Raises:
        ConfigError: the URL or the headers cannot be used, or the library is not installed.
    """
    otlp = entry.otlp
    if otlp is None:
        return None
    if find_spec("opentelemetry") is None:
        raise ConfigError("telemetry.otlp: needs pip install 'onetrip[otlp]'")
    key, url = "telemetry.otlp.endpoint", urlsplit(otlp.endpoint)
    try:
        is_whole = url.hostname is not None and url.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or url.query or url.fragment or url.username is not None:
        raise ConfigError(f"{key}: {otlp.endpoint!r} is not http[s]://HOST[:PORT][/PATH]")
    if (found := _SIGNAL.search(url.path)) is not None:
        raise ConfigError(f"{key}: is the collector's URL without {found[1]}")
    interval = otlp.metrics_interval if otlp.metrics else 0.0
    return OtlpSettings(otlp.endpoint, _headers(otlp), otlp.ratio, otlp.traces, interval)


def build_tracer(
    settings: OtlpSettings, region: RegionId, metrics: Metrics, rng: Random, clock: Clock
) -> tuple[Tracer, SpanSink]:
    """Return what makes spans, and where they go."""
    from onetrip.observe.otlp import OtlpSink  # most nodes do without

    sink = OtlpSink(settings, metrics, onetrip.__version__, region)
    return Tracer(sink, settings.ratio, rng, clock), sink


def _headers(entry: OtlpEntry) -> tuple[tuple[str, str], ...]:
    """Return the headers of an environment variable, `name=value` with commas in between."""
    if entry.headers_env is None:
        return ()
    key, text = "telemetry.otlp.headers_env", os.environ.get(entry.headers_env)
    if text is None:
        raise ConfigError(f"{key}: {entry.headers_env} is not set")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [_HEADER.fullmatch(part) for part in parts]
    if not parts or len(parts) > MAX_HEADERS or not all(found):
        raise ConfigError(f"{key}: {entry.headers_env} is not NAME=VALUE[,NAME=VALUE...]")
    return tuple((match[1], match[2]) for match in found if match is not None)
