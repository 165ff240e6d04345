"""Picks over the scores, for all keys at once: the best region, what is still possible, the order.

What the rules of `hysteresis` look at, taken out of the arrays in a few vector operations, so that
Python runs per route and not per route and region.
"""

from __future__ import annotations

import numpy as np

from onetrip.place.frame import Frame
from onetrip.place.hysteresis import ONE_SIDED
from onetrip.place.score import Scores


class Picks:
    """The picks of one run; K keys, R regions.

    Attributes:
        best: per key, index of the best usable region whose terms are fresh; -1 without one.
        possible: per key, index of the region that could still save most; -1 without one.
        reach: the most each region could save, s, shape (K, R); -inf where it is out.
        order: per key, region indices from the best score to the worst, unknown ones last.
    """

    def __init__(self, frame: Frame, scores: Scores) -> None:
        self.frame = frame
        self.scores = scores
        self._rows = np.arange(len(frame.keys))
        self._measured = ~np.isnan(frame.backend_rtt)
        known = frame.usable & ~np.isnan(scores.gain) & self._all_backends(self._measured)
        self.best = _argmax(np.where(known & scores.fresh, scores.gain, -np.inf))
        with np.errstate(invalid="ignore"):
            optimistic = scores.gain + ONE_SIDED * scores.error
            self.reach = np.where(known, np.fmin(scores.ceiling, optimistic), -np.inf)
        # The default itself saves nothing; it is no candidate for exploring.
        self.reach[self._rows, np.maximum(frame.default, 0)] = -np.inf
        self.possible = _argmax(self.reach)
        filled = np.where(np.isnan(scores.total), 1e6 + frame.edge_rtt[None, :], scores.total)
        self.order = np.argsort(np.nan_to_num(filled, nan=2e6), axis=1, kind="stable").tolist()

    def unknown(self, i: int) -> str:
        """Say which RTT keeps the costs of key `i` from being learned or compared, or ""."""
        frame, default = self.frame, int(self.frame.default[i])
        for column in frame.backend_index[i]:
            if column == len(frame.backends):
                continue
            pair = f"from {frame.regions[default]} to {frame.backends[column]}"
            if not self._measured[default, column]:
                return f"needs the RTT {pair}"
            if not frame.backend_fresh[default, column]:
                return f"needs a fresh RTT {pair}"
        return ""

    def _all_backends(self, mask: np.ndarray) -> np.ndarray:
        """Tell where `mask` (R, B + 1) holds for every backend of a key: shape (K, R)."""
        out = np.ones((len(self.frame.keys), len(self.frame.regions)), dtype=bool)
        for slot in range(self.frame.backend_index.shape[1]):
            out &= mask.T[self.frame.backend_index[:, slot]]
        return out


def _argmax(values: np.ndarray) -> list[int]:
    if values.size == 0:
        return [-1] * values.shape[0]
    picks = np.argmax(values, axis=1)
    found = values[np.arange(values.shape[0]), picks] > -np.inf
    return [int(p) if ok else -1 for p, ok in zip(picks, found, strict=True)]
