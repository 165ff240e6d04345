"""Picks over the scores, for all keys at once: the best region, what is still possible, the order.

What the rules of `hysteresis` look at, taken out of the arrays in a few vector operations, so that
Python runs per route and not per route and region.
"""

from __future__ import annotations

import numpy as np

from onetrip.estimate.roundtrips import ONE_SIDED
from onetrip.place.frame import Frame
from onetrip.place.score import Scores, difference_errors


class Picks:
    """The picks of one run; K keys, R regions.

    Attributes:
        best: per key, index of the best usable region whose terms are fresh; -1 without one.
        safest: per key, index of the one among them that saves most at least; -1 without one.
        possible: per key, index of the region that could still save most, among those whose RTT
            from the edge was measured; -1 without one.
        reach: the most each region could save, s, shape (K, R); -inf where it is out.
        order: per key, region indices from the best score to the worst, unknown ones last.
    """

    def __init__(self, frame: Frame, scores: Scores) -> None:
        self.frame = frame
        self.scores = scores
        self._rows = np.arange(len(frame.keys))
        self._measured = ~np.isnan(frame.backend_rtt)
        known = frame.usable & ~np.isnan(scores.gain) & self._all_backends(self._measured)
        self._ready = known & scores.fresh
        self.best = _argmax(np.where(self._ready, scores.gain, -np.inf))
        with np.errstate(invalid="ignore"):
            margin = ONE_SIDED * scores.error
            self.safest = _argmax(np.where(self._ready, scores.gain - margin, -np.inf))
            self.reach = np.where(known, np.fmin(scores.ceiling, scores.gain + margin), -np.inf)
        # The default itself saves nothing; it is no candidate for exploring.
        self.reach[self._rows, np.maximum(frame.default, 0)] = -np.inf
        self.possible = _argmax(np.where(frame.edge_measured, self.reach, -np.inf))
        filled = np.where(np.isnan(scores.total), 1e6 + frame.edge_rtt[None, :], scores.total)
        self.order = np.argsort(np.nan_to_num(filled, nan=2e6), axis=1, kind="stable").tolist()

    def from_default(self, i: int, least_gain: float) -> int:
        """Return the region that key `i` should leave its default for, or -1.

        The best one; when that one is not sure to save `least_gain`, s, but another is, the other:
        a certain saving now, and traffic there tells more about the rest.
        """
        best, safest = self.best[i], self.safest[i]
        if best in (-1, safest):
            return best
        sure = self.scores.gain[i] - ONE_SIDED * self.scores.error[i]
        return safest if sure[best] <= least_gain < sure[safest] else best

    def from_placed(self, i: int, current: int, least_gain: float) -> tuple[int, float]:
        """Return the region that key `i` should leave `current` for, or -1, and an error, s.

        The error is the standard deviation of what is saved over `current`. Which region: as in
        `from_default`, with `current` in place of the default.
        """
        best = self.best[i]
        if best in (-1, current):
            return best, 0.0
        ahead = self.scores.gain[i] - self.scores.gain[i, current]
        if not ahead[best] > least_gain:
            # Nothing is sure to save that much: no other is ahead by more. Or nothing is known.
            return best, 0.0
        errors = difference_errors(self.frame, i, current)
        sure = np.where(self._ready[i], ahead - ONE_SIDED * errors, -np.inf)
        safest = int(np.argmax(sure))
        chosen = safest if sure[best] <= least_gain < sure[safest] else best
        return chosen, float(errors[chosen])

    def placed_gain(self, i: int, current: int | None) -> float:
        """Return what `current` saves key `i` over its default, s; 0 without one, NaN unknown."""
        if current is None:
            return 0.0
        # What is only estimated tells as little as what is not known: it must not end a placement.
        return float(self.scores.gain[i, current]) if self.frame.edge_measured[current] else np.nan

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
