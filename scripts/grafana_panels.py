"""Builders of Grafana panels, and how rows of them are laid out.

Plain dictionaries, on purpose: Grafana's own SDK for Python (`grafana-foundation-sdk`) would add a
package of generated classes to write five kinds of panel. What it would check is checked better by
the tests: names and labels against the declared metrics, every query against a real Prometheus.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

Json = dict[str, Any]

NODES = 'instance=~"$node"'
"""Every query is filtered by the nodes chosen at the top of the page."""

RATE = "[$__rate_interval]"
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${source}"}


def target(expr: str, legend: str = "", *, is_table: bool = False) -> Json:
    """Return one query; a table reads only the present."""
    shape = {"format": "table", "instant": True} if is_table else {"legendFormat": legend}
    return {"datasource": SOURCE, "expr": expr, **shape}


def rate_by(labels: str, metric: str) -> str:
    """Return the query of a counter's rate, summed by labels."""
    return f"sum by ({labels}) (rate({metric}{{{NODES}}}{RATE}))"


def panel(
    title: str,
    about: str,
    targets: list[Json],
    *,
    kind: str = "timeseries",
    unit: str = "short",
    width: int = 12,
    **more: Any,
) -> Json:
    """Return a panel without a place; `layout` gives it one."""
    letters = (chr(ord("A") + i) for i in range(len(targets)))
    return {
        "title": title,
        "description": about,
        "type": kind,
        "datasource": SOURCE,
        "targets": [{**t, "refId": letter} for t, letter in zip(targets, letters, strict=True)],
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "gridPos": {"w": width, "h": 4 if kind == "stat" else 8},
        **more,
    }


def stat(title: str, about: str, expr: str, unit: str = "short") -> Json:
    """Return one figure."""
    options = {"colorMode": "value", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return panel(title, about, [target(expr)], kind="stat", unit=unit, width=6, options=options)


def matrix(title: str, about: str, expr: str, rows: str, columns: str) -> Json:
    """Return a table with one label down, another across, and the value in the cells."""
    steps = [
        {"color": "green", "value": None},
        {"color": "yellow", "value": 0.030},
        {"color": "red", "value": 0.150},
    ]
    defaults = {
        "unit": "s",
        "decimals": 1,
        "custom": {"cellOptions": {"type": "color-background", "mode": "basic"}},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    options = {"rowField": rows, "columnField": columns, "valueField": "Value"}
    return panel(
        title,
        about,
        [target(expr, is_table=True)],
        kind="table",
        fieldConfig={"defaults": defaults, "overrides": []},
        transformations=[{"id": "groupingToMatrix", "options": options}],
    )


def page(
    uid: str,
    title: str,
    about: str,
    rows: Iterable[tuple[str, list[Json]]],
    *,
    node: str,
    info: str,
) -> Json:
    """Return a page; what is chosen at its top is the data source, and the nodes.

    Args:
        node: what one of them is called there.
        info: the metric that every one of them has.
    """
    chosen = {
        "name": "node",
        "label": node,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({info}, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["onetrip"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, chosen]},
        "panels": layout(rows),
    }


def layout(rows: Iterable[tuple[str, list[Json]]]) -> list[Json]:
    """Place panels left to right under their row's title, and number them."""
    placed: list[Json] = []
    y = 0
    for title, panels in rows:
        at = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        placed.append({"type": "row", "title": title, "collapsed": False, "gridPos": at})
        x, y, height = 0, y + 1, 0
        for each in panels:
            size = each["gridPos"]
            if x + size["w"] > WIDTH:
                x, y, height = 0, y + height, 0
            placed.append({**each, "gridPos": {"x": x, "y": y, **size}})
            x, height = x + size["w"], max(height, size["h"])
        y += height
    return [{"id": number, **each} for number, each in enumerate(placed, 1)]


def rest(
    metrics: Iterable[MetricWrapperBase], rows: Iterable[tuple[str, list[Json]]]
) -> list[Json]:
    """Return a panel for each counter and gauge that no panel of `rows` shows."""
    shown = json.dumps([panels for _, panels in rows])
    found = []
    for metric in metrics:
        is_counter = isinstance(metric, Counter)
        name = metric._name + "_total" * is_counter
        if isinstance(metric, Histogram) or name in shown:
            continue
        labels = ", ".join(metric._labelnames)
        by = f"sum by ({labels}) " if labels else "sum"
        inner = f"rate({name}{{{NODES}}}{RATE})" if is_counter else f"{name}{{{NODES}}}"
        legend = " ".join(f"{{{{{label}}}}}" for label in metric._labelnames)
        unit = "cps" if is_counter else "short"
        about = metric._documentation
        found.append(panel(name, about, [target(f"{by}({inner})", legend)], unit=unit, width=8))
    return found
