"""Several trials taken together: what a person reads first, and what the bars are checked on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onetrip.simulate.report import Result, RouteRow, trip_errors


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """One policy over all seeds: means over the seeds of each number; times s."""

    policy: str
    mean: float
    p50: float
    p99: float
    ratio: float
    steady_ratio: float


@dataclass(frozen=True, slots=True)
class Summary:
    """All trials of one command.

    Attributes:
        placements: routes x edges x seeds; `right` of them at the end.
        first_right_p50, first_right_worst: requests until the first right placement, where the
            default was not right; inf when one never was.
        trip_error_p50, trip_error_worst: |learned − true| round trips where the truth is 3 to 50;
            NaN when there is none.
        moves: by the rules, over all trials; `late_moves` after the warm-up.
        replaced_worst: s from the last event to the last placement that was right again; NaN
            without an event, inf when one never was.
        explored, control: shares of the requests.
        worst_edge: largest ratio to edge execution of any edge in any trial.
    """

    seeds: int
    requests: int
    policies: tuple[PolicySummary, ...]
    placements: int
    right: int
    first_right_p50: float
    first_right_worst: float
    trip_error_p50: float
    trip_error_worst: float
    moves: int
    late_moves: int
    replaced_worst: float
    explored: float
    control: float
    worst_edge: float


def summarise(results: Sequence[Result]) -> Summary:
    """Take the trials of one command together; at least one."""
    rows = [row for result in results for row in result.routes]
    firsts = first_rights(rows)
    errors = trip_errors(rows)
    replaced = [row.replaced for row in rows if not math.isnan(row.replaced)]
    return Summary(
        seeds=len(results),
        requests=sum(result.policies[0].requests for result in results),
        policies=tuple(_policies(results)),
        placements=len(rows),
        right=sum(row.is_right for row in rows),
        first_right_p50=median(firsts),
        first_right_worst=max(firsts, default=math.nan),
        trip_error_p50=median(errors),
        trip_error_worst=max(errors, default=math.nan),
        moves=sum(row.moves for row in rows),
        late_moves=sum(row.late_moves for row in rows),
        replaced_worst=max(replaced, default=math.nan),
        explored=float(np.mean([result.explored for result in results])),
        control=float(np.mean([result.control for result in results])),
        worst_edge=max(result.worst_edge for result in results),
    )


def first_rights(rows: Sequence[RouteRow]) -> list[float]:
    """Return the requests until the first right placement, wherever the default was not right."""
    return [row.first_right for row in rows if not row.was_right and row.requests]


def median(values: Sequence[float]) -> float:
    """Return the median, NaN of nothing."""
    return sorted(values)[len(values) // 2] if values else math.nan


def _policies(results: Sequence[Result]) -> list[PolicySummary]:
    out = []
    for name in (row.policy for row in results[0].policies):
        rows = [result.policy(name) for result in results]
        table = np.array([(r.mean, r.p50, r.p99, r.ratio, r.steady_ratio) for r in rows])
        out.append(PolicySummary(name, *(float(x) for x in table.mean(axis=0))))
    return out
