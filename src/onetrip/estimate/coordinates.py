"""Network coordinates: predict the RTT of pairs that nobody measured yet.

Vivaldi with height vectors (Dabek, Cox, Kaashoek, Morris: "Vivaldi: A Decentralized Network
Coordinate System", SIGCOMM 2004). A region is a point in a small Euclidean space plus a height,
its access link; a predicted RTT is the distance of the points plus both heights. Each step pulls
or pushes a region along its spring to one neighbour, by an amount weighted by both error
estimates, so a sure region hardly moves for an unsure one.

The paper's algorithm is distributed and runs for ever. This one is fitted in one place from a
partial matrix, every region stepping at once, so the result depends only on the matrix, the seed
and the start. The gain decays over the rounds: nothing else is learned after the last one.

Predictions are a stop-gap (triangle inequality violations are common on the Internet: 9 % of the
pairs of the 12-region test matrix, 77 % of the 236-city one), which is why every prediction
carries an error and `matrix` marks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onetrip.errors import ConfigError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_NEIGHBOURS = 4
"""Fewest measured neighbours for which a prediction is offered: a position in 3 dimensions has
that many unknowns with its height, so fewer would fit any answer."""

_MIN_HEIGHT = 1e-5
"""Least height, s. Source: serf coordinate/config.go, `HeightMin`: 10 µs."""

_MAX_ERROR = 1.5
"""Worst relative error of a region, also the initial one (serf: `VivaldiErrorMax`)."""

_ERROR_GAIN = 0.25
"""c_e of the paper, section 3.3."""

_POSITION_GAIN = 0.25
"""c_c of the paper, section 3.3, at the first round."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Fitted coordinates of R regions.

    Attributes:
        positions: shape (R, dimensions), s.
        heights: shape (R,), s.
        errors: mean relative error of a region's own pairs, shape (R,), 0 is perfect.
        neighbours: measured neighbours behind each region, shape (R,).
    """

    positions: Floats
    heights: Floats
    errors: Floats
    neighbours: npt.NDArray[np.int64]

    def predict(self) -> Floats:
        """Return the predicted RTTs, s, shape (R, R); NaN where either end knows too few pairs."""
        rtt = _distances(self.positions) + self.heights[:, None] + self.heights[None, :]
        np.fill_diagonal(rtt, 0.0)
        unknown = self.neighbours < MIN_NEIGHBOURS
        rtt[unknown, :] = np.nan
        rtt[:, unknown] = np.nan
        return rtt

    def relative_error(self) -> Floats:
        """Return the expected relative error of each prediction, shape (R, R)."""
        return np.asarray((self.errors[:, None] + self.errors[None, :]) / 2, dtype=np.float64)


def fit_coordinates(
    rtt: Floats,
    *,
    seed: int,
    dimensions: int = 3,
    rounds: int = 1000,
    start: Coordinates | None = None,
) -> Coordinates:
    """Fit coordinates to a partial matrix.

    Args:
        rtt: shape (R, R), s; NaN = not measured. The diagonal is ignored, and a pair measured in
            one direction counts for both.
        seed: of the initial positions and of the order of neighbours.
        rounds: steps of every region.
        start: coordinates of the same regions to go on from; fewer rounds then do.

    Raises:
        ConfigError: `rtt` is not square, holds a negative number, or `start` does not match.
    """
    known = _symmetric(rtt)
    size = known.shape[0]
    rng = np.random.default_rng(seed)
    fit = _Fit(known, rng, dimensions)
    if start is not None:
        fit.resume(start)
    for number in range(rounds if size > 1 else 0):
        fit.step(1.0 - number / rounds)
    return fit.result()


class _Fit:
    """The state of one fit: every array is indexed by region."""

    def __init__(self, rtt: Floats, rng: np.random.Generator, dimensions: int) -> None:
        size = rtt.shape[0]
        self._rtt = rtt
        self._rng = rng
        self._counts = np.sum(~np.isnan(rtt), axis=1)
        self._rows = np.flatnonzero(self._counts)
        # Neighbours of each region first, in one array, so that a random one is an index.
        self._order = np.argsort(np.isnan(rtt), axis=1, kind="stable")
        scale = float(np.nanmedian(rtt)) if self._rows.size else 1.0
        # At the origin all at once, no spring has a direction (the paper, section 2.4).
        self._positions = rng.normal(0.0, scale / 2, (size, dimensions))
        self._heights = np.full(size, _MIN_HEIGHT)
        self._errors = np.full(size, _MAX_ERROR)

    def resume(self, start: Coordinates) -> None:
        if start.positions.shape != self._positions.shape:
            raise ConfigError(
                f"start of shape {start.positions.shape} does not match {self._positions.shape}"
            )
        self._positions = start.positions.copy()
        self._heights = start.heights.copy()
        self._errors = start.errors.copy()

    def step(self, gain: float) -> None:
        """Move every region along its spring to one random neighbour."""
        i = self._rows
        j = self._order[i, self._rng.integers(0, self._counts[i])]
        rtt = np.maximum(self._rtt[i, j], 1e-6)
        away = self._positions[i] - self._positions[j]
        length = np.maximum(np.linalg.norm(away, axis=1), 1e-9)
        heights = self._heights[i] + self._heights[j]
        stretch = rtt - (length + heights)
        weight = self._errors[i] / (self._errors[i] + self._errors[j])
        self._learn_errors(i, np.abs(stretch) / rtt, weight)
        force = _POSITION_GAIN * gain * weight * stretch
        self._positions[i] += (force / length)[:, None] * away
        # The height takes its share of the force: the unit vector of [x, h] (section 5.4).
        self._heights[i] = np.maximum(
            self._heights[i] + force * heights / (length + heights), _MIN_HEIGHT
        )

    def _learn_errors(self, i: npt.NDArray[np.intp], error: Floats, weight: Floats) -> None:
        share = _ERROR_GAIN * weight
        mixed = share * error + (1.0 - share) * self._errors[i]
        self._errors[i] = np.clip(mixed, 1e-3, _MAX_ERROR)

    def result(self) -> Coordinates:
        predicted = _distances(self._positions) + self._heights[:, None] + self._heights[None, :]
        return Coordinates(
            positions=self._positions,
            heights=self._heights,
            errors=_mean_errors(self._rtt, predicted),
            neighbours=self._counts.astype(np.int64),
        )


def _symmetric(rtt: Floats) -> Floats:
    if rtt.ndim != 2 or rtt.shape[0] != rtt.shape[1]:
        raise ConfigError(f"rtt of shape {rtt.shape} is not square")
    if np.any(rtt < 0) or np.any(np.isinf(rtt)):
        raise ConfigError("rtt holds a negative or infinite number")
    known = np.where(np.isnan(rtt), rtt.T, (rtt + np.where(np.isnan(rtt.T), rtt, rtt.T)) / 2)
    known = np.asarray(known, dtype=np.float64)
    np.fill_diagonal(known, np.nan)
    return known


def _distances(positions: Floats) -> Floats:
    away = positions[:, None, :] - positions[None, :, :]
    return np.asarray(np.linalg.norm(away, axis=2), dtype=np.float64)


def _mean_errors(rtt: Floats, predicted: Floats) -> Floats:
    relative = np.abs(predicted - rtt) / np.maximum(rtt, 1e-6)
    counts = np.sum(~np.isnan(relative), axis=1)
    total = np.nansum(np.minimum(relative, _MAX_ERROR), axis=1)
    return np.where(counts > 0, total / np.maximum(counts, 1), _MAX_ERROR)
