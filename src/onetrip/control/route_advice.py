"""Advice on where each route should run, as API bodies: what to do, its gain, or what is missing.

Made from what-if rows and explain records of every edge that is known here; it is what the toggle
would do, told to somebody who has not turned it on and may have no traffic on onetrip at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from onetrip.control.convert import RegionOrder
from onetrip.control.figures import milliseconds
from onetrip.control.whatif import UNKNOWN
from onetrip.model.catalog import Catalog
from onetrip.model.placement import Candidate, Decision, Status, WhatIf
from onetrip.model.topology import RegionId

MOST_MISSING = 5
"""RTTs listed as missing of one route; who has them all the more needs no longer list."""

_NOT_AN_OPTION = ("not permitted by allow/deny", "no instance there")
"""Verdicts (`place.explain`) of regions whose RTTs nobody needs."""


class RouteAdviceRow(Struct, frozen=True):
    """What is advised for one route at one edge.

    Attributes:
        requests: what the ranking weighs it by: those seen, or an hour of the declared rates.
        source: where its round trips are from: "declared", "traffic", "relay", …, or "none".
        default, default_ms: where it runs without onetrip, and its predicted latency there.
        advice: "move", "stay", or "unknown" while something is missing.
        runs_in, predicted_ms: where it should run, and its predicted latency there.
        saving_ms, low_ms, high_ms: predicted saving of a move and its 95 % bounds.
        missing: what is needed before more can be said.
    """

    project: str
    environment: str
    route: str
    method: str
    edge: str
    requests: int
    source: str
    default: str | None
    default_ms: float | None
    advice: str
    runs_in: str | None
    predicted_ms: float | None
    saving_ms: float | None
    low_ms: float | None
    high_ms: float | None
    reason: str
    missing: list[str]


class WaitingRow(Struct, frozen=True):
    """An environment of which no route is known, and what would change that."""

    project: str
    environment: str
    missing: str


class RouteAdviceBody(Struct, frozen=True):
    """`GET /v1/advice`.

    Attributes:
        mode: "advise" where the node takes no traffic, else "serve".
        routes: the most time saved first, then what lacks something, then what stays.
        total: counts rows that `limit` left out, too.
    """

    mode: str
    total: int
    routes: list[RouteAdviceRow]
    waiting: list[WaitingRow]
    next: str | None = None


class RouteAdvisor:
    """Puts the advice of one node together.

    Args:
        is_advising: the node takes no traffic, so it learns only what it is told.
    """

    def __init__(self, catalog: Catalog, order: RegionOrder, *, is_advising: bool) -> None:
        self._catalog = catalog
        self._order = order
        self._is_advising = is_advising

    def body(
        self,
        what_if: Iterable[WhatIf],
        decisions: Iterable[Decision],
        project: str | None,
        limit: int,
        start: int = 0,
    ) -> RouteAdviceBody:
        """Return the advice on all projects or on one; `limit` rows from `start` on."""
        explained = {(d.key, d.edge): d for d in decisions}
        known = sorted(what_if, key=lambda row: self._order.route(row.key, row.edge))
        rows = [self._row(row, explained.get((row.key, row.edge))) for row in known]
        rows.sort(key=_rank)
        told = {row.key.environment for row in known}
        waiting = [
            WaitingRow(*environment.id, self._no_requests())
            for environment in self._catalog.environments()
            if environment.id not in told and project in (None, environment.id.project)
        ]
        return RouteAdviceBody(
            "advise" if self._is_advising else "serve",
            len(rows),
            rows[start : start + limit],
            waiting,
            str(start + limit) if start + limit < len(rows) else None,
        )

    def _no_requests(self) -> str:
        if self._is_advising:
            return (
                "needs its requests: declare routes with round_trips and rates, or give an access "
                "log (onetrip advise --log)"
            )
        return "needs requests"

    def _row(self, row: WhatIf, decision: Decision | None) -> RouteAdviceRow:
        key, placement = row.key, row.placement
        is_moved = placement.status is Status.PLACED and math.isfinite(row.saving)
        missing = [] if is_moved else self._missing(row, decision)
        advice = "move" if is_moved else "unknown" if missing else "stay"
        figures = (row.saving, row.low, row.high) if is_moved else (math.nan,) * 3
        return RouteAdviceRow(
            project=key.environment.project,
            environment=key.environment.environment,
            route=key.route,
            method=key.method.value,
            edge=row.edge,
            requests=row.requests,
            source=decision.trips.source if decision is not None else "none",
            default=placement.default,
            default_ms=milliseconds(row.default) if row.default > 0 else None,
            advice=advice,
            runs_in=placement.regions[0] if placement.regions else None,
            predicted_ms=milliseconds(row.predicted) if is_moved else None,
            saving_ms=milliseconds(figures[0]),
            low_ms=milliseconds(figures[1]),
            high_ms=milliseconds(figures[2]),
            reason=placement.reason,
            missing=missing,
        )

    def _missing(self, row: WhatIf, decision: Decision | None) -> list[str]:
        placement, key = row.placement, row.key
        if placement.status is Status.UNREACHABLE:
            return ["needs an instance that answers, in a region that is permitted"]
        if decision is None:  # of an edge whose node did not explain it
            return [placement.missing] if placement.missing else []
        if not any(c.backend_trips for c in decision.candidates):
            return []
        rtts = list(dict.fromkeys(_unknown_rtts(decision.candidates, row.edge)))
        if rtts:
            more = f" and {len(rtts) - MOST_MISSING} more" if len(rtts) > MOST_MISSING else ""
            return [f"needs RTTs: {', '.join(rtts[:MOST_MISSING])}{more}"]
        if placement.status not in UNKNOWN:
            return []
        if not self._is_advising or decision.trips.source == "declared":
            return [placement.missing] if placement.missing else []
        return [
            f"needs round trips of {key.method.value} {key.route}: declare them, count them with "
            "onetrip relay, or give the log of another region that runs it"
        ]


def _unknown_rtts(candidates: Sequence[Candidate], edge: RegionId) -> Iterable[str]:
    for each in candidates:
        if each.verdict in _NOT_AN_OPTION:
            continue
        if math.isnan(each.edge_rtt):
            yield f"{edge} to {each.region}"
        for backend, _, rtt, _ in each.backend_trips:
            if math.isnan(rtt):
                yield f"{each.region} to {backend}"


def _rank(row: RouteAdviceRow) -> tuple[int, float]:
    """Rank moves by the time they save, then what lacks something and what stays by requests."""
    weight = max(1, row.requests)
    if row.advice == "move":
        return 0, -(row.saving_ms or 0.0) * weight
    return 1 if row.advice == "unknown" else 2, -weight
