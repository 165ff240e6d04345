"""What the demo promises, and whether it was kept. Pure.

The demo ends with exit code 0 only if every promise was kept, measured by its users from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onetrip_lab.mix import ROUTES, Window
from onetrip_lab.screen import ms

CHATTY, STATIC = "/orders", "/about"

MIN_SPEEDUP = 5.0
"""Least ratio of the chatty route's p50 before and after. 11 trips become one and a bit, so 10 is
expected; a half of it is left for the application's own time and a busy machine."""

MAX_DRIFT = 0.10
"""Largest change of the static route's p50."""

NOISE = 0.005
"""Change, s, below which a difference is the scheduling of a dozen processes on few cores. A single
misplaced trip costs at least 20 times more on the packaged matrix."""

MIN_LOCAL_RATIO = 0.9
"""Least share of static requests at the edge; the rest may be exploration."""

MAX_RETURN_DRIFT = 0.25
"""How far from its first p50 the chatty route may be after the toggle went off again."""

MIN_REQUESTS = 3
"""Requests below which a median proves nothing."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise and its outcome; `detail` has the numbers."""

    text: str
    is_kept: bool
    detail: str


def judge(
    edge: str, before: Window, after: Window, back: Window, total: int, failures: int
) -> list[Promise]:
    """Return every promise with its outcome.

    Args:
        edge: region whose users are followed.
        before, after, back: toggle off, smart, and off again.
        total: requests of the whole demo.
        failures: how many of them failed.
    """
    return [
        _speedup(edge, before, after),
        _static(edge, before, after),
        _return(edge, before, back),
        Promise(
            "no request fails",
            total > 0 and failures == 0,
            f"{failures} of {total:,} failed",
        ),
    ]


def all_kept(promises: Sequence[Promise]) -> bool:
    """Tell whether the demo showed what it promised."""
    return all(p.is_kept for p in promises)


def is_same(old: float, new: float) -> bool:
    """Tell whether two p50s, s, differ by no more than drift and noise."""
    return abs(new - old) <= max(MAX_DRIFT * old, NOISE)


def medians(regions: Sequence[str], window: Window) -> dict[str, dict[str, float | None]]:
    """Return p50 in ms by region and route, for programs to read."""
    return {
        region: {
            route.name: None
            if (p50 := window.p50(region, route.name)) is None
            else round(p50 * 1000, 2)
            for route in ROUTES
        }
        for region in regions
    }


def _speedup(edge: str, before: Window, after: Window) -> Promise:
    text = f"smart placement makes {CHATTY} from {edge} at least {MIN_SPEEDUP:g}x faster"
    old, new = _medians(edge, CHATTY, before, after)
    if old is None or new is None:
        return Promise(text, False, _too_few(edge, CHATTY, before, after))
    where = after.usual_placement(edge, CHATTY)
    detail = f"p50 {ms(old)} -> {ms(new)} ms, {old / new:.1f}x, {where or 'no placement header'}"
    return Promise(text, old / new >= MIN_SPEEDUP and where.startswith("remote-"), detail)


def _static(edge: str, before: Window, after: Window) -> Promise:
    text = f"{STATIC} stays at the edge, within {MAX_DRIFT:.0%} or {NOISE * 1000:g} ms"
    old, new = _medians(edge, STATIC, before, after)
    if old is None or new is None:
        return Promise(text, False, _too_few(edge, STATIC, before, after))
    local = after.ratio(edge, STATIC, lambda r: r.placement == f"local-{edge}")
    # Faster is no broken promise: less work on the machine also shows here.
    is_fast = new < old or is_same(old, new)
    detail = f"p50 {ms(old)} -> {ms(new)} ms, {local:.0%} ran in {edge}"
    return Promise(text, is_fast and local >= MIN_LOCAL_RATIO, detail)


def _return(edge: str, before: Window, back: Window) -> Promise:
    text = f"off brings {CHATTY} back, within {MAX_RETURN_DRIFT:.0%}"
    old, new = _medians(edge, CHATTY, before, back)
    if old is None or new is None:
        return Promise(text, False, _too_few(edge, CHATTY, before, back))
    detail = f"p50 {ms(old)} -> {ms(new)} ms"
    return Promise(text, abs(new - old) <= MAX_RETURN_DRIFT * old, detail)


def _medians(
    edge: str, route: str, first: Window, second: Window
) -> tuple[float | None, float | None]:
    if min(first.count(edge, route), second.count(edge, route)) < MIN_REQUESTS:
        return None, None
    return first.p50(edge, route), second.p50(edge, route)


def _too_few(edge: str, route: str, first: Window, second: Window) -> str:
    counts = f"{first.count(edge, route)} and {second.count(edge, route)}"
    return f"too few requests to tell: {counts}, wanted {MIN_REQUESTS} each"
