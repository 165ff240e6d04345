"""The rules that turn scores into a placement, one route at one edge at a time.

A pure function of a view of the world, the route's state and the time. A route leaves its default
only when the lower bound of the predicted saving is above the least gain; it comes back when the
control group says that it does not help, or when the prediction turns. Failover is not a move: the
chosen region keeps its place and is used again when it is back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from onetrip.estimate.roundtrips import ONE_SIDED
from onetrip.model.catalog import Mode, Policy
from onetrip.model.placement import Placement, Saving, Status
from onetrip.model.topology import RegionId

MIN_REQUESTS = 8
"""Requests at the default region before a learned cost is believed: enough for a trimmed mean to
survive one cold start."""

EXPLORE_BURST = 6
"""Explored requests a route may spend before the ratio of its policy limits it."""

EXPLORE_SHARE = 0.34
"""Largest share of requests explored at one moment, so that most users notice nothing."""

WANTED_EXPLORED = 4
"""Requests wanted in a region before its measured time is believed."""

QUIET_AFTER = 120.0
"""Seconds after which a route that still lacks requests is told to have too little traffic."""

REVERT_PAUSE = 600.0
"""Seconds a reverted route stays at its default; doubles with each further revert."""

MAX_REVERT_PAUSE = 86_400.0
"""Ceiling of that pause: a day later traffic, code or network may be different."""

SETTLED_WIDTH = 0.5
"""Width of the measured interval, as a ratio of the saving, below which it is told well enough."""

WATCHING_SHARE = 0.1
"""Share of the control group that is kept once the saving is proven: a route that is ten times
faster elsewhere pays 9 % of its mean latency for a control group of 1 %."""

SETTLING = "RTTs are moving: waiting for them to settle"

GUESSING = "measuring regions that may be better still"

RETURN_SHARE = 0.5
"""A placed route returns when its predicted saving falls below this share of the least gain."""


@dataclass(frozen=True, slots=True)
class RouteState:
    """What is remembered about one route at one edge.

    Attributes:
        region: where it was moved to, or None at its default.
        moved_at: monotonic time of the last move, s.
        reverts: how often the control group undid a move.
        blocked_until: no move before this time.
        reverted_from: the region that the last undone move was to.
    """

    region: RegionId | None = None
    moved_at: float = -math.inf
    reverts: int = 0
    blocked_until: float = -math.inf
    reverted_from: RegionId | None = None


@dataclass(frozen=True, slots=True)
class RouteView:
    """What the rules may look at. Gains are savings against the default, s.

    Attributes:
        ranked: usable regions, best predicted first; those without a prediction last.
        permitted: any region is permitted and configured at all.
        has_backends: the environment is bound to a backend.
        count: requests measured at the default region; `needed` of them make an estimate.
        best: the best usable region whose terms are fresh, with its gain and error.
        current_gain: of the state's region; NaN when unknown.
        ahead_error: error of what `best` saves over the state's region.
        possible: the region that could still turn out best, and the most it could save.
        possible_count: requests measured there.
        requests, explored: of this route at this edge, ever.
        upcoming: requests expected before the next run.
        age: s since the route was first seen.
        is_read: exploration may use it.
        is_settling: an RTT that the scores depend on moved just now.
        is_guessing: a region that is only estimated could be better, and is being measured.
        unknown: why scores are missing, or "".
    """

    edge: RegionId
    policy: Policy
    default: RegionId | None
    ranked: tuple[RegionId, ...]
    is_local: bool
    has_backends: bool
    count: int
    needed: int
    best: RegionId | None
    best_gain: float
    best_error: float
    current_gain: float
    ahead_error: float
    possible: RegionId | None
    possible_gain: float
    possible_count: int
    saving: Saving | None
    requests: int
    explored: int
    upcoming: float
    age: float
    is_read: bool
    is_settling: bool = False
    is_guessing: bool = False
    unknown: str = ""


def step(view: RouteView, state: RouteState, now: float) -> tuple[Placement, RouteState]:
    """Apply the rules once.

    Returns:
        The placement, and the state to pass to the next call. A move happened when its
        `moved_at` changed.
    """
    if view.default is None or not view.ranked:
        reason = "no permitted region has a ready instance"
        return Placement(Status.UNREACHABLE, (), None, reason=reason), state
    fixed = _fixed(view)
    if fixed is not None:
        return fixed, replace(state, region=None)
    if state.region is None or state.region == view.default:
        return _at_default(view, replace(state, region=None), now)
    return _placed(view, state, now)


def _fixed(view: RouteView) -> Placement | None:
    """Placements that no score can change."""
    if view.policy.mode is Mode.OFF:
        return _stay(view, Status.OFF, "placement is off")
    if view.policy.share == 0.0:
        return _stay(view, Status.OFF, "placement is off: its share is 0")
    if view.is_local:
        return _stay(view, Status.AT_EDGE, "the route is declared local")
    hint = view.policy.hint
    if hint is not None:
        if hint in view.ranked:
            regions = (hint, *(r for r in view.ranked if r != hint))
            control = view.policy.least_control if view.default in view.ranked else 0.0
            reason = f"pinned to {hint}"
            return Placement(Status.PINNED, regions, view.default, control, reason=reason)
        return Placement(
            Status.PINNED,
            view.ranked,
            view.default,
            reason=f"pinned to {hint}, which has no ready instance: failing over",
        )
    if not view.has_backends:
        return _stay(view, Status.AT_EDGE, "the environment has no backends")
    return None


def _stay(view: RouteView, status: Status, reason: str, missing: str = "") -> Placement:
    assert view.default is not None
    regions = (view.default, *(r for r in view.ranked if r != view.default))
    return Placement(status, regions, view.default, reason=reason, missing=missing)


def _at_default(view: RouteView, state: RouteState, now: float) -> tuple[Placement, RouteState]:
    if view.is_settling:
        # The paths changed: what the control group measured was of another world.
        state = replace(state, blocked_until=-math.inf)
    if now < state.blocked_until and not _looks_elsewhere(view, state):
        return _stay(view, Status.NOT_HELPING, _reverted(state.blocked_until - now)), state
    if view.count < view.needed:
        return _waiting(view), state
    sure = view.best_gain - ONE_SIDED * view.best_error
    if view.best not in (None, view.default) and sure > view.policy.least_gain:
        if view.is_settling:
            return _stay(view, Status.AT_EDGE, SETTLING), state
        if now - state.moved_at < view.policy.dwell:
            reason = f"{view.best} looks better; waiting out the dwell time"
            return _stay(view, Status.AT_EDGE, reason), state
        if view.is_guessing:
            return _stay(view, Status.ANALYZING, GUESSING, "needs the RTTs to them"), state
        moved = replace(state, region=view.best, moved_at=now)
        return _move(view, moved, view.best_gain, sure), moved
    if view.unknown:
        return _stay(view, Status.ANALYZING, "not every RTT is known", view.unknown), state
    if view.possible is None or view.possible_gain <= view.policy.least_gain:
        reason = f"no region can save more than {view.policy.least_gain * 1e3:g} ms"
        return _stay(view, Status.AT_EDGE, reason), state
    return _explore(view), state


def _looks_elsewhere(view: RouteView, state: RouteState) -> bool:
    """Tell whether a pause leaves the region alone that is best now.

    One undone move tells against its region, when what was learned since points to another one
    (new code, say). Two of them tell against the prediction.
    """
    is_other = view.best not in (None, view.default, state.reverted_from)
    return is_other and state.reverted_from is not None and state.reverts == 1


def _waiting(view: RouteView) -> Placement:
    quiet = view.age > QUIET_AFTER
    status = Status.INSUFFICIENT_TRAFFIC if quiet else Status.ANALYZING
    return _stay(view, status, "learning the round trips of the route", _lacking(view))


def _lacking(view: RouteView) -> str:
    return f"needs {_more_requests(view.needed - view.count)} from {view.edge}"


def _more_requests(count: int) -> str:
    return f"{count} more {'request' if count == 1 else 'requests'}"


def _explore(view: RouteView) -> Placement:
    region = view.possible
    lacking = max(1, WANTED_EXPLORED - view.possible_count)
    most = f"could save up to {view.possible_gain * 1e3:.0f} ms in {region}"
    if not view.is_read and not view.policy.explore_writes:
        missing = f"needs requests run in {region}; writes are never explored"
        return _stay(view, Status.ANALYZING, most, missing)
    if view.policy.explore_ratio == 0:
        missing = f"needs requests run in {region}; exploration is off"
        return _stay(view, Status.ANALYZING, most, missing)
    missing = f"needs {_more_requests(lacking)} run in {region}"
    base = _stay(view, Status.ANALYZING, most, missing)
    if not may_explore(view.policy, view.is_read, view.explored, view.requests):
        return base
    ratio = min(EXPLORE_SHARE, lacking / max(1.0, view.upcoming), view.policy.share)
    return replace(
        base, explore=region, explore_ratio=ratio, explores_writes=view.policy.explore_writes
    )


def may_explore(policy: Policy, is_read: bool, explored: int, requests: int) -> bool:
    """Tell whether a route may explore with its next requests.

    Args:
        is_read: its requests are idempotent.
        explored, requests: how many there were, ever.
    """
    if policy.explore_ratio == 0 or not (is_read or policy.explore_writes):
        return False
    return explored < max(EXPLORE_BURST, policy.explore_ratio * requests)


def _move(view: RouteView, state: RouteState, gain: float, sure: float) -> Placement:
    reason = (
        f"saves {gain * 1e3:.0f} ms a request, at least {sure * 1e3:.0f} ms "
        f"(least gain {view.policy.least_gain * 1e3:g} ms)"
    )
    return _away(view, state, reason)


def _away(view: RouteView, state: RouteState, reason: str) -> Placement:
    assert state.region is not None
    regions = (state.region, *(r for r in view.ranked if r != state.region))
    return Placement(Status.PLACED, regions, view.default, _control_ratio(view), reason=reason)


def _control_ratio(view: RouteView) -> float:
    """Return the share left at the default: all of the policy's while the saving is in question."""
    if view.default not in view.ranked:
        return 0.0
    saving, held_back = view.saving, view.policy.least_control
    ratio = max(view.policy.control_ratio, held_back)
    if saving is None or not saving.low > view.policy.least_gain:
        return ratio
    # The saving is proven. What is left watches whether it stays, and costs a tenth as much.
    settled = saving.high - saving.low < SETTLED_WIDTH * saving.mean
    return max(WATCHING_SHARE * view.policy.control_ratio, held_back) if settled else ratio


def _placed(view: RouteView, state: RouteState, now: float) -> tuple[Placement, RouteState]:
    if state.region not in view.ranked:
        reason = f"{state.region} has no ready instance: failing over until it is back"
        return Placement(Status.PLACED, view.ranked, view.default, reason=reason), state
    if _is_harmful(view.saving, view.policy.least_gain):
        if view.is_settling:
            return _stay(view, Status.AT_EDGE, SETTLING), replace(state, region=None)
        pause = min(MAX_REVERT_PAUSE, REVERT_PAUSE * 2**state.reverts)
        back = RouteState(None, now, state.reverts + 1, now + pause, state.region)
        return _stay(view, Status.NOT_HELPING, _reverted(pause)), back
    if view.is_settling:
        return _away(view, state, SETTLING), state
    if view.count < view.needed and view.policy.control_ratio > 0:
        return _remeasuring(view, state), state
    settled = now - state.moved_at >= view.policy.dwell
    extra = view.best_gain - view.current_gain
    sure = extra - ONE_SIDED * view.ahead_error
    if settled and view.best not in (None, state.region) and sure > view.policy.least_gain:
        moved = replace(state, region=view.best, moved_at=now)
        if view.best == view.default:
            moved = replace(moved, region=None)
            return _stay(view, Status.AT_EDGE, f"{view.default} is better again"), moved
        return _move(view, moved, view.best_gain, view.current_gain + sure), moved
    if settled and view.current_gain < RETURN_SHARE * view.policy.least_gain:
        back = replace(state, region=None, moved_at=now)
        reason = f"{state.region} no longer saves {view.policy.least_gain * 1e3:g} ms"
        return _stay(view, Status.AT_EDGE, reason), back
    return _away(view, state, _gain_text(view)), state


def _remeasuring(view: RouteView, state: RouteState) -> Placement:
    """Keep the place, with a control group that soon tells what the default costs now."""
    lacking = view.needed - view.count
    share = min(EXPLORE_SHARE, lacking / max(1.0, view.upcoming))
    away = _away(view, state, "measuring the default anew")
    ratio = max(away.control_ratio, share if view.default in view.ranked else 0.0)
    return replace(away, control_ratio=ratio, missing=_lacking(view))


def _reverted(pause: float) -> str:
    return (
        "the control group measured no gain, so the route came back; "
        f"it may move again in {math.ceil(pause / 60)} min"
    )


def _gain_text(view: RouteView) -> str:
    if math.isnan(view.current_gain):
        return "keeps its place while RTTs are unknown"
    return f"saves {view.current_gain * 1e3:.0f} ms a request, predicted"


def _is_harmful(saving: Saving | None, least_gain: float) -> bool:
    # NaN bounds (too little traffic) compare false.
    return saving is not None and saving.high < least_gain
