"""What-if as API bodies: what the toggle would do with each route and city, and what it adds up to.

Rows are ranked by the time they would save (saving × requests). Totals weigh each row by its
requests; a row that is not known yet counts as saving nothing, and is counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from onetrip.control.convert import RegionOrder
from onetrip.control.figures import milliseconds
from onetrip.model.placement import Status, WhatIf

UNKNOWN = (Status.ANALYZING, Status.INSUFFICIENT_TRAFFIC)
"""Statuses of rows whose saving is not known yet."""


class WhatIfRow(Struct, frozen=True):
    """What would become of one route at one edge.

    Attributes:
        requests: seen at this edge.
        default, default_ms: where it runs with the toggle off, and its predicted latency there.
        runs_in, predicted_ms: where it would run with the toggle on, and its latency there.
        saving_ms, low_ms, high_ms: predicted saving and its 95 % bounds; 0 where it would stay,
            null while it is not known.
        status: the status it would have; "placed" means that it would move.
        missing: what is needed before the saving is known, or "".
    """

    environment: str
    route: str
    method: str
    edge: str
    requests: int
    default: str | None
    default_ms: float | None
    runs_in: str | None
    predicted_ms: float | None
    saving_ms: float | None
    low_ms: float | None
    high_ms: float | None
    status: str
    reason: str
    missing: str


class WhatIfTotal(Struct, frozen=True):
    """The rows added up, weighted by requests; null where there is nothing to divide by.

    Attributes:
        moved_requests, moved_ratio: requests that would move, and their share of all.
        saving_ms, low_ms, high_ms: mean saving over all requests, with bounds.
        moved_saving_ms, moved_low_ms, moved_high_ms: the same over those that would move.
        routes: distinct routes, of any edge.
        unknown_routes: those of them that are not known yet at one edge at least.
        unknown_requests: requests of the rows that are not known yet.
    """

    requests: int
    moved_requests: int
    moved_ratio: float | None
    saving_ms: float | None
    low_ms: float | None
    high_ms: float | None
    moved_saving_ms: float | None
    moved_low_ms: float | None
    moved_high_ms: float | None
    routes: int
    unknown_routes: int
    unknown_requests: int


class WhatIfBody(Struct, frozen=True):
    """`GET /v1/projects/{name}/whatif`; `mode` is the toggle as it is, `total` counts rows that
    `limit` left out too."""

    project: str
    mode: str
    total: int
    totals: WhatIfTotal
    rows: list[WhatIfRow]
    next: str | None = None


def what_if_body(
    project: str, mode: str, found: Iterable[WhatIf], order: RegionOrder, limit: int, start: int = 0
) -> WhatIfBody:
    """Rank, describe and add up the rows of a project; all count, `limit` from `start` are told."""
    ranked = sorted(found, key=lambda row: (_rank(row), order.route(row.key, row.edge)))
    rows = [_row(row) for row in ranked[start : start + limit]]
    next = str(start + limit) if start + limit < len(ranked) else None
    return WhatIfBody(project, mode, len(ranked), total_of(ranked), rows, next)


def total_of(rows: Sequence[WhatIf]) -> WhatIfTotal:
    """Add up.

    The rows' errors are largely one error, because they share RTTs. So their bounds are averaged
    like the savings themselves, as if all erred the same way: the interval of the total may be
    too wide, never too narrow.
    """
    moved = [row for row in rows if _is_moved(row)]
    unknown = [row for row in rows if _is_unknown(row)]
    requests, moving = _count(rows), _count(moved)
    return WhatIfTotal(
        requests=requests,
        moved_requests=moving,
        moved_ratio=round(moving / requests, 4) if requests else None,
        saving_ms=_mean(moved, lambda row: row.saving, requests),
        low_ms=_mean(moved, lambda row: row.low, requests),
        high_ms=_mean(moved, lambda row: row.high, requests),
        moved_saving_ms=_mean(moved, lambda row: row.saving, moving),
        moved_low_ms=_mean(moved, lambda row: row.low, moving),
        moved_high_ms=_mean(moved, lambda row: row.high, moving),
        routes=len({row.key for row in rows}),
        unknown_routes=len({row.key for row in unknown}),
        unknown_requests=_count(unknown),
    )


def _row(row: WhatIf) -> WhatIfRow:
    key, placement = row.key, row.placement
    saving, low, high = (math.nan,) * 3 if _is_unknown(row) else (row.saving, row.low, row.high)
    return WhatIfRow(
        environment=key.environment.environment,
        route=key.route,
        method=key.method.value,
        edge=row.edge,
        requests=row.requests,
        default=placement.default,
        # A fit without any data predicts 0, which no request can take.
        default_ms=milliseconds(row.default) if row.default > 0 else None,
        runs_in=placement.regions[0] if placement.regions else None,
        predicted_ms=milliseconds(row.predicted) if row.predicted > 0 else None,
        saving_ms=milliseconds(saving),
        low_ms=milliseconds(low),
        high_ms=milliseconds(high),
        status=placement.status.value,
        reason=placement.reason,
        missing=placement.missing,
    )


def _rank(row: WhatIf) -> tuple[int, float]:
    """Rank what moves by the time it saves, then what is not known by its requests."""
    if _is_moved(row):
        return 0, -row.saving * row.requests
    return (1, -float(row.requests)) if _is_unknown(row) else (2, 0.0)


def _is_unknown(row: WhatIf) -> bool:
    return row.placement.status in UNKNOWN or not math.isfinite(row.saving)


def _is_moved(row: WhatIf) -> bool:
    return row.placement.status is Status.PLACED and not _is_unknown(row)


def _count(rows: Iterable[WhatIf]) -> int:
    return sum(row.requests for row in rows)


def _mean(rows: Sequence[WhatIf], value: Callable[[WhatIf], float], over: int) -> float | None:
    total = sum(value(row) * row.requests for row in rows)
    return milliseconds(total / over) if over else None
