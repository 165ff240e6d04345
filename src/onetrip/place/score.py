"""The score: predicted latency of every route in every region, and how sure the prediction is.

    score(X) = RTT(edge, X) + compute + Σ round_trips(d) · RTT(X, d)

Vectorised over keys × regions × backends, in blocks of keys that fit the processor's cache.
`gain` compares a region with the route's default; compute is the same in both and cancels, so its
uncertainty does not matter to a move. When only some RTTs changed, `rescore` renews just the cells
that depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrip.estimate.filters import RELATIVE_ERROR
from onetrip.place.frame import RTT_ERROR, Frame

BLOCK = 256
"""Keys scored together: 256 x 330 regions x 8 backends of float64 is 5 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Result of one run; every array has shape (K, R), s.

    Attributes:
        total: predicted latency, NaN where a term is unknown.
        gain: total(default) − total; positive is faster than the default.
        error: standard deviation of `gain`.
        ceiling: the largest gain that the measured service time allows at all, whatever its
            split between compute and backends.
        fresh: every term of the region and of the default may start a move.
    """

    total: np.ndarray
    gain: np.ndarray
    error: np.ndarray
    ceiling: np.ndarray
    fresh: np.ndarray


def score(frame: Frame) -> Scores:
    """Score every key of the frame in every region."""
    shape = (len(frame.keys), len(frame.regions))
    times = [np.empty(shape) for _ in range(4)]
    out = Scores(times[0], times[1], times[2], times[3], np.empty(shape, dtype=bool))
    columns = np.arange(shape[1])
    for start in range(0, shape[0], BLOCK):
        rows = np.arange(start, min(start + BLOCK, shape[0]))
        _fill(frame, rows, columns, out, slice(start, start + BLOCK))
    return out


def rescore(frame: Frame, scores: Scores, changed: np.ndarray) -> None:
    """Renew the scores in place after some RTTs changed: only what depends on them.

    Args:
        frame: the new frame; keys, costs, defaults and usable regions as in the old one.
        scores: of the old frame; afterwards, of the new one.
        changed: which RTTs differ, shape (R, B + 1); the last column stands for the RTT from the
            edge to the region.
    """
    padding = frame.backend_rtt.shape[1] - 1
    for column in np.flatnonzero(changed.any(axis=1)):
        hit = changed[column].copy()
        if hit[padding]:
            rows = np.arange(len(frame.keys))
        else:
            hit[padding] = False
            rows = np.flatnonzero(hit[frame.backend_index].any(axis=1))
        own = np.maximum(frame.default[rows], 0) == column
        # Where the default changed, every gain of the row does.
        _fill_blocks(frame, rows[own], np.arange(len(frame.regions)), scores)
        _fill_blocks(frame, rows[~own], np.array([column]), scores)


def difference_errors(frame: Frame, key: int, other: int) -> np.ndarray:
    """Return the standard deviation of total(X) − total(other) for one key, s, shape (R,).

    Between two regions that are alike it is much smaller than that of either one's gain over a
    default far away: an error in the round trips shifts both totals together. NaN RTTs count as 0.
    """
    index, trips = frame.backend_index[key], frame.trips[key]
    rtts = np.nan_to_num(frame.backend_rtt[:, index])
    difference = rtts - rtts[other]
    edge = _rtt_variance(frame.edge_rtt)
    paths = ((trips * (RTT_ERROR + RELATIVE_ERROR * rtts)) ** 2).sum(axis=1)
    shared = ((difference @ frame.covariance[key]) * difference).sum(axis=1)
    return np.asarray(np.sqrt(shared + edge + edge[other] + paths + paths[other]))


def changed_rtts(old: Frame, new: Frame) -> np.ndarray | None:
    """Return which RTTs differ between two frames, for `rescore`; None when more than RTTs does."""
    same = (
        old.regions == new.regions
        and old.backends == new.backends
        and old.keys == new.keys
        and np.array_equal(old.compute, new.compute)
        and np.array_equal(old.trips, new.trips)
        and np.array_equal(old.covariance, new.covariance)
        and np.array_equal(old.backend_index, new.backend_index)
        and np.array_equal(old.bound, new.bound)
        and np.array_equal(old.default, new.default)
    )
    if not same:
        return None
    changed = _differs(old.backend_rtt, new.backend_rtt)
    changed |= old.backend_fresh != new.backend_fresh
    changed[:, -1] = _differs(old.edge_rtt, new.edge_rtt) | (old.edge_fresh != new.edge_fresh)
    return changed


def _differs(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.asarray((old != new) & ~(np.isnan(old) & np.isnan(new)))


def _fill_blocks(frame: Frame, rows: np.ndarray, columns: np.ndarray, out: Scores) -> None:
    step = BLOCK * max(1, len(frame.regions) // max(1, columns.size))
    for start in range(0, rows.size, step):
        part = rows[start : start + step]
        _fill(frame, part, columns, out, np.ix_(part, columns))


def _fill(frame: Frame, rows: np.ndarray, columns: np.ndarray, out: Scores, place: Any) -> None:
    """Compute the cells rows × columns and store them at `place` of every array of `out`."""
    trips, index = frame.trips[rows], frame.backend_index[rows]
    default = np.maximum(frame.default[rows], 0)
    # (k, d, c): RTT from each column's region to the key's backends; (k, d): from the default.
    rtts = frame.backend_rtt[columns].T[index]
    at_default = frame.backend_rtt[default[:, None], index]
    needed = trips > 0
    weighted = np.where(needed[:, :, None], rtts, 0.0)
    default_weighted = np.where(needed, at_default, 0.0)
    edge = frame.edge_rtt[columns]
    base = frame.compute[rows]
    total = edge[None, :] + base[:, None] + np.einsum("kd,kdr->kr", trips, weighted)
    default_total = frame.edge_rtt[default] + base + np.einsum("kd,kd->k", trips, default_weighted)
    out.total[place] = total
    out.gain[place] = default_total[:, None] - total
    difference = np.nan_to_num(at_default[:, :, None] - rtts)
    out.error[place] = np.sqrt(
        _trip_variance(frame.covariance[rows], difference)
        + _rtt_variance(edge)[None, :]
        + _rtt_variance(frame.edge_rtt[default])[:, None]
        + _backend_variance(trips[:, :, None], weighted)
        + _backend_variance(trips[:, :, None], default_weighted[:, :, None])
    )
    is_padding = index == frame.backend_rtt.shape[1] - 1
    extra = np.nan_to_num(edge[None, :] - frame.edge_rtt[default][:, None])
    saved = _reach(at_default, rtts, is_padding)
    with np.errstate(invalid="ignore"):
        # 0 x inf: nothing can be saved even of an unbounded time.
        saved = np.where(saved > 0, saved * frame.bound[rows, None], 0.0)
    out.ceiling[place] = saved - extra
    fresh = (frame.backend_fresh[columns].T[index] | ~needed[:, :, None]).all(axis=1)
    default_fresh = (frame.backend_fresh[default[:, None], index] | ~needed).all(axis=1)
    default_fresh &= frame.edge_fresh[default]
    out.fresh[place] = fresh & frame.edge_fresh[columns] & default_fresh[:, None]


def _trip_variance(covariance: np.ndarray, difference: np.ndarray) -> np.ndarray:
    if covariance.shape[1] == 0:
        return np.zeros((difference.shape[0], difference.shape[2]))
    return np.asarray(np.einsum("kdr,kdr->kr", np.matmul(covariance, difference), difference))


def _rtt_variance(edge_rtt: np.ndarray) -> np.ndarray:
    spread = np.where(edge_rtt > 0, RTT_ERROR + RELATIVE_ERROR * np.nan_to_num(edge_rtt), 0.0)
    return np.asarray(spread**2)


def _backend_variance(trips: np.ndarray, rtts: np.ndarray) -> np.ndarray:
    spread = trips * (RTT_ERROR + RELATIVE_ERROR * np.nan_to_num(rtts))
    return np.asarray(np.einsum("kdr,kdr->kr", spread, spread))


def _reach(at_default: np.ndarray, rtts: np.ndarray, is_padding: np.ndarray) -> np.ndarray:
    """Return the largest share of the service time that a region could save, shape (K, R)."""
    # max Σ n(r_default - r_X) subject to Σ n·r_default <= 1, n >= 0: a linear programme over a
    # simplex, whose optimum is at a vertex: all the time is spent on one backend.
    if rtts.shape[1] == 0:
        return np.zeros((rtts.shape[0], rtts.shape[2]))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1.0 - rtts / at_default[:, :, None]
    share = np.where((is_padding | (at_default <= 0))[:, :, None], 0.0, share)
    # An unknown RTT could be anything: the whole time could be saved.
    return np.asarray(np.clip(np.nan_to_num(share, nan=1.0), 0.0, 1.0).max(axis=1))
