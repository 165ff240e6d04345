"""Which regions should be measured before a decision: those in use, and the best guesses.

With hundreds of regions a node measures the way to a few of them and estimates the rest. An
estimate starts no move. It names a *guess*: a region that would be chosen if its RTT were what the
coordinates say, or a little less. Once measured it competes, or it is no guess any more; then the
next ones are named, until none that is left could be better. Pure: who measures is told by names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onetrip.model.catalog import Mode, Policy
from onetrip.model.measure import RouteKey
from onetrip.model.topology import RegionId
from onetrip.place.frame import Frame
from onetrip.place.hysteresis import RouteState
from onetrip.place.picks import Picks
from onetrip.place.score import BLOCK

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

MOST_GUESSES = 8
"""Guesses a route names at once. Choosing among 16 measured peers and these, with the 236-city
matrix, costs 0.3 % of latency over measuring every region; three guesses cost 0.6 %."""

MOST_NAMED = 64
"""Guesses of all routes together, the ones that could save most."""

LONGEST_WAIT = 10.0
"""Seconds a route waits at its default for its guesses to be measured; a probe takes one."""

_ANY = 1e3
"""More than any latency, s: what is saved where nothing has been measured to compare with."""

_CHOSEN = 0.25
"""Share of its requests that a region counts with which a route may move to or explores."""

_OFF = 0.1
"""Share of its requests that a route counts with while its toggle is off: people are told what the
toggle would do, and that must not rest on estimates, either."""

_QUIET = 0.01
"""Requests a run that a route counts as at least, so that idle ones are measured for, too."""


class Guesses:
    """Remembers which routes wait for measurements, from run to run.

    Attributes:
        used: regions where requests run or are about to, those with most requests first.
        named: regions that are only estimated and could be better, most promising first.
    """

    def __init__(self) -> None:
        self.used: tuple[RegionId, ...] = ()
        self.named: tuple[RegionId, ...] = ()
        self._asked_at: dict[RouteKey, float] = {}

    def note(
        self,
        picks: Picks,
        states: Mapping[RouteKey, RouteState],
        policies: Sequence[Policy],
        requests: Sequence[float],
        now: float,
    ) -> list[bool]:
        """Look at a run, before its routes are placed.

        Args:
            states: what is remembered of keys.
            policies, requests: of each key: its settings, and the requests expected before the
                next run.

        Returns:
            Which keys should wait at their default for a measurement.
        """
        frame, start = picks.frame, RouteState()
        current = _indices(frame.regions, [states.get(key, start).region for key in frame.keys])
        hints = _indices(frame.regions, [p.hint for p in policies])
        weights = np.maximum(np.array(requests, dtype=float), _QUIET)
        self.used = _used(picks, (current, hints, frame.default), weights)
        terms = _Terms(
            current,
            np.array([p.least_gain for p in policies]),
            hints < 0,
        )
        is_smart = np.array([p.mode is Mode.SMART for p in policies], dtype=bool)
        weights *= np.where(is_smart, 1.0, _OFF)
        votes, asks = np.zeros(len(frame.regions)), np.zeros(len(frame.keys), dtype=bool)
        for first in range(0, len(frame.keys), BLOCK):
            rows = np.arange(first, min(first + BLOCK, len(frame.keys)))
            lead = _lead(picks, rows, terms)
            promise = np.fmax(np.fmax(lead, _reach(picks, rows, terms)), _nearer(frame, rows))
            votes += weights[rows] @ promise
            asks[rows] = lead.any(axis=1)
        best = [int(c) for c in np.argsort(-votes, kind="stable")[:MOST_NAMED]]
        self.named = tuple(frame.regions[c] for c in best if votes[c] > 0)
        moves = (current < 0) & (_gain_of(picks, picks.best) > terms.least_gain)
        return self._waits(frame.keys, (moves & asks).tolist(), now)

    def _waits(self, keys: Sequence[RouteKey], asks: Sequence[bool], now: float) -> list[bool]:
        known = self._asked_at
        asked = {key: known.get(key, now) for key, ask in zip(keys, asks, strict=True) if ask}
        self._asked_at = asked
        return [key in asked and now - asked[key] < LONGEST_WAIT for key in keys]


class _Terms(NamedTuple):
    """What is asked of each key; every array has shape (K,)."""

    current: Ints
    least_gain: Floats
    is_open: Bools


def _indices(regions: Sequence[RegionId], names: Sequence[RegionId | None]) -> Ints:
    index: dict[RegionId | None, int] = {region: i for i, region in enumerate(regions)}
    return np.array([index.get(name, -1) for name in names], dtype=np.intp)


def _gain_of(picks: Picks, chosen: Sequence[int]) -> Floats:
    """Return the gain of one region for each key, s; -inf where there is none."""
    columns = np.array(chosen, dtype=np.intp)
    gain = picks.scores.gain[np.arange(columns.size), np.maximum(columns, 0)]
    return np.where(columns >= 0, gain, -np.inf)


def _used(picks: Picks, places: Sequence[Ints], weights: Floats) -> tuple[RegionId, ...]:
    """Return the regions that keys run in, and those they are about to choose or explore."""
    regions = picks.frame.regions
    total = np.zeros(len(regions))
    chosen = [np.array(c, dtype=np.intp) for c in (picks.best, picks.safest, picks.possible)]
    for columns, share in ((places, 1.0), (chosen, _CHOSEN)):
        for column in columns:
            known = column >= 0
            np.add.at(total, column[known], share * weights[known])
    order = np.argsort(-total, kind="stable")
    return tuple(regions[c] for c in order if total[c] > 0)


def _lead(picks: Picks, rows: Ints, terms: _Terms) -> Floats:
    """Return by how much regions could beat what is measured, s, shape (k, R).

    When they are as near as their coordinates at best say; 0 where that is no reason to measure.
    """
    frame, total = picks.frame, picks.scores.total[rows]
    measured = np.where(frame.usable[rows] & frame.edge_fresh, total, np.nan)
    best = np.fmin.reduce(measured, axis=1, initial=np.nan)
    current = terms.current[rows]
    place = np.where(current >= 0, current, np.maximum(frame.default[rows], 0))
    needed = total[np.arange(rows.size), place] - terms.least_gain[rows]
    # A place that is down, or estimated itself, is nothing to compare with.
    is_known = frame.usable[rows, place] & frame.edge_measured[place]
    needed = np.where(is_known, needed, _ANY)
    beaten = np.fmin(np.fmin(best, needed), _ANY)
    ahead = beaten[:, None] - (total - frame.edge_spread)
    return _strongest(np.where(_wanted(frame, rows, total, terms), ahead, 0.0))


def _reach(picks: Picks, rows: Ints, terms: _Terms) -> Floats:
    """Return the most that regions could save over the default, s, shape (k, R).

    0 where a measured one could save as much, and once a key has left its default.
    """
    frame, reach = picks.frame, np.minimum(picks.reach[rows], _ANY)
    known = np.where(frame.edge_measured, reach, -np.inf).max(axis=1, initial=-np.inf)
    wanted = _wanted(frame, rows, picks.scores.total[rows], terms)
    wanted &= reach > np.maximum(known, terms.least_gain[rows])[:, None]
    wanted &= (terms.current[rows] < 0)[:, None]
    return _strongest(np.where(wanted, reach, 0.0))


def _nearer(frame: Frame, rows: Ints) -> Floats:
    """Return by how much regions may be nearer than each key's default, s, shape (k, R).

    0 where the RTT is fresh, or where they are not nearer even if their coordinates flatter.
    """
    default = frame.default[rows]
    distance = np.where(default >= 0, frame.edge_rtt[default], 0.0)
    ahead = np.nan_to_num(distance)[:, None] - (frame.edge_rtt - frame.edge_spread)
    wanted = frame.usable[rows] & ~frame.edge_fresh & ~np.isnan(frame.edge_rtt)
    return _strongest(np.where(wanted, ahead, 0.0))


def _wanted(frame: Frame, rows: Ints, total: Floats, terms: _Terms) -> Bools:
    usable = frame.usable[rows] & ~frame.edge_fresh & terms.is_open[rows, None]
    return np.asarray(usable & ~np.isnan(total))


def _strongest(values: Floats) -> Floats:
    """Return `values` with all but the `MOST_GUESSES` largest positive ones of each row at 0."""
    values = np.maximum(values, 0.0)
    if values.shape[1] > MOST_GUESSES:
        least = np.partition(values, -MOST_GUESSES, axis=1)[:, -MOST_GUESSES]
        values = np.where(values >= least[:, None], values, 0.0)
    return values
