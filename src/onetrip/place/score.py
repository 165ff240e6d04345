"""The score: predicted latency of every route in every region, and how sure the prediction is.

    score(X) = RTT(edge, X) + compute + Σ round_trips(d) · RTT(X, d)

Vectorised over keys × regions × backends, in blocks of keys that fit the processor's cache.
`gain` compares a region with the route's default; compute is the same in both and cancels, so its
uncertainty does not matter to a move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onetrip.place.frame import RTT_ERROR, RTT_RELATIVE_ERROR, Frame

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
    for start in range(0, shape[0], BLOCK):
        _score_block(frame, slice(start, start + BLOCK), out)
    return out


def _score_block(frame: Frame, rows: slice, out: Scores) -> None:
    trips = frame.trips[rows]
    index = frame.backend_index[rows]
    default = np.maximum(frame.default[rows], 0)
    # (k, d, R): RTT from every region to the key's backends.
    rtts = frame.backend_rtt.T[index]
    needed = trips > 0
    weighted = np.where(needed[:, :, None], rtts, 0.0)
    backend_time = np.einsum("kd,kdr->kr", trips, weighted)
    total = frame.edge_rtt[None, :] + frame.compute[rows, None] + backend_time
    each = np.arange(total.shape[0])
    out.total[rows] = total
    out.gain[rows] = total[each, default][:, None] - total
    at_default = rtts[each, :, default]
    difference = np.nan_to_num(at_default[:, :, None] - rtts)
    out.error[rows] = np.sqrt(
        _trip_variance(frame.covariance[rows], difference)
        + _rtt_variance(frame.edge_rtt, default)
        + _backend_variance(trips, weighted, each, default)
    )
    out.ceiling[rows] = _ceiling(frame, rows, at_default, rtts, default)
    known = frame.backend_fresh.T[index] | ~needed[:, :, None]
    usable = known.all(axis=1) & frame.edge_fresh[None, :]
    out.fresh[rows] = usable & usable[each, default][:, None]


def _trip_variance(covariance: np.ndarray, difference: np.ndarray) -> np.ndarray:
    if covariance.shape[1] == 0:
        return np.zeros((difference.shape[0], difference.shape[2]))
    return np.asarray(np.einsum("kdr,kdr->kr", np.matmul(covariance, difference), difference))


def _rtt_variance(edge_rtt: np.ndarray, default: np.ndarray) -> np.ndarray:
    spread = np.where(edge_rtt > 0, RTT_ERROR + RTT_RELATIVE_ERROR * np.nan_to_num(edge_rtt), 0.0)
    return np.asarray(spread[None, :] ** 2 + spread[default][:, None] ** 2)


def _backend_variance(
    trips: np.ndarray, rtts: np.ndarray, each: np.ndarray, default: np.ndarray
) -> np.ndarray:
    spread = trips[:, :, None] * (RTT_ERROR + RTT_RELATIVE_ERROR * np.nan_to_num(rtts))
    own = np.einsum("kdr,kdr->kr", spread, spread)
    return np.asarray(own + own[each, default][:, None])


def _ceiling(
    frame: Frame, rows: slice, at_default: np.ndarray, rtts: np.ndarray, default: np.ndarray
) -> np.ndarray:
    # max Σ n(r_default - r_X) subject to Σ n·r_default <= bound, n >= 0: a linear programme over
    # a simplex, whose optimum is at a vertex: all the time is spent on one backend.
    if rtts.shape[1] == 0:
        reach = np.zeros((rtts.shape[0], rtts.shape[2]))
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1.0 - rtts / at_default[:, :, None]
        padded = frame.backend_index[rows] == frame.backend_rtt.shape[1] - 1
        share = np.where(padded[:, :, None] | (at_default <= 0)[:, :, None], 0.0, share)
        # An unknown RTT could be anything: the whole time could be saved.
        reach = np.clip(np.nan_to_num(share, nan=1.0), 0.0, 1.0).max(axis=1)
    with np.errstate(invalid="ignore"):
        saved = np.where(reach > 0, reach * frame.bound[rows, None], 0.0)
    extra = np.nan_to_num(frame.edge_rtt[None, :] - frame.edge_rtt[default][:, None])
    return np.asarray(saved - extra)
