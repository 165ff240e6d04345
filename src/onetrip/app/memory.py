"""What a node remembers over a restart: service times, relayed counts, placements and pauses.

Ages, not clock values, are stored: the monotonic clock starts anew with each boot. Anything that
cannot be read is dropped with a warning, never trusted half.
"""

from __future__ import annotations

import math

import msgspec

from onetrip.estimate.flips import FlipsBook, Relayed
from onetrip.estimate.traffic import TrafficBook
from onetrip.model.measure import RouteKey, TripEvidence
from onetrip.model.topology import RegionId
from onetrip.place.hysteresis import RouteState
from onetrip.place.placer import Placer

BLOB = "learned"

ROWS_KEPT = 60
"""Service times kept a window: enough for the same estimate, small enough to write often."""


class _Window(msgspec.Struct):
    key: RouteKey
    region: RegionId
    backends: tuple[str, ...]
    rows: list[tuple[float, float, tuple[float, ...]]]


class _State(msgspec.Struct):
    key: RouteKey
    region: RegionId | None
    moved_age: float
    reverts: int
    blocked_for: float
    reverted_from: RegionId | None = None


class _Memory(msgspec.Struct):
    saved_at: float
    windows: list[_Window]
    states: list[_State]
    relayed: list[Relayed] = []


def dump(traffic: TrafficBook, placer: Placer, flips: FlipsBook, now: float, wall: float) -> bytes:
    """Return what there is to remember at monotonic time `now` and Unix time `wall`."""
    windows = [
        _Window(key, region, window.backends, [(now - at, s, r) for at, s, r in kept])
        for key in traffic.routes()
        if (route := traffic.get(key)) is not None
        for region, window in route.services.items()
        if (kept := window.rows()[-ROWS_KEPT:])
    ]
    states = [
        _State(
            key,
            s.region,
            now - s.moved_at,
            s.reverts,
            max(0.0, s.blocked_until - now),
            s.reverted_from,
        )
        for key, s in placer.states().items()
        if s != RouteState()
    ]
    return msgspec.msgpack.encode(_Memory(wall, windows, states, flips.kept(wall)))


def load(
    data: bytes, traffic: TrafficBook, placer: Placer, flips: FlipsBook, now: float, wall: float
) -> int:
    """Take over what `dump` returned and return the number of routes remembered.

    Raises:
        ValueError: the bytes cannot be read; nothing was taken over.
    """
    memory = msgspec.msgpack.decode(data, type=_Memory)
    # Time spent down counts as age; a clock set back counts as none.
    idle = max(0.0, wall - memory.saved_at)
    for window in memory.windows:
        rows = [(now - idle - age, service, rtts) for age, service, rtts in window.rows]
        good = [r for r in rows if r[1] >= 0 and len(r[2]) == len(window.backends)]
        traffic.restore(window.key, window.region, window.backends, good)
    states = {
        each.key: RouteState(
            each.region,
            now - idle - each.moved_age if math.isfinite(each.moved_age) else -math.inf,
            each.reverts,
            now + max(0.0, each.blocked_for - idle),
            each.reverted_from,
        )
        for each in memory.states
    }
    placer.restore(states)
    good_rows = [r for r in memory.relayed if all(_is_sane(found) for _, found in r.found)]
    flips.restore(good_rows, wall)
    return len(memory.windows)


def _is_sane(found: TripEvidence) -> bool:
    return 0 <= found.trips < math.inf and 0 <= found.error < math.inf
