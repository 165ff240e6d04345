"""What is wrong with a PromQL query, as far as names and labels of our metrics tell."""

from __future__ import annotations

import re
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from onetrip.model.measure import Arm
from onetrip.model.placement import Status
from onetrip.observe.metrics import Metrics, declared

TARGET_LABELS = {"instance", "job"}
"""Labels that Prometheus adds to whatever it scrapes."""

VALUES = {"arm": {a.value for a in Arm}, "status": {s.value for s in Status}}
"""Labels whose values are a closed set of ours."""

NAME = r"onetrip_\w+|process_\w+|[a-z]+:onetrip_\w+:\w+|up"
SELECTOR = re.compile(rf"\b({NAME})\b(?!:)(?:\{{([^}}]*)\}})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


def exported(by: object = None) -> dict[str, set[str]]:
    """Return the labels of every series that a node exports, by the series' name.

    Args:
        by: holds the metrics, where they are those of something else.
    """
    found: dict[str, set[str]] = {}
    for metric in declared(by or Metrics()):
        labels = {*metric._labelnames, *TARGET_LABELS}
        if isinstance(metric, Histogram):
            found[f"{metric._name}_bucket"] = labels | {"le"}
            found[f"{metric._name}_sum"] = found[f"{metric._name}_count"] = labels
        else:
            found[metric._name + "_total" * isinstance(metric, Counter)] = labels
    for family in ProcessCollector(registry=CollectorRegistry()).collect():
        found |= {sample.name: TARGET_LABELS for sample in family.samples}
    return found


def faults(
    expr: str,
    legend: str = "",
    fields: tuple[str, ...] = (),
    more: Mapping[str, set[str]] | None = None,
) -> list[str]:
    """Return what is wrong with a query and with the labels that its panel shows.

    Args:
        more: further series and their labels, beside those that a node exports.
    """
    known, out = exported(), []
    known |= {name: labels | TARGET_LABELS for name, labels in (more or {}).items()}
    labels = set[str]()
    for name, matchers in SELECTOR.findall(expr):
        if name not in known:
            out.append(f"no metric {name}")
            continue
        labels |= known[name]
        for label, value in MATCHER.findall(matchers):
            if label not in known[name]:
                out.append(f"{name} has no label {label}")
            wrong = set(value.split("|")) - VALUES.get(label, set(value.split("|")))
            out += [f"{label} is never {each}" for each in sorted(wrong)]
    by = {n.strip() for group in re.findall(r"\bby \(([^)]*)\)", expr) for n in group.split(",")}
    out += [f"nothing has the label {name}" for name in sorted(by - labels)]
    shown = {*re.findall(r"\{\{(\w+)\}\}", legend), *fields}
    out += [f"{name} is not in the result" for name in sorted(shown - (by or labels))]
    if expr.count("(") != expr.count(")") or not labels:
        out.append("it is no query")
    return out
