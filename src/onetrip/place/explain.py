"""The explain record: every candidate, every term of its score, and why it was chosen or not.

Also what the toggle would do with a route, from the same run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onetrip.estimate.roundtrips import INTERVAL
from onetrip.model.catalog import Mode, Policy
from onetrip.model.measure import RouteKey
from onetrip.model.placement import Candidate, Placement, WhatIf
from onetrip.model.topology import RegionId
from onetrip.place.frame import Frame
from onetrip.place.hysteresis import RouteState, RouteView, step
from onetrip.place.score import Scores

MOST_CANDIDATES = 16
"""Regions explained a route: with hundreds of them nobody reads the last, and all pay for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One key's row of a scoring run."""

    frame: Frame
    scores: Scores
    index: int

    @property
    def default(self) -> int:
        """Index of the default region, -1 without one."""
        return int(self.frame.default[self.index])


def explain_candidates(
    row: Row,
    backends: tuple[str, ...],
    policy: Policy,
    placement: Placement,
    instances: Mapping[RegionId, bool],
    guesses: Collection[RegionId] = (),
) -> tuple[Candidate, ...]:
    """Return the terms of the best regions, best score first, and those of the default's.

    All regions up to `MOST_CANDIDATES`; regions without a score come last.

    Args:
        backends: names of the route's backends, in the frame's order.
        instances: regions that have an instance at all, and whether one is ready.
        guesses: regions to be measured before they may be chosen.
    """
    totals = row.scores.total[row.index]
    order = np.argsort(np.nan_to_num(totals, nan=np.inf), kind="stable")[:MOST_CANDIDATES].tolist()
    told = [c for c in (row.default, _column(row, placement)) if c >= 0 and c not in order]
    return tuple(
        _candidate(row, column, backends, policy, placement, instances, guesses)
        for column in order + told
    )


def _column(row: Row, placement: Placement) -> int:
    return row.frame.regions.index(placement.regions[0]) if placement.regions else -1


def what_if(row: Row, key: RouteKey, best: int, view: RouteView, now: float) -> WhatIf:
    """Return what the rules would decide for a route with the toggle on and no hint.

    Args:
        best: index of the region that it would leave its default for, or -1.
        view: as the rules saw the route in the last run.
        now: monotonic time of that run, s.
    """
    policy = replace(view.policy, mode=Mode.SMART, hint=None, share=1.0)
    regions, scores, i = row.frame.regions, row.scores, row.index
    wanted = replace(view, policy=policy, saving=None, current_gain=0.0, ahead_error=0.0)
    if best >= 0:
        gain, error = float(scores.gain[i, best]), float(scores.error[i, best])
        wanted = replace(wanted, best=regions[best], best_gain=gain, best_error=error)
    placement, _ = step(wanted, RouteState(), now)
    column = regions.index(placement.regions[0]) if placement.regions else -1
    gain = error = 0.0
    if column >= 0 and column != row.default:
        gain, error = float(scores.gain[i, column]), float(scores.error[i, column])
    half = INTERVAL * error
    return WhatIf(
        key=key,
        edge=view.edge,
        requests=view.requests,
        default=float(scores.total[i, row.default]) if row.default >= 0 else math.nan,
        placement=placement,
        predicted=float(scores.total[i, column]) if column >= 0 else math.nan,
        saving=gain,
        low=gain - half,
        high=gain + half,
    )


def _candidate(
    row: Row,
    column: int,
    backends: tuple[str, ...],
    policy: Policy,
    placement: Placement,
    instances: Mapping[RegionId, bool],
    guesses: Collection[RegionId],
) -> Candidate:
    frame, region = row.frame, row.frame.regions[column]
    terms = []
    for slot, name in enumerate(backends):
        trips = float(frame.trips[row.index, slot])
        rtt = float(frame.backend_rtt[column, frame.backend_index[row.index, slot]])
        terms.append((name, trips, rtt, trips * rtt if trips else 0.0))
    return Candidate(
        region=region,
        edge_rtt=float(frame.edge_rtt[column]),
        compute=float(frame.compute[row.index]),
        backend_trips=tuple(terms),
        score=float(row.scores.total[row.index, column]),
        verdict=_verdict(row, column, policy, placement, instances, guesses),
        endpoints=tuple(frame.endpoint(row.index, slot, column) for slot in range(len(backends))),
    )


def _verdict(
    row: Row,
    column: int,
    policy: Policy,
    placement: Placement,
    instances: Mapping[RegionId, bool],
    guesses: Collection[RegionId],
) -> str:
    region = row.frame.regions[column]
    if placement.regions and region == placement.regions[0]:
        return "chosen"
    if not policy.permits(region):
        return "not permitted by allow/deny"
    if region not in instances:
        return "no instance there"
    if not instances[region]:
        return "no ready instance, or draining"
    gain = float(row.scores.gain[row.index, column])
    if np.isnan(gain):
        return "RTT not known yet"
    if not row.frame.edge_measured[column]:
        spread = f"RTT estimated, ± {row.frame.edge_spread[column] * 1e3:.0f} ms"
        return f"{spread}: {'being measured' if region in guesses else 'starts no move'}"
    if not row.scores.fresh[row.index, column]:
        return "RTT is stale or failing: may not start a move"
    return "default" if column == row.default else _versus_default(gain)


def _versus_default(gain: float) -> str:
    if gain < 0:
        return f"{-gain * 1e3:.0f} ms slower than the default"
    return f"{gain * 1e3:.0f} ms faster than the default"
