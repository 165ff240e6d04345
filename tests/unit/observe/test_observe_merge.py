"""Metrics of several processes, added up."""

from __future__ import annotations

from prometheus_client import generate_latest

from onetrip.observe.merge import Changes, MergedMetrics
from onetrip.observe.metrics import Metrics


def line(metrics: MergedMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry().get_sample_value(name, labels)


def test_counters_histograms_and_gauges_are_summed_by_label() -> None:
    own, parts = Metrics(), [Metrics(), Metrics()]
    merged = MergedMetrics(own.registry)
    own.requests.labels("shop", "2xx").inc(1)
    for number, part in enumerate(parts, 1):
        part.requests.labels("shop", "2xx").inc(10 * number)
        part.request_duration.labels("den", "default").observe(0.004)
        part.connections.labels("downstream").set(number)
        merged.take(number, Changes(part.registry).take())
    parts[1].requests.labels("other", "5xx").inc(3)
    merged.take(2, Changes(parts[1].registry).take())
    name = "onetrip_proxy_requests_total"
    assert line(merged, name, route="shop", status_class="2xx") == 31
    assert line(merged, name, route="other", status_class="5xx") == 3
    assert line(merged, "onetrip_proxy_connections", side="downstream") == 3
    duration = "onetrip_proxy_request_duration_seconds"
    told = {"region": "den", "arm": "default"}
    assert line(merged, duration + "_bucket", **told, le="0.0025") == 0
    assert line(merged, duration + "_bucket", **told, le="0.005") == 2
    assert line(merged, duration + "_count", **told) == 2
    assert line(merged, duration + "_sum", **told) == 0.008


def test_only_what_changed_is_told_and_told_again_when_it_changes() -> None:
    metrics = Metrics()
    changes = Changes(metrics.registry)
    changes.take()
    assert changes.take() == []
    metrics.retries.inc()
    assert changes.take() == [("onetrip_proxy_retries_total", (), 1.0)]
    assert changes.take() == []


def test_what_an_ended_process_counted_stays_and_its_gauges_go() -> None:
    own, part, successor = Metrics(), Metrics(), Metrics()
    merged = MergedMetrics(own.registry)
    part.retries.inc(5)
    part.connections.labels("upstream").set(7)
    part.request_duration.labels("den", "default").observe(1.0)
    merged.take(1, Changes(part.registry).take())
    merged.end(1)
    successor.retries.inc(2)
    merged.take(1, Changes(successor.registry).take())
    assert line(merged, "onetrip_proxy_retries_total") == 7
    assert not line(merged, "onetrip_proxy_connections", side="upstream")
    count = "onetrip_proxy_request_duration_seconds_count"
    assert line(merged, count, region="den", arm="default") == 1


def test_text_names_each_family_once_and_keeps_buckets_in_order() -> None:
    own, part = Metrics(), Metrics()
    merged = MergedMetrics(own.registry)
    part.request_duration.labels("den", "default").observe(0.1)
    merged.take(1, Changes(part.registry).take())
    text = generate_latest(merged.registry()).decode()
    assert text.count("# TYPE onetrip_proxy_request_duration_seconds histogram") == 1
    rows = [
        r for r in text.splitlines() if r.startswith("onetrip_proxy_request_duration_seconds_b")
    ]
    values = [float(row.rpartition(" ")[2]) for row in rows]
    assert len(values) > 5
    assert values == sorted(values)
