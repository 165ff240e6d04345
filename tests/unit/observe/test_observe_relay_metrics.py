"""Counters that stand where something else has counted to."""

from __future__ import annotations

from onetrip.observe.relay_metrics import RelayMetrics


def test_a_counter_follows_a_total_and_never_falls() -> None:
    metrics = RelayMetrics()
    seen = []
    for total in (3, 3, 7, 5, 8):
        metrics.count(metrics.errors, total, "db", "reset")
        seen.append(
            metrics.registry.get_sample_value(
                "onetrip_relay_errors_total", {"backend": "db", "kind": "reset"}
            )
        )
    assert seen == [3, 3, 7, 7, 8]


def test_labels_are_counted_apart() -> None:
    metrics = RelayMetrics()
    metrics.count(metrics.errors, 2, "db", "reset")
    metrics.count(metrics.errors, 1, "db", "timeout")
    text = metrics.expose().decode()
    assert 'onetrip_relay_errors_total{backend="db",kind="reset"} 2.0' in text
    assert 'onetrip_relay_errors_total{backend="db",kind="timeout"} 1.0' in text
