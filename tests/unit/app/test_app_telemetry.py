"""`telemetry` of the configuration: what is taken, and what is refused with key and reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from onetrip.app.config import load_settings
from onetrip.errors import ConfigError
from onetrip.observe.spans import OtlpSettings


def load(folder: Path, **otlp: object) -> OtlpSettings | None:
    path = folder / "onetrip.yaml"
    config: dict[str, object] = {"regions": {"den": {}}}
    if otlp:
        config["telemetry"] = {"otlp": otlp}
    path.write_text(yaml.safe_dump(config))
    return load_settings(path).otlp


def test_nothing_is_traced_unless_wanted(tmp_path: Path) -> None:
    assert load(tmp_path) is None


def test_endpoint_headers_and_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("H", "Authorization=Bearer a=b c, x-tenant=7")
    found = load(tmp_path, endpoint="https://otel.example/base", headers_env="H", ratio=0.25)
    headers = (("Authorization", "Bearer a=b c"), ("x-tenant", "7"))
    assert found == OtlpSettings("https://otel.example/base", headers, 0.25)
    assert "Bearer" not in repr(found)
    assert load(tmp_path, endpoint="http://[::1]:4318") == OtlpSettings("http://[::1]:4318")


def test_metrics_and_traces_are_chosen(tmp_path: Path) -> None:
    found = load(tmp_path, endpoint="http://a", metrics=True, traces=False)
    assert found == OtlpSettings("http://a", has_traces=False, metrics_interval=60.0)
    found = load(tmp_path, endpoint="http://a", metrics=True, metrics_interval=5)
    assert found == OtlpSettings("http://a", metrics_interval=5.0)
    # An interval alone turns nothing on.
    assert load(tmp_path, endpoint="http://a", metrics_interval=5) == OtlpSettings("http://a")


@pytest.mark.parametrize(
    ("otlp", "reason"),
    [
        ({}, "telemetry.otlp: missing key `endpoint`"),
        ({"endpoint": "otel:4317"}, "telemetry.otlp.endpoint: Expected `str` matching"),
        ({"endpoint": "http://"}, "telemetry.otlp.endpoint: Expected `str` matching"),
        ({"endpoint": "http://:4318"}, "telemetry.otlp.endpoint: 'http://:4318' is not http"),
        ({"endpoint": "http://a:b"}, "telemetry.otlp.endpoint: 'http://a:b' is not http"),
        ({"endpoint": "http://u:p@a"}, "telemetry.otlp.endpoint: "),
        ({"endpoint": "http://a/?b=c"}, "telemetry.otlp.endpoint: "),
        ({"endpoint": "http://a/v1/traces"}, "URL without /v1/traces"),
        ({"endpoint": "http://a/v1/metrics/"}, "URL without /v1/metrics"),
        ({"endpoint": "http://a", "metrics_interval": 0.1}, "telemetry.otlp.metrics_interval: "),
        ({"endpoint": "http://a", "ratio": 2}, "telemetry.otlp.ratio: "),
        ({"endpoint": "http://a", "headers_env": "NONE"}, "NONE is not set"),
        ({"endpoint": "http://a", "headers_env": "BAD"}, "BAD is not NAME=VALUE"),
        ({"endpoint": "http://a", "headers_env": "EMPTY"}, "EMPTY is not NAME=VALUE"),
        ({"endpoint": "http://a", "protocol": "grpc"}, "unknown key `protocol`"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, otlp: dict[str, object], reason: str
) -> None:
    monkeypatch.delenv("NONE", raising=False)
    monkeypatch.setenv("BAD", "secret-without-name")
    monkeypatch.setenv("EMPTY", " ")
    path = tmp_path / "onetrip.yaml"
    config = {"regions": {"den": {}}, "telemetry": {"otlp": otlp}}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_missing_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetrip.app.telemetry.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'onetrip\[otlp\]'"):
        load(tmp_path, endpoint="http://a")
