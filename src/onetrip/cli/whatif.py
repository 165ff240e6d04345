"""The what-if text: a row for each city and route, most time saved first, then what it adds up to.

Pure functions of API bodies. The last line is the answer; the table above it is the reason.
"""

from __future__ import annotations

from onetrip.cli.render import DASH, left_out, plain, table
from onetrip.control.whatif import WhatIfBody, WhatIfRow, WhatIfTotal

HEADS = (
    *("CITY", "METHOD", "ROUTE", ">REQUESTS", ">NOW ms", "WOULD RUN IN", ">THEN ms", ">SAVING ms"),
    *("95 % INTERVAL", "STATUS"),
)


def what_if(body: WhatIfBody) -> str:
    """Return the table, what `limit` left out, and the total sentence."""
    if not body.total:
        return (
            f"{plain(body.project)}: no request seen yet; what the toggle would do is learned "
            "from ordinary traffic, also while it is off"
        )
    several = len({row.environment for row in body.rows}) > 1
    lines = table(HEADS, (_cells(row, several) for row in body.rows))
    return (
        f"{lines}{left_out(len(body.rows), body.total)}\n\n{sentence(body)}{_bounds(body.totals)}"
    )


def sentence(body: WhatIfBody) -> str:
    """Return what the toggle would do with the project, in one sentence."""
    found, name = body.totals, plain(body.project)
    start = f"{name} (on already): " if body.mode == "smart" else f"{name}: "
    parts = [start + _moves(found)]
    if found.unknown_routes:
        verb = "route needs" if found.unknown_routes == 1 else "routes need"
        parts.append(f"{found.unknown_routes} {verb} more traffic")
    return "; ".join(parts)


def _moves(found: WhatIfTotal) -> str:
    if not found.moved_requests or found.moved_ratio is None:
        return "no request would move"
    saving = f"saving {_ms(found.moved_saving_ms)} each ({_ms(found.saving_ms)} over all)"
    return f"{_figure(100 * found.moved_ratio)} % of requests would move, {saving}"


def _bounds(found: WhatIfTotal) -> str:
    if not found.moved_requests:
        return ""
    each = _span(found.moved_low_ms, found.moved_high_ms)
    over_all = _span(found.low_ms, found.high_ms)
    return f"\n95 % interval: {each} ms each, {over_all} ms over all {found.requests:,} requests"


def _cells(row: WhatIfRow, several: bool) -> tuple[str, ...]:
    is_moved = row.status == "placed"
    return (
        row.edge,
        row.method,
        f"{row.environment} {row.route}" if several else row.route,
        f"{row.requests:,}",
        _figure(row.default_ms),
        row.runs_in or "nowhere",
        _figure(row.predicted_ms) if is_moved else DASH,
        _figure(row.saving_ms),
        _span(row.low_ms, row.high_ms) if is_moved else DASH,
        _status(row),
    )


def _status(row: WhatIfRow) -> str:
    if row.status == "placed":
        return "would move"
    return f"{row.status}: {row.missing or row.reason}"


def _figure(value: float | None) -> str:
    """Return a number with a digit that matters: tenths below 10, none above."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    return f"{value:.1f}" if abs(value) < 9.95 else f"{value:,.0f}"


def _ms(value: float | None) -> str:
    return f"{_figure(value)} ms"


def _span(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"{_figure(low)}..{_figure(high)}"
