"""`telemetry` of the configuration: where it goes, and what makes spans."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import onetrip
from onetrip.app.schema_outward import OtlpEntry, TelemetryEntry
from onetrip.app.security import read_secret
from onetrip.errors import ConfigError
from onetrip.model.topology import RegionId
from onetrip.observe.metrics import Metrics
from onetrip.observe.spans import OtlpSettings, SpanSink
from onetrip.observe.taps import SentrySettings
from onetrip.proxy.tracing import Tracer
from onetrip.timing import Clock

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128})=([!-~]([ -~]{0,2046}[!-~])?)")

_SIGNAL = re.compile(r"(/v1/(?:traces|metrics|logs))/*$")

_DSN = re.compile(
    r"https?://[0-9A-Za-z]{1,128}(:[0-9A-Za-z]{1,128})?@[0-9A-Za-z.\[\]:-]{1,255}/([\w.-]+/)*[0-9]+"
)

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
    return OtlpSettings(otlp.endpoint, _headers(otlp), otlp.ratio, otlp.traces, interval, otlp.logs)


def build_sentry(entry: TelemetryEntry, folder: Path) -> SentrySettings | None:
    """Return where errors are reported, or None.

    Args:
        folder: what a relative path is relative to.

    Raises:
        ConfigError: no address, one that cannot be used, or the library is not installed. The
            message never has the address: it holds a key.
    """
    sentry, key = entry.sentry, "telemetry.sentry"
    if sentry is None:
        return None
    if find_spec("sentry_sdk") is None:
        raise ConfigError(f"{key}: needs pip install 'onetrip[sentry]'")
    dsn = read_secret(folder, sentry.dsn_file, sentry.dsn_env, f"{key}.dsn")
    if dsn is None:
        raise ConfigError(f"{key}: dsn_env or dsn_file is required")
    if not _DSN.fullmatch(dsn):
        raise ConfigError(f"{key}: the DSN is not http[s]://KEY@HOST[:PORT]/[PATH/]PROJECT")
    return SentrySettings(dsn, sentry.environment, sentry.level)


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
