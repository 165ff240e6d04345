"""The RTTs of the whole cluster as arrays: what the scoring reads.

Every node measures its own row; the rows are gathered and put together here. An RTT is the same
from both ends up to the time it was taken, so a missing direction comes from the other one, and
only then from coordinates. Each array of times has masks of the same shape that say how far it
can be trusted. Pure: staleness was decided when the estimates were made.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from onetrip.estimate.coordinates import (
    MIN_NEIGHBOURS,
    Bools,
    Coordinates,
    Floats,
    fit_coordinates,
)
from onetrip.model.measure import EstimateState, RttEstimate, Target, TargetKind
from onetrip.model.topology import RegionId

Rows = Mapping[RegionId, Mapping[Target, RttEstimate]]
"""Per region: what its node measured."""

_WARM_ROUNDS = 60
"""Rounds of a fit that starts from the previous matrix (a cold one takes 1,000)."""

_SEED = 1
"""Any fixed number: equal rows must give an equal matrix on every node."""

MAX_ERROR = 0.5
"""Largest expected relative error of a prediction that is offered. Of the 236-city matrix with 16
measured peers a region, half of the predictions are within 10 % and nine in ten within 36 %."""

_MOVED, _MOVED_SHARE = 0.05, 0.2
"""Coordinates are fitted anew once this share of some region's cells differ by this ratio: a few
paths that shift say nothing of where a region is, and predictions that stay let scores stay."""


@dataclass(frozen=True, slots=True)
class RttMatrix:
    """RTTs between R regions and from R regions to D backends, s; NaN = unknown.

    Attributes:
        regions: the R rows, in order.
        backends: the D columns of the backend arrays, in order.
        rtt: shape (R, R); the diagonal is measured or 0.
        is_stale: shape (R, R); may keep a placement, never start a move. Every prediction is
            stale in this sense.
        is_failing: shape (R, R); the last probes in a row failed. `rtt` keeps its last value.
        is_predicted: shape (R, R); nobody measured the pair, coordinates did.
        error: shape (R, R); expected relative error of a prediction, 0 where measured.
        backend_rtt: shape (R, D).
        backend_is_stale: shape (R, D).
        backend_is_failing: shape (R, D).
        coordinates: of the fit behind the predictions, or None when none was needed.
        fitted: the RTTs that they were fitted to, shape (R, R).
        served_by: for each column that stands for another endpoint in each region (the nearest of
            a backend, the instance that takes a call), that endpoint; shape (R,).
    """

    regions: tuple[RegionId, ...]
    backends: tuple[str, ...]
    rtt: Floats
    is_stale: Bools
    is_failing: Bools
    is_predicted: Bools
    error: Floats
    backend_rtt: Floats
    backend_is_stale: Bools
    backend_is_failing: Bools
    coordinates: Coordinates | None = None
    fitted: Floats | None = None
    served_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def between(self, source: RegionId, target: RegionId) -> float:
        """Return the RTT of one pair, s; NaN when unknown.

        Raises:
            ValueError: a region that the matrix does not hold.
        """
        return float(self.rtt[self.regions.index(source), self.regions.index(target)])

    def to_backend(self, region: RegionId, backend: str) -> float:
        """Return the RTT from a region to a backend, s; NaN when unknown.

        Raises:
            ValueError: a region or a backend that the matrix does not hold.
        """
        row, column = self.regions.index(region), self.backends.index(backend)
        return float(self.backend_rtt[row, column])

    def with_columns(self, columns: Mapping[str, Column]) -> RttMatrix:
        """Return the matrix with more columns of the backend arrays, by name."""
        if not columns:
            return self
        added = columns.values()
        return replace(
            self,
            backends=(*self.backends, *columns),
            backend_rtt=np.column_stack([self.backend_rtt, *(c.rtt for c in added)]),
            backend_is_stale=np.column_stack([self.backend_is_stale, *(c.is_stale for c in added)]),
            backend_is_failing=np.column_stack(
                [self.backend_is_failing, *(c.is_failing for c in added)]
            ),
            served_by={**self.served_by, **{name: c.served_by for name, c in columns.items()}},
        )


class Column(NamedTuple):
    """RTTs, s, to what is another endpoint in each region; every shape is (R,)."""

    rtt: Floats
    is_stale: Bools
    is_failing: Bools
    served_by: tuple[str, ...]


class Cells(NamedTuple):
    """One array of times, s, with its masks: what was measured."""

    rtt: Floats
    is_stale: Bools
    is_failing: Bools


def build_matrix(
    rows: Rows,
    regions: Sequence[RegionId],
    backends: Sequence[str],
    previous: RttMatrix | None = None,
    doubting: Collection[RegionId] = (),
) -> RttMatrix:
    """Put the rows together.

    Args:
        rows: what each node measured; a region without a node has no row.
        regions: rows of the result; estimates of any other region are left out.
        backends: columns of the backend arrays.
        previous: the matrix before, whose coordinates a new fit starts from.
        doubting: regions that start moves by what they measured themselves: what only the other
            end told is stale in their rows.
    """
    peers = _fill(rows, regions, [Target(TargetKind.PEER, region) for region in regions])
    data = _fill(rows, regions, [Target(TargetKind.BACKEND, name) for name in backends])
    return complete(_diagonal(peers), data, tuple(regions), tuple(backends), previous, doubting)


def complete(
    peers: Cells,
    data: Cells,
    regions: tuple[RegionId, ...],
    backends: tuple[str, ...],
    previous: RttMatrix | None = None,
    doubting: Collection[RegionId] = (),
) -> RttMatrix:
    """Fill what nobody measured: from the other end, and then from coordinates.

    Args:
        peers: between the regions, shape (R, R), NaN where not measured.
        data: to the backends, shape (R, D); nothing is filled in there.
        previous, doubting: see `build_matrix`.
    """
    measured = _mirror(peers, [regions.index(region) for region in doubting])
    missing = np.isnan(measured.rtt)
    coordinates, fitted = _fit(measured.rtt, missing, regions, previous)
    rtt, error = measured.rtt, np.zeros(measured.rtt.shape)
    if coordinates is not None:
        error = coordinates.relative_error()
        predicted = np.where(error <= MAX_ERROR, coordinates.predict(), np.nan)
        rtt = np.where(missing, predicted, rtt)
    is_predicted = missing & ~np.isnan(rtt)
    return RttMatrix(
        regions=regions,
        backends=backends,
        rtt=rtt,
        is_stale=measured.is_stale | is_predicted,
        is_failing=measured.is_failing,
        is_predicted=is_predicted,
        error=np.where(is_predicted, error, 0.0),
        backend_rtt=data.rtt,
        backend_is_stale=data.is_stale,
        backend_is_failing=data.is_failing,
        coordinates=coordinates,
        fitted=fitted,
    )


def _fill(rows: Rows, regions: Sequence[RegionId], targets: Sequence[Target]) -> Cells:
    shape = (len(regions), len(targets))
    cells = Cells(np.full(shape, math.nan), np.zeros(shape, bool), np.zeros(shape, bool))
    columns = {target: column for column, target in enumerate(targets)}
    for row, region in enumerate(regions):
        for target, estimate in rows.get(region, {}).items():
            column = columns.get(target)
            if column is None:
                continue
            cells.rtt[row, column] = estimate.rtt
            cells.is_stale[row, column] = estimate.state is EstimateState.STALE
            cells.is_failing[row, column] = estimate.state is EstimateState.FAILING
    return cells


def _diagonal(cells: Cells) -> Cells:
    for i in range(cells.rtt.shape[0]):
        if math.isnan(cells.rtt[i, i]):
            cells.rtt[i, i] = 0.0
            cells.is_stale[i, i] = cells.is_failing[i, i] = False
    return cells


def _mirror(cells: Cells, doubting: Sequence[int]) -> Cells:
    # A time that is missing, or stale here and fresh there, is taken from the other end. A
    # failing direction keeps its mark: it must not look healthy because the other one is.
    missing = np.isnan(cells.rtt)
    fresher = cells.is_stale & ~cells.is_stale.T & ~cells.is_failing.T & ~np.isnan(cells.rtt.T)
    take = missing | fresher
    is_stale = np.where(take, cells.is_stale.T, cells.is_stale)
    is_stale[doubting] |= take[doubting]
    return Cells(
        np.where(take, cells.rtt.T, cells.rtt),
        is_stale,
        cells.is_failing | (missing & cells.is_failing.T),
    )


def _fit(
    rtt: Floats, missing: Bools, regions: tuple[RegionId, ...], previous: RttMatrix | None
) -> tuple[Coordinates | None, Floats | None]:
    knows_enough = np.sum(~missing, axis=1) > MIN_NEIGHBOURS  # the diagonal is never missing
    if not (missing & knows_enough[:, None] & knows_enough[None, :]).any():
        return None, None
    start = previous.coordinates if previous and previous.regions == regions else None
    if previous is None or start is None or previous.fitted is None:
        return fit_coordinates(rtt, seed=_SEED), rtt
    if not _has_moved(previous.fitted, rtt):
        return start, previous.fitted
    return fit_coordinates(rtt, seed=_SEED, rounds=_WARM_ROUNDS, start=start), rtt


def _has_moved(fitted: Floats, rtt: Floats) -> bool:
    # NaN compares false on either side: a cell that came or went differs, too.
    same = (np.abs(rtt - fitted) <= _MOVED * fitted) | (np.isnan(rtt) & np.isnan(fitted))
    known = np.sum(~np.isnan(rtt), axis=1)
    return bool(np.any(np.sum(~same, axis=1) > _MOVED_SHARE * known))
