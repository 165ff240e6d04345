"""Print docs/metrics.md, made from the declarations in `onetrip.observe.metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from onetrip.observe.metrics import Metrics, declared
from onetrip.observe.relay_metrics import RelayMetrics

HEAD = """# Metrics

Exported at `/metrics` of the admin listener, in Prometheus text format. This page is generated
from `onetrip.observe.metrics` by `make docs`; a test keeps the two equal.
Beside them stand `process_*`, what Linux knows of the node's main process: processor time, memory,
open files, start.
"""

TABLE = """| metric | type | labels | meaning |
| --- | --- | --- | --- |"""

RELAYS = """
## Relays

A [database relay](relay.md#metrics) is a process of its own and exports these, with `process_*`
beside them, where it is told to. All below `onetrip_relay_bytes_total` is told by relays with
routes.
"""


def page() -> str:
    """Return the page's text."""
    rows = [HEAD, *_table(Metrics()), RELAYS, *_table(RelayMetrics())]
    return "\n".join(rows) + "\n"


def _table(holder: object) -> list[str]:
    rows = [TABLE]
    for metric in declared(holder):
        labels = ", ".join(f"`{name}`" for name in metric._labelnames)
        rows.append(f"| `{_name(metric)}` | {_kind(metric)} | {labels} | {metric._documentation} |")
    return rows


def _name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if isinstance(metric, Counter) else metric._name


def _kind(metric: MetricWrapperBase) -> str:
    kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    return kinds[type(metric)]


if __name__ == "__main__":
    print(page(), end="")
