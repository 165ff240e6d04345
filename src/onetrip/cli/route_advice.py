"""The text of `onetrip advise`: a row for each route and edge, then what is missing to know more.

Pure functions of an API body.
"""

from __future__ import annotations

from onetrip.cli.render import DASH, left_out, ms, plain, table
from onetrip.control.route_advice import RouteAdviceBody, RouteAdviceRow

HEADS = (
    *("CITY", "ROUTE", ">REQUESTS", ">NOW ms", "ADVICE", ">THEN ms", ">SAVING ms"),
    *("95 % INTERVAL", "FROM"),
)

NO_TRAFFIC = "This node takes no traffic: what is told here would happen, and does not."


def route_advice(body: RouteAdviceBody) -> str:
    """Return the advice, the best first, and what is missing below it."""
    parts = [NO_TRAFFIC] if body.mode == "advise" else []
    if body.routes:
        rows = table(HEADS, (_cells(row) for row in body.routes))
        parts.append(rows + left_out(len(body.routes), body.total))
    elif not body.waiting:
        parts.append("no environment is declared")
    if missing := _missing(body):
        parts.append("\n".join(missing))
    return "\n\n".join(parts)


def _cells(row: RouteAdviceRow) -> tuple[str, ...]:
    is_move = row.advice == "move"
    return (
        row.edge,
        f"{row.project}/{row.environment} {row.method} {row.route}",
        f"{row.requests:,}" if row.requests else DASH,
        ms(row.default_ms),
        _advice(row),
        ms(row.predicted_ms),
        ms(row.saving_ms),
        f"{ms(row.low_ms)}..{ms(row.high_ms)}" if is_move else DASH,
        row.source,
    )


def _advice(row: RouteAdviceRow) -> str:
    if row.advice == "move":
        return f"run in {row.runs_in}"
    if row.advice == "stay":
        return f"stay: {row.reason}"
    return f"not known yet: {row.reason}"


def _missing(body: RouteAdviceBody) -> list[str]:
    """Return a line for each thing that is missing, once: many routes often lack the same."""
    lines = [
        plain(f"{row.project}/{row.environment} at {row.edge}: {text}")
        for row in body.routes
        for text in row.missing
    ]
    return list(dict.fromkeys(lines)) + [
        plain(f"{w.project}/{w.environment}: {w.missing}") for w in body.waiting
    ]
