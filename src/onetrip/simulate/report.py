"""What a trial shows: latency per policy, and how well and how quickly onetrip decided.

A placement is *right* when its true mean latency is within 2 %, or within the policy's least gain,
of the best region's. Below the least gain the rules are not meant to move; what that costs shows
in the ratio to the oracle, which has no such allowance.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from onetrip.model.measure import Arm
from onetrip.simulate.engine import ARMS, Change
from onetrip.simulate.trial import ONETRIP, Trial
from onetrip.simulate.world import Floats

RIGHT_RATIO = 1.02
"""A placement this close to the best one's latency is right; the bar for the mean is the same."""

LEAST_TRIPS, MOST_TRIPS = 3.0, 50.0
"""Range of true round trips whose estimates are judged."""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy in one trial; times s, `steady` after the warm-up."""

    seed: int
    policy: str
    requests: int
    mean: float
    p50: float
    p99: float
    steady_mean: float
    ratio: float
    """Mean over the oracle's mean."""
    steady_ratio: float
    regret: float
    """Mean minus the oracle's mean, s."""


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route at one edge in one trial.

    Attributes:
        chosen, best: region at the end, and the truly best one.
        loss: what the chosen one costs more than the best, true means, s.
        was_right: whether the first placement (the default) was right.
        first_right: requests of the route at this edge until its placement was right; 0 when it
            was from the start, inf when it never was.
        moves: of the rules, over the run; `late_moves` after the warm-up, without the route's
            first one, which is learning and not a change of mind.
        replaced: s from the last event until the placement was right for good; 0 when the event
            left it right, inf when it never was again, NaN without an event or when the placement
            was not right just before it.
        trips, learned: true and estimated round trips, by backend, in the world's order.
        regions: regions behind the estimate.
    """

    seed: int
    edge: str
    route: str
    chosen: str
    best: str
    loss: float
    was_right: bool
    is_right: bool
    requests: int
    first_right: float
    moves: int
    late_moves: int
    replaced: float
    trips: tuple[float, ...]
    learned: tuple[float, ...]
    regions: int
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """The numbers of one trial.

    Attributes:
        explored: share of all requests that explored.
        worst_edge: largest ratio, over the edges, of onetrip's mean to edge execution's.
    """

    seed: int
    policies: tuple[PolicyRow, ...]
    routes: tuple[RouteRow, ...]
    explored: float
    control: float
    worst_edge: float

    def policy(self, name: str) -> PolicyRow:
        """Return one policy's row."""
        return next(row for row in self.policies if row.policy == name)


def measure(trial: Trial) -> Result:
    """Judge one trial."""
    ran = ~np.isnan(trial.run.latency)
    total = max(1, int(ran.sum()))
    arms = np.bincount(trial.run.arm[ran], minlength=len(ARMS))
    return Result(
        seed=trial.plan.seed,
        policies=tuple(_policy_rows(trial, ran)),
        routes=tuple(_route_rows(trial)),
        explored=float(arms[ARMS.index(Arm.EXPLORE)]) / total,
        control=float(arms[ARMS.index(Arm.CONTROL)]) / total,
        worst_edge=_worst_edge(trial, ran),
    )


def trip_errors(rows: Iterable[RouteRow]) -> list[float]:
    """Return |learned − true| round trips wherever the truth is 3 to 50, inf when not learned."""
    out: list[float] = []
    for row in rows:
        learned = row.learned or (math.inf,) * len(row.trips)
        for true, found in zip(row.trips, learned, strict=True):
            if LEAST_TRIPS <= true <= MOST_TRIPS:
                out.append(abs(found - true))
    return out


def _policy_rows(trial: Trial, ran: np.ndarray) -> list[PolicyRow]:
    # Requests that one policy could not serve count for none of them.
    steady = ran & (trial.requests.at >= trial.plan.warm_up)
    if not steady.any():
        steady = ran
    oracle = trial.latencies["oracle"]
    base, steady_base = float(oracle[ran].mean()), float(oracle[steady].mean())
    rows = []
    for name, times in trial.latencies.items():
        p50, p99 = np.percentile(times[ran], (50, 99))
        mean, late = float(times[ran].mean()), float(times[steady].mean())
        numbers = (int(ran.sum()), mean, float(p50), float(p99), late)
        ratios = (mean / base, late / steady_base, mean - base)
        rows.append(PolicyRow(trial.plan.seed, name, *numbers, *ratios))
    return rows


def _worst_edge(trial: Trial, ran: np.ndarray) -> float:
    ratios = [0.0]
    for edge in range(len(trial.plan.world.edges)):
        mine = ran & (trial.requests.edge == edge)
        if mine.any():
            own = trial.latencies["edge execution"][mine].mean()
            ratios.append(float(trial.latencies[ONETRIP][mine].mean() / own))
    return max(ratios)


def _route_rows(trial: Trial) -> list[RouteRow]:
    world = trial.plan.world
    changes: dict[tuple[int, int], list[Change]] = {}
    for change in trial.run.changes:
        changes.setdefault((change.edge, change.route), []).append(change)
    # An edge that is down at the end serves nobody: there is nothing to judge.
    alive = dict(zip(world.regions, trial.line.alive[-1].tolist(), strict=True))
    return [
        _route_row(trial, edge, route, changes[edge, route])
        for edge, region in enumerate(world.edges)
        for route in range(len(world.routes))
        if alive[region]
    ]


def _route_row(trial: Trial, edge: int, route: int, changes: list[Change]) -> RouteRow:
    world, plan = trial.plan.world, trial.plan
    mine = (trial.requests.edge == edge) & (trial.requests.route == route)
    spans = _right_spans(trial, edge, route, changes)
    last = trial.expected[-1, edge, route]
    best, chosen = int(last.argmin()), changes[-1].region
    moves = [change.at for change in changes if change.is_move]
    learned = trial.run.estimates.get((edge, route))
    names = list(world.backends)
    return RouteRow(
        seed=plan.seed,
        edge=list(world.edges)[edge],
        route=world.routes[route].name,
        chosen=world.regions[chosen] if chosen >= 0 else "",
        best=world.regions[best],
        loss=float(last[chosen] - last[best]) if chosen >= 0 else math.inf,
        was_right=spans[0][1],
        is_right=spans[-1][1],
        requests=int(mine.sum()),
        first_right=_first_right(trial.requests.at[mine], spans),
        moves=len(moves),
        late_moves=sum(at >= plan.warm_up for at in moves[1:]),
        replaced=_replaced(trial, edge, route, changes),
        trips=tuple(trial.line.trips[-1, route].tolist()),
        learned=tuple(learned.round_trips[n] for n in names) if learned else (),
        regions=learned.regions if learned else 0,
        reason=changes[-1].reason,
    )


def _right_spans(
    trial: Trial, edge: int, route: int, changes: Sequence[Change]
) -> list[tuple[float, bool]]:
    """Return (from when, whether right) pairs in time order, from 0 on."""
    marks = sorted({*trial.line.starts.tolist(), *(change.at for change in changes)})
    stretches = trial.line.stretch(np.array(marks))
    gain = trial.plan.settings.policy.least_gain
    spans: list[tuple[float, bool]] = []
    position, region = 0, -1
    for at, stretch in zip(marks, stretches, strict=True):
        while position < len(changes) and changes[position].at <= at:
            region = changes[position].region
            position += 1
        times = trial.expected[stretch, edge, route]
        spans.append((at, region >= 0 and _is_right(times, region, gain)))
    return spans


def _is_right(times: Floats, region: int, gain: float) -> bool:
    best = float(times.min())
    return float(times[region]) <= max(RIGHT_RATIO * best, best + gain)


def _first_right(arrivals: Floats, spans: Sequence[tuple[float, bool]]) -> float:
    since = next((at for at, right in spans if right), math.inf)
    return float(np.searchsorted(arrivals, since)) if math.isfinite(since) else math.inf


def _replaced(trial: Trial, edge: int, route: int, changes: Sequence[Change]) -> float:
    event = trial.plan.event_at
    if event is None:
        event = float(trial.line.starts[-1])
        if event == 0:
            return math.nan
    # A trace has noise of its own: what counts is the level after the event.
    after = max(0, int(trial.line.stretch(np.array([event]))[0]))
    level = np.median(trial.expected[after:, edge, route], axis=0)
    gain = trial.plan.settings.policy.least_gain
    before = [c for c in changes if c.at < event]
    start = before[-1].region if before else -1
    old = np.median(trial.expected[: after or 1, edge, route], axis=0)
    if start < 0 or not _is_right(old, start, gain):
        return math.nan
    marks = [(event, start)]
    marks += [(c.at, c.region) for c in changes if c.at >= event]
    rights = [region >= 0 and _is_right(level, region, gain) for _, region in marks]
    if not rights[-1]:
        return math.inf
    wrong = [i for i, right in enumerate(rights) if not right]
    return marks[wrong[-1] + 1][0] - event if wrong else 0.0


def as_csv(rows: Sequence[PolicyRow] | Sequence[RouteRow]) -> str:
    """Return rows as CSV text with a header line; tuples are joined by blanks."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(asdict(rows[0]))
    writer.writerows([_cell(value) for value in asdict(row).values()] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{item:.6g}" for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
