"""The placer: inputs to a placement snapshot, one run at a time. Pure but for its own memory.

Each run builds a frame, scores it, passes every route through the rules of `hysteresis`, and
returns a new snapshot with the moves that happened. What a run knew is kept until the next one so
that `decisions` can explain it on demand; nobody pays for explanations that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onetrip.estimate.matrix import RttMatrix
from onetrip.model.catalog import EnvironmentId, Policy
from onetrip.model.measure import MethodClass, RouteKey, ServiceSummary, TripEvidence
from onetrip.model.placement import Decision, Placement, PlacementSnapshot, Saving, Status, WhatIf
from onetrip.model.topology import RegionId
from onetrip.place.costs import CostBook, RouteCosts
from onetrip.place.defaults import (
    EnvironmentInput,
    default_region,
    unseen_placements,
    usable_regions,
)
from onetrip.place.explain import Row, explain_candidates, what_if
from onetrip.place.frame import Frame, build_frame
from onetrip.place.guesses import Guesses
from onetrip.place.hysteresis import MIN_REQUESTS, RouteState, RouteView, may_explore, step
from onetrip.place.picks import Picks
from onetrip.place.score import Scores, changed_rtts, rescore, score
from onetrip.place.shifts import Shifts

MOST_CHANGED = 0.1
"""Share of changed RTTs up to which cells are renewed one by one rather than all at once."""


@dataclass(frozen=True, slots=True)
class RouteInput:
    """A route seen at this edge.

    Attributes:
        declared: round trips by backend name, or None to learn them.
        services: measured service times of all regions.
        requests, explored: at this edge, ever; upcoming: expected before the next run.
        age: s since it was first seen.
    """

    key: RouteKey
    is_local: bool
    declared: Mapping[str, float] | None
    services: tuple[ServiceSummary, ...]
    saving: Saving | None
    requests: int
    explored: int
    upcoming: float
    age: float
    evidence: tuple[TripEvidence, ...] = ()  # round trips told by other sources than service times
    deny: frozenset[RegionId] = frozenset()  # regions it must never run in, beside the policy's


@dataclass(frozen=True, slots=True)
class Move:
    """One route that changed region at this edge. None stands for the default."""

    key: RouteKey
    source: RegionId | None
    target: RegionId | None
    reason: str
    status: Status


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What the last run knew, for explanations."""

    frame: Frame
    scores: Scores
    picks: Picks
    index: Mapping[RouteKey, int]
    costs: Sequence[RouteCosts]
    routes: Sequence[RouteInput]
    views: Sequence[RouteView]
    environments: Mapping[EnvironmentId, EnvironmentInput]
    wall: float
    now: float


class Placer:
    """Decides for one edge.

    Args:
        edge: this node's region.
    """

    def __init__(self, edge: RegionId) -> None:
        self._edge = edge
        self._states: dict[RouteKey, RouteState] = {}
        self._costs = CostBook()
        self._run: _Run | None = None
        self._shifts = Shifts()
        self.guesses: Guesses | None = None
        """Names the regions to measure before a move, where not every region is measured."""
        self.stale_trials: list[RouteKey] = []
        """Routes whose arms must be compared anew after the last run: they moved, or RTTs did."""
        self.snapshot = PlacementSnapshot(edge)

    def decide(
        self,
        matrix: RttMatrix,
        environments: Iterable[EnvironmentInput],
        routes: Sequence[RouteInput],
        now: float,
        wall: float,
    ) -> list[Move]:
        """Run once and replace `snapshot`.

        Args:
            matrix: RTTs of the cluster; holds every region and backend named elsewhere.
            now, wall: monotonic and Unix time, s.

        Returns:
            The moves, in route order.
        """
        by_id = {e.id: e for e in environments}
        routes = [r for r in routes if r.key.environment in by_id]
        views = self._views(matrix, by_id, routes, now, wall)
        moves: list[Move] = []
        placements: dict[RouteKey, Placement] = {}
        for route, view in zip(routes, views, strict=True):
            before = self._states.get(route.key, RouteState())
            placement, after = step(view, before, now)
            self._states[route.key] = after
            placements[route.key] = placement
            if after.region != before.region:
                target = after.region
                move = Move(route.key, before.region, target, placement.reason, placement.status)
                moves.append(move)
        settling = [r.key for r, v in zip(routes, views, strict=True) if v.is_settling]
        self.stale_trials = [move.key for move in moves] + settling
        self._prune(by_id)
        version = self.snapshot.version + 1
        defaults = unseen_placements(matrix, self._edge, by_id.values())
        self.snapshot = PlacementSnapshot(self._edge, version, placements, defaults)
        return moves

    def decisions(self, keys: Iterable[RouteKey] | None = None) -> list[Decision]:
        """Explain the last run's routes: all of them, or those in `keys`."""
        run = self._run
        return [] if run is None else [self._explain(run, key) for key in _among(run, keys)]

    def what_if(self, keys: Iterable[RouteKey] | None = None) -> list[WhatIf]:
        """Tell, for the last run's routes or those in `keys`, what the toggle would do."""
        run = self._run
        if run is None:
            return []
        return [
            what_if(Row(run.frame, run.scores, i), key, best, run.views[i], run.now)
            for key in _among(run, keys)
            for i in (run.index[key],)
            for best in (_from_default(run.picks, i, run.routes[i], run.views[i].policy),)
        ]

    def busiest(self, most: int) -> list[RouteKey]:
        """Return the `most` routes of the last run with most requests at this edge."""
        routes = [] if self._run is None else self._run.routes
        return [r.key for r in sorted(routes, key=lambda r: -r.requests)[:most]]

    def code_changed(self, key: RouteKey, at: float) -> None:
        """Take back a revert of `key` made since its code changed at `at`.

        Until the change was known, its control group told of the old code and its placed requests
        of the new.
        """
        state = self._states.get(key)
        if state is not None and state.reverts and state.moved_at >= at:
            changed = replace(state, reverts=state.reverts - 1, blocked_until=-math.inf)
            self._states[key] = changed

    def states(self) -> Mapping[RouteKey, RouteState]:
        """Return what is remembered per route, to be saved."""
        return self._states

    def restore(self, states: Mapping[RouteKey, RouteState]) -> None:
        """Take over remembered states, for example after a restart."""
        self._states.update(states)

    def _views(
        self,
        matrix: RttMatrix,
        environments: Mapping[EnvironmentId, EnvironmentInput],
        routes: Sequence[RouteInput],
        now: float,
        wall: float,
    ) -> list[RouteView]:
        order = [environments[r.key.environment].without(r.deny) for r in routes]
        usable = {p: usable_regions(matrix, e) for p, e in {e.place: e for e in order}.items()}
        default = {
            place: default_region(matrix, self._edge, mask) for place, mask in usable.items()
        }
        costs = [
            self._costs.of(
                route.key,
                env.backends,
                route.declared,
                route.services,
                route.evidence,
                _index_name(matrix.regions, default[env.place]),
            )
            for route, env in zip(routes, order, strict=True)
        ]
        size = (len(routes), len(matrix.regions))
        frame = build_frame(
            matrix,
            self._edge,
            [r.key for r in routes],
            [c.costs for c in costs],
            np.array([default[e.place] for e in order], dtype=np.intp),
            np.array([usable[e.place] for e in order], dtype=bool).reshape(size),
            [e.columns(r.key.method) for r, e in zip(routes, order, strict=True)],
        )
        if self._run is not None:
            self._shifts.note(self._run.frame, frame, now)
        scores = self._score(frame)
        index = {route.key: i for i, route in enumerate(routes)}
        picks = Picks(frame, scores)
        waits = [False] * len(routes)
        if self.guesses is not None:
            policies, upcoming = [e.policy for e in order], [r.upcoming for r in routes]
            waits = self.guesses.note(picks, self._states, policies, upcoming, now)
        views = [
            self._view(picks, i, routes[i], order[i], costs[i], waits[i], now)
            for i in range(len(routes))
        ]
        self._run = _Run(frame, scores, picks, index, costs, routes, views, environments, wall, now)
        return views

    def _score(self, frame: Frame) -> Scores:
        # RTTs of most pairs are the same from run to run; costs change only with new evidence.
        if self._run is not None:
            changed = changed_rtts(self._run.frame, frame)
            if changed is not None and changed.mean() < MOST_CHANGED:
                rescore(frame, self._run.scores, changed)
                return self._run.scores
        return score(frame)

    def _view(
        self,
        picks: Picks,
        i: int,
        route: RouteInput,
        env: EnvironmentInput,
        costs: RouteCosts,
        is_guessing: bool,
        now: float,
    ) -> RouteView:
        state = self._states.get(route.key, RouteState())
        regions = picks.frame.regions
        possible = picks.possible[i]
        default = _index_name(regions, int(picks.frame.default[i]))
        current = regions.index(state.region) if state.region in regions else None
        if current is None or state.region == default:
            best, ahead_error = _from_default(picks, i, route, env.policy), 0.0
        else:
            best, ahead_error = picks.from_placed(i, current, env.policy.least_gain)
        return RouteView(
            edge=self._edge,
            policy=env.policy,
            default=default,
            ranked=tuple(regions[c] for c in picks.order[i] if picks.frame.usable[i, c]),
            is_local=route.is_local,
            has_backends=bool(env.backends),
            count=costs.counts.get(default, 0) if default is not None else 0,
            needed=0 if route.declared is not None else MIN_REQUESTS,
            best=_index_name(regions, best),
            best_gain=float(picks.scores.gain[i, best]) if best >= 0 else math.nan,
            best_error=float(picks.scores.error[i, best]) if best >= 0 else math.nan,
            current_gain=picks.placed_gain(i, current),
            ahead_error=ahead_error,
            possible=_index_name(regions, possible),
            possible_gain=float(picks.reach[i, possible]) if possible >= 0 else 0.0,
            possible_count=costs.counts.get(regions[possible], 0) if possible >= 0 else 0,
            saving=route.saving,
            requests=route.requests,
            explored=route.explored,
            upcoming=route.upcoming,
            age=route.age,
            is_read=route.key.method is MethodClass.READ,
            is_settling=self._shifts.is_settling(
                picks, i, env.columns(route.key.method), env.policy.least_gain, (current, best), now
            ),
            is_guessing=is_guessing,
            unknown=picks.unknown(i),
        )

    def _prune(self, environments: Mapping[EnvironmentId, EnvironmentInput]) -> None:
        self._costs.keep(environments)
        for key in [k for k in self._states if k.environment not in environments]:
            del self._states[key]

    def _explain(self, run: _Run, key: RouteKey) -> Decision:
        i = run.index[key]
        env = run.environments[key.environment].without(run.routes[i].deny)
        placement = self.snapshot.routes[key]
        row = Row(run.frame, run.scores, i)
        estimate = replace(run.costs[i].estimate, missing=placement.missing)
        state = self._states.get(key, RouteState())
        moved_at = run.wall - (run.now - state.moved_at) if math.isfinite(state.moved_at) else 0.0
        return Decision(
            key=key,
            edge=self._edge,
            placement=placement,
            trips=estimate,
            candidates=explain_candidates(
                row,
                env.backends,
                env.policy,
                placement,
                env.instances,
                self.guesses.named if self.guesses is not None else (),
            ),
            saving=run.routes[i].saving,
            decided_at=run.wall,
            moved_at=moved_at,
        )


def _among(run: _Run, keys: Iterable[RouteKey] | None) -> Iterable[RouteKey]:
    return run.index if keys is None else [k for k in keys if k in run.index]


def _from_default(picks: Picks, i: int, route: RouteInput, policy: Policy) -> int:
    # A few explored requests soon tell which region is best; who cannot explore takes a sure one.
    is_read = route.key.method is MethodClass.READ
    if may_explore(policy, is_read, route.explored, route.requests):
        return picks.best[i]
    return picks.from_default(i, policy.least_gain)


def _index_name(regions: tuple[RegionId, ...], index: int) -> RegionId | None:
    return regions[index] if index >= 0 else None
